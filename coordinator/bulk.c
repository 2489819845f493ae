#include "coordinator/bulk.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#define HASHES_A_MESSAGE 8192       /* some 350 KB, if all are known */
#define READS_A_MESSAGE  8          /* cells read for hashes before it leaves */
#define SHARE            4          /* of ready_max, the part of one worker */
#define DEDUPE_WORK      (1u << 20) /* comparisons */
#define OUT_BYTES        512        /* of a message, besides its content */

/* Part of a CELLS_WANTED that has not been answered: ids [at, n). */
struct ask {
    struct ask *next;
    bool manifest_only, other_model;
    uint8_t model_id[KEY_BYTES];
    uint32_t at, n;
    struct wire_cell_id ids[];
};

struct bulk_worker {
    uint8_t key[KEY_BYTES];
    bool gone;   /* freed with its last read and its last message taken */
    bool passed; /* over by bulk_take */
    bool slow;   /* its socket was full, and has taken nothing since */
    struct ask *first, **last;
    uint64_t n_ids, n_cells;            /* in asks; of cells */
    struct bulk_out *ready, **ready_at; /* and its end */
    uint32_t n_ready;
    size_t held_bytes; /* ready, taken, and being read */
    uint32_t n_busy;   /* being read, and taken */
    struct wire_cell_id reading[BULK_THREADS_MAX];
    uint32_t n_reading;
};

struct bulk {
    struct bulk_options o;
    pthread_t threads[BULK_THREADS_MAX];
    uint32_t n_threads;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    bool stop;
    struct bulk_worker *workers[LIMIT_NODES];
    uint32_t n_workers, load_turn, take_turn;
    size_t held_bytes;
    struct bulk_counts counts;
};

/* What a loader does next, chosen under the lock. */
struct work {
    struct bulk_worker *worker;
    struct ask *ask; /* of hashes: off the queue meanwhile */
    struct wire_cell_id id;
    bool other_model;
    uint8_t model_id[KEY_BYTES];
    size_t reserved;
};

/* ------------------------------------------------- lists (lock held) */

static struct bulk_worker *find_worker(struct bulk *b,
                                       const uint8_t key[KEY_BYTES])
{
    for (uint32_t i = 0; i < b->n_workers; i++) {
        struct bulk_worker *w = b->workers[i];
        if (memcmp(w->key, key, KEY_BYTES) == 0) return w;
    }
    return NULL;
}

static struct bulk_worker *
new_worker(struct bulk *b, const uint8_t key[KEY_BYTES], struct error *err)
{
    if (b->n_workers == LIMIT_NODES) {
        error_set(err, ST_FULL, "%d workers fetch the model already",
                  LIMIT_NODES);
        return NULL;
    }
    struct bulk_worker *w = mem_zalloc(sizeof *w);
    if (!w) {
        error_set(err, ST_NO_MEMORY, "no memory to serve another worker");
        return NULL;
    }
    memcpy(w->key, key, KEY_BYTES);
    w->last = &w->first;
    w->ready_at = &w->ready;
    b->workers[b->n_workers++] = w;
    return w;
}

static void push_ask(struct bulk *b, struct bulk_worker *w, struct ask *a,
                     bool front)
{
    a->next = front ? w->first : NULL;
    if (front)
        w->first = a;
    else
        *w->last = a;
    if (!a->next) w->last = &a->next;
    w->n_ids += a->n - a->at;
    w->n_cells += a->manifest_only ? 0 : a->n - a->at;
    b->counts.queued += a->n - a->at;
}

static struct ask *pop_ask(struct bulk *b, struct bulk_worker *w)
{
    struct ask *a = w->first;
    w->first = a->next;
    if (!w->first) w->last = &w->first;
    w->n_ids -= a->n - a->at;
    w->n_cells -= a->manifest_only ? 0 : a->n - a->at;
    b->counts.queued -= a->n - a->at;
    return a;
}

static size_t bytes_of(const struct bulk_out *o)
{
    return OUT_BYTES + o->header.len + o->tensor.len;
}

static void hold(struct bulk *b, struct bulk_worker *w, size_t bytes)
{
    w->held_bytes += bytes;
    b->held_bytes += bytes;
}

static void unhold(struct bulk *b, struct bulk_worker *w, size_t bytes)
{
    w->held_bytes -= bytes;
    b->held_bytes -= bytes;
}

static void push_ready(struct bulk_worker *w, struct bulk_out *o, bool front)
{
    o->next = front ? w->ready : NULL;
    if (front)
        w->ready = o;
    else
        *w->ready_at = o;
    if (!o->next) w->ready_at = &o->next;
    w->n_ready++;
}

static struct bulk_out *pop_ready(struct bulk_worker *w)
{
    struct bulk_out *o = w->ready;
    w->ready = o->next;
    if (!w->ready) w->ready_at = &w->ready;
    w->n_ready--;
    return o;
}

static void out_free(struct bulk_out *o)
{
    if (!o) return;
    buf_fini(&o->header);
    buf_fini(&o->tensor);
    mem_free(o);
}

static void drop_all(struct bulk *b, struct bulk_worker *w)
{
    while (w->first) mem_free(pop_ask(b, w));
    while (w->ready) {
        struct bulk_out *o = pop_ready(w);
        unhold(b, w, bytes_of(o));
        out_free(o);
    }
}

/* Also called for one that is not in the table any more. */
static void end_busy(struct bulk_worker *w)
{
    w->n_busy--;
    if (w->gone && w->n_busy == 0) mem_free(w);
}

/* ----------------------------------------------------------- choosing */

/* A cell that waits, back to the queue: its worker is slow, and another one
 * needs the room.  What cannot be queued the worker asks for again itself. */
static void give_back(struct bulk *b, struct bulk_worker *w, struct bulk_out *o)
{
    struct ask *a = mem_zalloc(sizeof *a + sizeof a->ids[0]);
    if (a) {
        memcpy(a->model_id, b->o.model_id, KEY_BYTES);
        a->n = 1;
        a->ids[0] = o->id;
        push_ask(b, w, a, true);
    }
    b->counts.reread++;
    unhold(b, w, bytes_of(o));
    out_free(o);
}

/* Room at the cost of slow workers; false: none. */
static bool reclaim(struct bulk *b)
{
    for (uint32_t i = 0; i < b->n_workers; i++) {
        struct bulk_worker *w = b->workers[i];
        struct bulk_out **at = &w->ready, **found = NULL;
        if (!w->slow) continue;
        for (; *at; at = &(*at)->next) {
            if ((*at)->is_cell) found = at;
        }
        if (!found) continue;
        struct bulk_out *o = *found;
        *found = o->next;
        if (!o->next) w->ready_at = found;
        w->n_ready--;
        give_back(b, w, o);
        /* it gets its turn again, if need be with bulk_retry */
        if (!w->ready && !w->passed) w->slow = false;
        return true;
    }
    return false;
}

static bool may_load(struct bulk *b, const struct bulk_worker *w)
{
    if (!w->first || w->slow) return false;
    if (w->held_bytes == 0) return true;
    return w->held_bytes + CELL_BYTES <= b->o.ready_max / SHARE;
}

static void start_reading(struct bulk_worker *w, struct wire_cell_id id)
{
    w->reading[w->n_reading++] = id;
}

static void end_reading(struct bulk_worker *w, struct wire_cell_id id)
{
    for (uint32_t i = 0; i < w->n_reading; i++) {
        if (w->reading[i].tensor != id.tensor || w->reading[i].cell != id.cell)
            continue;
        w->reading[i] = w->reading[--w->n_reading];
        return;
    }
}

static void begin_work(struct bulk *b, struct bulk_worker *w, struct work *out)
{
    struct ask *a = w->first;
    *out = (struct work){.worker = w, .id = a->ids[a->at]};
    out->reserved = CELL_BYTES;
    w->n_busy++;
    hold(b, w, out->reserved);
    if (a->manifest_only && !a->other_model) {
        out->ask = pop_ask(b, w);
        return;
    }
    out->other_model = a->other_model;
    memcpy(out->model_id, a->model_id, KEY_BYTES);
    start_reading(w, out->id);
    a->at++;
    w->n_ids--;
    w->n_cells -= !a->manifest_only;
    b->counts.queued--;
    if (a->at == a->n) mem_free(pop_ask(b, w));
}

static bool choose(struct bulk *b, struct work *out)
{
    for (uint32_t i = 0; i < b->n_workers; i++) {
        const uint32_t at = (b->load_turn + i) % b->n_workers;
        struct bulk_worker *w = b->workers[at];
        if (!may_load(b, w)) continue;
        while (b->held_bytes > 0 &&
               b->held_bytes + CELL_BYTES > b->o.ready_max) {
            if (!reclaim(b)) return false;
        }
        b->load_turn = at + 1;
        begin_work(b, w, out);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------- loading */

static struct bulk_out *new_out(const struct work *job)
{
    struct bulk_out *o = mem_zalloc(sizeof *o);
    if (!o) return NULL;
    memcpy(o->key, job->worker->key, KEY_BYTES);
    o->worker = job->worker;
    buf_init(&o->header, LIMIT_HEADER_BYTES);
    buf_init(&o->tensor, CELL_BYTES_MAX);
    return o;
}

static struct bulk_out *finish(struct bulk_out *o, const struct wire_message *m)
{
    if (wire_write(&o->header, m, NULL) == ST_OK) return o;
    out_free(o);
    return NULL;
}

/* status not ST_OK: without reading. NULL: no memory even for that. */
static struct bulk_out *load_cell(struct bulk *b, const struct work *job,
                                  enum status status)
{
    struct bulk_out *o = new_out(job);
    uint8_t hash[HASH_BYTES];
    if (!o) return NULL;
    const struct cell_id id = {job->id.tensor, job->id.cell};
    if (status == ST_OK) {
        status = manifest_read_cell(b->o.manifest, id, &o->tensor, hash, NULL);
    }
    o->id = job->id;
    o->is_cell = status == ST_OK;
    struct wire_message m = {.kind = WIRE_CELL};
    memcpy(m.cell.model_id, job->model_id, KEY_BYTES);
    m.cell.id = job->id;
    m.cell.status = (uint32_t)status;
    if (status != ST_OK) buf_fini(&o->tensor);
    return finish(o, &m);
}

/* Hashes of the ask's next cells, few enough that an answer comes soon; moves
 * it on. A cell without a hash ends the message, or is refused in place of
 * it. */
static struct bulk_out *load_hashes(struct bulk *b, struct work *job)
{
    struct ask *a = job->ask;
    struct wire_message m = {.kind = WIRE_MANIFEST};
    uint32_t max = a->n - a->at, n_read = 0;
    if (max > HASHES_A_MESSAGE) max = HASHES_A_MESSAGE;
    struct bulk_out *o = new_out(job);
    memcpy(m.cells.model_id, a->model_id, KEY_BYTES);
    if (o) m.cells.hashes = mem_alloc((size_t)max * HASH_BYTES);
    enum status st = m.cells.hashes ? ST_OK : ST_NO_MEMORY;
    m.cells.ids = a->ids + a->at;
    while (st == ST_OK && m.cells.n < max && n_read < READS_A_MESSAGE) {
        const struct wire_cell_id at = m.cells.ids[m.cells.n];
        const struct cell_id id = {at.tensor, at.cell};
        uint8_t *hash = m.cells.hashes + (size_t)m.cells.n * HASH_BYTES;
        if (!manifest_known(b->o.manifest, id, hash)) {
            n_read++;
            st = manifest_hash(b->o.manifest, id, hash, NULL);
        }
        m.cells.n += st == ST_OK;
    }
    if (m.cells.n > 0) {
        a->at += m.cells.n;
        o->n_hashes = m.cells.n;
        o = finish(o, &m);
    } else {
        out_free(o);
        job->id = a->ids[a->at++];
        memcpy(job->model_id, a->model_id, KEY_BYTES);
        o = load_cell(b, job, st);
    }
    mem_free(m.cells.hashes);
    return o;
}

/* Lock held; the result belongs to the loop from here on. */
static void end_work(struct bulk *b, struct work *job, struct bulk_out *o)
{
    struct bulk_worker *w = job->worker;
    unhold(b, w, job->reserved);
    if (!job->ask) end_reading(w, job->id);
    if (job->ask && job->ask->at < job->ask->n && !w->gone) {
        push_ask(b, w, job->ask, true);
    } else {
        mem_free(job->ask);
    }
    if (o && !w->gone) {
        hold(b, w, bytes_of(o));
        push_ready(w, o, false);
    } else {
        out_free(o);
    }
    end_busy(w);
}

static void *loader_main(void *arg)
{
    struct bulk *b = arg;
    struct work job;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!choose(b, &job)) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        pthread_mutex_unlock(&b->lock);
        struct bulk_out *o =
            job.ask
                ? load_hashes(b, &job)
                : load_cell(b, &job, job.other_model ? ST_NOT_FOUND : ST_OK);
        pthread_mutex_lock(&b->lock);
        end_work(b, &job, o);
        /* what it reserved may be another thread's now */
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
        b->o.notify(b->o.arg);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* ---------------------------------------------------------------- life */

enum status bulk_create(struct bulk **out, const struct bulk_options *o,
                        struct error *err)
{
    struct bulk *b = mem_zalloc(sizeof *b);
    if (!b) return error_set(err, ST_NO_MEMORY, "loader threads");
    b->o = *o;
    if (b->o.ready_max == 0) b->o.ready_max = BULK_READY_BYTES;
    if (b->o.n_threads == 0) b->o.n_threads = BULK_THREADS;
    if (b->o.n_threads > BULK_THREADS_MAX) b->o.n_threads = BULK_THREADS_MAX;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    for (uint32_t i = 0; i < b->o.n_threads; i++) {
        if (pthread_create(&b->threads[i], NULL, loader_main, b) != 0) break;
        b->n_threads++;
    }
    if (b->n_threads == 0) {
        bulk_free(b);
        return error_set(err, ST_NO_MEMORY, "the system gives no thread");
    }
    *out = b;
    return ST_OK;
}

void bulk_free(struct bulk *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    for (uint32_t i = 0; i < b->n_threads; i++) {
        pthread_join(b->threads[i], NULL);
    }
    for (uint32_t i = 0; i < b->n_workers; i++) {
        drop_all(b, b->workers[i]);
        mem_free(b->workers[i]);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
}

/* ---------------------------------------------------------------- loop */

static bool same_id(struct wire_cell_id x, struct wire_cell_id y)
{
    return x.tensor == y.tensor && x.cell == y.cell;
}

/* Does this cell, or its hash, wait for the worker already? A hash that is
 * being computed just now is not seen, and costs one answer too many. */
static bool is_queued(const struct bulk_worker *w, struct wire_cell_id id,
                      bool manifest_only)
{
    for (const struct ask *a = w->first; a; a = a->next) {
        if (a->manifest_only != manifest_only || a->other_model) continue;
        for (uint32_t i = a->at; i < a->n; i++) {
            if (same_id(a->ids[i], id)) return true;
        }
    }
    if (manifest_only) return false;
    for (uint32_t i = 0; i < w->n_reading; i++) {
        if (same_id(w->reading[i], id)) return true;
    }
    for (const struct bulk_out *o = w->ready; o; o = o->next) {
        if (o->is_cell && same_id(o->id, id)) return true;
    }
    return false;
}

/* The ids that are not queued yet; NULL: no memory. Lock held. */
static struct ask *make_ask(const struct bulk *b, const struct bulk_worker *w,
                            const struct wire_cells *c)
{
    const bool other = memcmp(c->model_id, b->o.model_id, KEY_BYTES) != 0;
    const uint32_t n = other && c->n > 0 ? 1 : c->n;
    struct ask *a = mem_zalloc(sizeof *a + (size_t)n * sizeof a->ids[0]);
    if (!a) return NULL;
    /* asking again is rare and short; the comparisons of a list of all cells
     * would hold up the loop */
    const bool look = !other && (w->n_ids + w->n_ready + 64) * n <= DEDUPE_WORK;
    a->manifest_only = c->manifest_only;
    a->other_model = other;
    memcpy(a->model_id, c->model_id, KEY_BYTES);
    for (uint32_t i = 0; i < n; i++) {
        if (look && is_queued(w, c->ids[i], c->manifest_only)) continue;
        a->ids[a->n++] = c->ids[i];
    }
    return a;
}

enum status bulk_wanted(struct bulk *b, const uint8_t key[KEY_BYTES],
                        const struct wire_cells *c, struct error *err)
{
    enum status st = ST_OK;
    pthread_mutex_lock(&b->lock);
    struct bulk_worker *w = find_worker(b, key);
    if (!w) {
        struct error why = {0};
        w = new_worker(b, key, &why);
        if (!w) st = error_set(err, why.status, "%s", why.text);
    }
    struct ask *a = w ? make_ask(b, w, c) : NULL;
    if (w && !a) {
        st = error_set(err, ST_NO_MEMORY, "no memory to queue %u cells", c->n);
    } else if (a && a->n > 0 &&
               (w->n_ids + a->n > BULK_IDS_QUEUED ||
                (!a->manifest_only && w->n_cells + a->n > BULK_CELLS_QUEUED))) {
        st = error_set(err, ST_TOO_LARGE,
                       "a worker asks for %u more cells while %" PRIu64
                       " wait, the limit is %u",
                       a->n, w->n_ids,
                       a->manifest_only ? BULK_IDS_QUEUED : BULK_CELLS_QUEUED);
    }
    if (st == ST_OK && a && a->n > 0) {
        push_ask(b, w, a, false);
        pthread_cond_broadcast(&b->changed);
    } else {
        mem_free(a);
    }
    pthread_mutex_unlock(&b->lock);
    return st;
}

struct bulk_out *bulk_take(struct bulk *b)
{
    struct bulk_out *o = NULL;
    pthread_mutex_lock(&b->lock);
    for (uint32_t i = 0; i < b->n_workers && !o; i++) {
        const uint32_t at = (b->take_turn + i) % b->n_workers;
        struct bulk_worker *w = b->workers[at];
        if (!w->ready || w->passed) continue;
        b->take_turn = at + 1;
        o = pop_ready(w);
        w->n_busy++; /* and its bytes are still held */
    }
    pthread_mutex_unlock(&b->lock);
    return o;
}

static void end_taken(struct bulk *b, struct bulk_out *o, bool sent)
{
    struct bulk_worker *w = o->worker;
    pthread_mutex_lock(&b->lock);
    if (sent) {
        b->counts.cells += o->is_cell;
        b->counts.cell_bytes += o->tensor.len;
        b->counts.hashes += o->n_hashes;
        b->counts.refused += !o->is_cell && o->n_hashes == 0;
        w->slow = false;
    }
    unhold(b, w, bytes_of(o));
    end_busy(w);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    out_free(o);
}

void bulk_sent(struct bulk *b, struct bulk_out *o)
{
    end_taken(b, o, true);
}

void bulk_drop(struct bulk *b, struct bulk_out *o)
{
    end_taken(b, o, false);
}

void bulk_untake(struct bulk *b, struct bulk_out *o)
{
    struct bulk_worker *w = o->worker;
    pthread_mutex_lock(&b->lock);
    if (w->gone) {
        unhold(b, w, bytes_of(o));
        out_free(o);
    } else {
        push_ready(w, o, true);
        w->slow = w->passed = true;
    }
    end_busy(w);
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

bool bulk_retry(struct bulk *b)
{
    bool any = false;
    pthread_mutex_lock(&b->lock);
    for (uint32_t i = 0; i < b->n_workers; i++) {
        struct bulk_worker *w = b->workers[i];
        any = any || (w->passed && (w->ready || w->first));
        w->passed = false;
        if (!w->ready) w->slow = false;
    }
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return any;
}

void bulk_forget(struct bulk *b, const uint8_t key[KEY_BYTES])
{
    pthread_mutex_lock(&b->lock);
    struct bulk_worker *w = find_worker(b, key);
    if (w) {
        uint32_t i = 0;
        while (b->workers[i] != w) i++;
        b->workers[i] = b->workers[--b->n_workers];
        drop_all(b, w);
        w->gone = true;
        if (w->n_busy == 0) mem_free(w);
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
}

struct bulk_counts bulk_counts(struct bulk *b)
{
    pthread_mutex_lock(&b->lock);
    struct bulk_counts c = b->counts;
    c.ready_bytes = b->held_bytes;
    pthread_mutex_unlock(&b->lock);
    return c;
}
