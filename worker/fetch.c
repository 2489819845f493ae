#include "worker/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "proto/hash.h"
#include "worker/assign.h"

#define MS_NS        UINT64_C(1000000)
#define ASK_AGAIN_NS (5000 * MS_NS)
#define HASH_BATCH   64  /* cells a message; the coordinator reads each */
#define HASHES_AHEAD 256 /* of the readers */
#define HELD_MAX     256 /* cells in memory, however small */
#define WAITING_MAX  512 /* readers */
#define READ_AHEAD   64  /* cells that are looked at for asking */

/*  UNKNOWN -> HASH_ASKED -> IDLE -> ASKED -> ARRIVED -> CHECKING -> HERE
 *                            |  ^------------ wrong ------'  |        |
 *                            '----- looking on the disk -----'  <- evicted */
enum cell_state {
    CELL_UNKNOWN,
    CELL_HASH_ASKED,
    CELL_IDLE,
    CELL_ASKED,
    CELL_ARRIVED,
    CELL_CHECKING,
    CELL_HERE
};

struct cell {
    struct cell_id id;
    uint32_t n;
    enum cell_state state;
    bool absent;  /* from the cache */
    bool ahead;   /* counted as in flight or unread */
    bool counted; /* in the progress */
    uint8_t n_wrong;
    uint32_t n_readers; /* copying, or keeping, just now */
    uint64_t asked_ns, used;
    uint8_t hash[HASH_BYTES];
    uint8_t *data;
};

struct fetch {
    struct fetch_options o;
    char from[LIMIT_TEXT + 1];
    uint8_t model_id[KEY_BYTES];
    atomic_uint n_held;
    struct gguf *gguf;
    struct cell_source source;
    uint64_t total_bytes;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct cell *cells; /* in loading order */
    uint32_t *by_id;    /* [n] indices, ascending by id */
    uint32_t n;
    uint32_t cursor;    /* the farthest that was read, + 1 */
    uint32_t hash_next; /* the first whose hash nobody asked for */
    uint32_t n_hash_asked;
    uint32_t n_ahead;
    size_t ahead_bytes, memory_bytes;
    uint32_t in_memory[HELD_MAX + FETCH_CREDITS + WAITING_MAX];
    uint32_t n_in_memory;
    uint32_t waiting[WAITING_MAX], n_waiting;
    uint64_t uses, arrived_ns, done_bytes;
    enum status status; /* once it is not ST_OK, it is over */
    struct error error;
};

/* ------------------------------------------------------------ create */

static uint64_t id_key(struct cell_id id)
{
    return (uint64_t)id.tensor << 32 | id.cell;
}

static int by_id(const void *a, const void *b, void *arg)
{
    const struct cell *cells = arg;
    const uint64_t x = id_key(cells[*(const uint32_t *)a].id);
    const uint64_t y = id_key(cells[*(const uint32_t *)b].id);
    return x < y ? -1 : x > y;
}

static struct cell *find(struct fetch *f, struct cell_id id)
{
    uint32_t low = 0, high = f->n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        struct cell *c = &f->cells[f->by_id[middle]];
        if (id_key(c->id) == id_key(id)) return c;
        if (id_key(c->id) < id_key(id))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static enum status no_file(void *arg, uint32_t i, uint64_t from, void *dst,
                           size_t n, struct error *err)
{
    (void)arg, (void)i, (void)from, (void)dst, (void)n;
    return error_set(err, ST_INVALID, "only the header is here");
}

static enum status list_cells(struct fetch *f, const struct wire_assign *a,
                              struct error *err)
{
    struct model model = {0};
    struct shard_spec spec = {0};
    struct cell_list list = {0};
    enum status st = gguf_open_header(
        &f->gguf, a->model_header, a->model_header_bytes, no_file, NULL, err);
    if (st != ST_OK) return st;
    st = model_describe(&model, f->gguf, err);
    if (st == ST_OK) st = assign_spec(&spec, a, &model, err);
    if (st == ST_OK) st = cell_list(&list, &model, &spec, err);
    if (st != ST_OK) goto done;
    f->cells = mem_zalloc_array(list.n, sizeof *f->cells);
    f->by_id = mem_zalloc_array(list.n, sizeof *f->by_id);
    if (!f->cells || !f->by_id) {
        st = error_set(err, ST_NO_MEMORY, "list of %zu cells", list.n);
        goto done;
    }
    f->n = (uint32_t)list.n;
    f->total_bytes = list.bytes;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct gguf_tensor *t = gguf_tensor(f->gguf, list.ids[i].tensor);
        f->cells[i].id = list.ids[i];
        f->cells[i].n = (uint32_t)cell_range(t, list.ids[i].cell).n;
        f->by_id[i] = i;
    }
    qsort_r(f->by_id, f->n, sizeof *f->by_id, by_id, f->cells);
done:
    mem_free(list.ids);
    mem_free(spec.layers);
    model_fini(&model);
    return st;
}

static cell_fetch_fn fetch_cell;

static void fetch_free(struct fetch *f)
{
    for (uint32_t i = 0; i < f->n; i++) mem_free(f->cells[i].data);
    mem_free(f->cells);
    mem_free(f->by_id);
    gguf_close(f->gguf);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

enum status fetch_create(struct fetch **out, const struct wire_assign *a,
                         const struct fetch_options *o, struct error *err)
{
    struct fetch *f = mem_zalloc(sizeof *f);
    if (!f) return error_set(err, ST_NO_MEMORY, "fetching");
    f->o = *o;
    if (f->o.credits == 0 || f->o.credits > FETCH_CREDITS) {
        f->o.credits = FETCH_CREDITS;
    }
    if (f->o.memory_max == 0) f->o.memory_max = FETCH_MEMORY;
    if (f->o.deadline_ms == 0) f->o.deadline_ms = FETCH_DEADLINE_MS;
    snprintf(f->from, sizeof f->from, "%s", o->from);
    memcpy(f->model_id, a->model_id, sizeof f->model_id);
    atomic_init(&f->n_held, 1);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, &attr);
    pthread_condattr_destroy(&attr);
    const enum status st = list_cells(f, a, err);
    if (st != ST_OK) {
        fetch_free(f);
        return st;
    }
    f->source = (struct cell_source){f->gguf, fetch_cell, f};
    f->arrived_ns = clock_now_ns();
    *out = f;
    return ST_OK;
}

void fetch_hold(struct fetch *f)
{
    atomic_fetch_add(&f->n_held, 1);
}

void fetch_release(struct fetch *f)
{
    if (f && atomic_fetch_sub(&f->n_held, 1) == 1) fetch_free(f);
}

/* ------------------------------------------------ memory (lock held) */

static void stop_all(struct fetch *f, const struct error *err)
{
    if (f->status == ST_OK) {
        f->status = err->status;
        f->error = *err;
    }
    pthread_cond_broadcast(&f->changed);
}

static void not_ahead(struct fetch *f, struct cell *c)
{
    if (!c->ahead) return;
    c->ahead = false;
    f->n_ahead--;
    f->ahead_bytes -= c->n;
}

static void drop_data(struct fetch *f, struct cell *c)
{
    const uint32_t i = (uint32_t)(c - f->cells);
    uint32_t at = 0;
    while (at < f->n_in_memory && f->in_memory[at] != i) at++;
    if (at < f->n_in_memory) f->in_memory[at] = f->in_memory[--f->n_in_memory];
    if (c->data) f->memory_bytes -= c->n;
    mem_free(c->data);
    c->data = NULL;
    c->state = CELL_IDLE;
    not_ahead(f, c);
}

/* Of those that were read, the ones longest ago go: until what is left,
 * besides what is ahead, is half of the memory. */
static void evict(struct fetch *f)
{
    for (;;) {
        size_t bytes = 0;
        uint32_t n = 0;
        struct cell *oldest = NULL;
        for (uint32_t i = 0; i < f->n_in_memory; i++) {
            struct cell *c = &f->cells[f->in_memory[i]];
            if (c->ahead) continue;
            bytes += c->n;
            n++;
            if (c->state != CELL_HERE || c->n_readers > 0) continue;
            if (!oldest || c->used < oldest->used) oldest = c;
        }
        if (n <= HELD_MAX / 2 && bytes <= f->o.memory_max / 2) return;
        if (!oldest) return;
        drop_data(f, oldest);
    }
}

/* n bytes for c, in the table of what is in memory. */
static bool make_data(struct fetch *f, struct cell *c)
{
    if (f->n_in_memory == COUNT_OF(f->in_memory)) return false;
    c->data = mem_alloc(c->n);
    if (!c->data) return false;
    f->in_memory[f->n_in_memory++] = (uint32_t)(c - f->cells);
    f->memory_bytes += c->n;
    return true;
}

/* ----------------------------------------------------------- readers */

static enum status no_memory(struct fetch *f, const struct cell *c)
{
    struct error err;
    error_set(&err, ST_NO_MEMORY, "no memory left for a cell of %u bytes",
              c->n);
    stop_all(f, &err);
    return err.status;
}

static void came_wrong(struct fetch *f, struct cell *c)
{
    struct error err;
    drop_data(f, c);
    if (++c->n_wrong < FETCH_TRIES) return;
    error_set(&err, ST_INVALID,
              "piece %u of tensor %s came damaged %d times from %s: is its "
              "model file sound?",
              c->id.cell, gguf_tensor(f->gguf, c->id.tensor)->name, FETCH_TRIES,
              f->from);
    stop_all(f, &err);
}

static void is_here(struct fetch *f, struct cell *c)
{
    c->state = CELL_HERE;
    if (!c->counted) f->done_bytes += c->n;
    c->counted = true;
    pthread_cond_broadcast(&f->changed);
}

static void look_on_disk(struct fetch *f, struct cell *c)
{
    if (!f->o.cache) {
        c->absent = true;
        return;
    }
    if (!make_data(f, c)) {
        (void)no_memory(f, c);
        return;
    }
    c->state = CELL_CHECKING;
    pthread_mutex_unlock(&f->lock);
    const bool hit = cache_get(f->o.cache, c->hash, c->data, c->n);
    pthread_mutex_lock(&f->lock);
    if (hit) {
        is_here(f, c);
        return;
    }
    drop_data(f, c);
    c->absent = true;
    pthread_cond_broadcast(&f->changed);
}

static void verify(struct fetch *f, struct cell *c)
{
    uint8_t hash[HASH_BYTES];
    c->state = CELL_CHECKING;
    pthread_mutex_unlock(&f->lock);
    hash_of(hash, c->data, c->n);
    pthread_mutex_lock(&f->lock);
    if (memcmp(hash, c->hash, sizeof hash) != 0) {
        came_wrong(f, c);
        pthread_cond_broadcast(&f->changed);
        return;
    }
    c->n_readers++;
    is_here(f, c);
    if (f->o.cache) {
        pthread_mutex_unlock(&f->lock);
        cache_put(f->o.cache, c->hash, c->data, c->n);
        pthread_mutex_lock(&f->lock);
        c->absent = false;
    }
    c->n_readers--;
}

static void wait_for_change(struct fetch *f, const struct cell *c,
                            uint64_t start_ns)
{
    const uint64_t limit_ns = f->o.deadline_ms * MS_NS;
    const uint64_t from_ns =
        f->arrived_ns > start_ns ? f->arrived_ns : start_ns;
    const uint64_t end_ns = from_ns + limit_ns;
    if (clock_now_ns() >= end_ns) {
        struct error err;
        error_set(&err, ST_IO,
                  "no piece of the model came from %s for %u s: is it "
                  "running, and can this machine reach it?",
                  f->from, f->o.deadline_ms / 1000);
        stop_all(f, &err);
        return;
    }
    const bool urgent = f->n_waiting < WAITING_MAX;
    if (urgent) f->waiting[f->n_waiting++] = (uint32_t)(c - f->cells);
    if (c->state == CELL_UNKNOWN || c->state == CELL_IDLE) {
        f->o.wake(f->o.arg);
    }
    /* CLOCK_MONOTONIC is clock_now_ns()'s too */
    const struct timespec until = {(time_t)(end_ns / 1000000000),
                                   (long)(end_ns % 1000000000)};
    pthread_cond_timedwait(&f->changed, &f->lock, &until);
    for (uint32_t i = 0; urgent && i < f->n_waiting; i++) {
        if (f->waiting[i] != (uint32_t)(c - f->cells)) continue;
        f->waiting[i] = f->waiting[--f->n_waiting];
        break;
    }
}

static void copy_out(struct fetch *f, struct cell *c, void *dst)
{
    c->n_readers++;
    c->used = ++f->uses;
    not_ahead(f, c);
    const uint32_t i = (uint32_t)(c - f->cells);
    if (i + 1 > f->cursor) f->cursor = i + 1;
    pthread_mutex_unlock(&f->lock);
    memcpy(dst, c->data, c->n);
    pthread_mutex_lock(&f->lock);
    c->n_readers--;
    evict(f);
    f->o.wake(f->o.arg); /* there is room for the next one */
}

static enum status fetch_cell(void *arg, struct cell_id id, void *dst, size_t n,
                              struct error *err)
{
    struct fetch *f = arg;
    pthread_mutex_lock(&f->lock);
    const uint64_t start_ns = clock_now_ns();
    struct cell *c = find(f, id);
    enum status st = ST_OK;
    if (!c || c->n != n) {
        pthread_mutex_unlock(&f->lock);
        return error_set(err, ST_INVALID,
                         "piece %u of tensor %u is not in the assignment",
                         id.cell, id.tensor);
    }
    while ((st = f->status) == ST_OK && c->state != CELL_HERE) {
        if (c->state == CELL_ARRIVED)
            verify(f, c);
        else if (c->state == CELL_IDLE && !c->absent)
            look_on_disk(f, c);
        else
            wait_for_change(f, c, start_ns);
    }
    if (st == ST_OK) {
        copy_out(f, c, dst);
    } else if (err) {
        *err = f->error;
    }
    pthread_mutex_unlock(&f->lock);
    return st;
}

enum status fetch_read(void *arg, uint32_t tensor, uint64_t from, void *dst,
                       size_t n, struct error *err)
{
    struct fetch *f = arg;
    return cell_source_read(&f->source, tensor, from, dst, n, err);
}

void fetch_cancel(struct fetch *f)
{
    struct error err;
    error_set(&err, ST_INTERRUPTED, "no longer wanted");
    pthread_mutex_lock(&f->lock);
    stop_all(f, &err);
    pthread_mutex_unlock(&f->lock);
}

/* ---------------------------------------------------------- the loop */

static void ask(struct wire_message *m, struct cell *c, uint64_t now,
                enum cell_state state)
{
    m->cells.ids[m->cells.n++] =
        (struct wire_cell_id){c->id.tensor, c->id.cell};
    c->state = state;
    c->asked_ns = now;
}

static void ask_hash(struct fetch *f, struct wire_message *m, struct cell *c,
                     uint64_t now)
{
    if (c->state != CELL_UNKNOWN || m->cells.n == HASH_BATCH) return;
    ask(m, c, now, CELL_HASH_ASKED);
    f->n_hash_asked++;
}

static void ask_hashes(struct fetch *f, struct wire_message *m, uint64_t now)
{
    for (uint32_t i = 0; i < f->n_waiting; i++) {
        ask_hash(f, m, &f->cells[f->waiting[i]], now);
    }
    if (f->n_hash_asked >= 2 * HASH_BATCH) return;
    const uint32_t end =
        f->n - f->cursor < HASHES_AHEAD ? f->n : f->cursor + HASHES_AHEAD;
    /* whole batches, but at the end */
    if (f->hash_next + HASH_BATCH > end && end != f->n && m->cells.n == 0) {
        return;
    }
    while (f->hash_next < end && m->cells.n < HASH_BATCH) {
        ask_hash(f, m, &f->cells[f->hash_next++], now);
    }
}

static void ask_cell(struct fetch *f, struct wire_message *m, struct cell *c,
                     uint64_t now)
{
    ask(m, c, now, CELL_ASKED);
    c->ahead = true;
    f->n_ahead++;
    f->ahead_bytes += c->n;
}

static void ask_cells(struct fetch *f, struct wire_message *m, uint64_t now)
{
    for (uint32_t i = 0; i < f->n_waiting && m->cells.n < HASH_BATCH; i++) {
        struct cell *c = &f->cells[f->waiting[i]];
        if (c->state == CELL_IDLE && c->absent) ask_cell(f, m, c, now);
    }
    for (uint32_t i = f->cursor; i < f->n && i < f->cursor + READ_AHEAD; i++) {
        struct cell *c = &f->cells[i];
        if (f->n_ahead >= f->o.credits || m->cells.n == HASH_BATCH) return;
        if (f->n_ahead > 0 && f->ahead_bytes + c->n > f->o.memory_max / 2) {
            return;
        }
        if (c->state == CELL_UNKNOWN || c->state == CELL_HASH_ASKED) return;
        if (c->state != CELL_IDLE) continue;
        if (!c->absent) {
            if (f->o.cache && cache_has(f->o.cache, c->hash, c->n)) continue;
            c->absent = true;
        }
        ask_cell(f, m, c, now);
    }
}

bool fetch_request(struct fetch *f, struct wire_message *out)
{
    struct wire_message m = {.kind = WIRE_CELLS_WANTED};
    memcpy(m.cells.model_id, f->model_id, sizeof m.cells.model_id);
    m.cells.ids = mem_zalloc_array(HASH_BATCH, sizeof *m.cells.ids);
    if (!m.cells.ids) return false; /* the deadline is still there */
    const uint64_t now = clock_now_ns();
    pthread_mutex_lock(&f->lock);
    if (f->status == ST_OK) {
        ask_cells(f, &m, now);
        if (m.cells.n == 0) {
            m.cells.manifest_only = true;
            ask_hashes(f, &m, now);
        }
    }
    pthread_mutex_unlock(&f->lock);
    if (m.cells.n == 0) {
        wire_message_fini(&m);
        return false;
    }
    *out = m;
    return true;
}

/* As if it had not been asked for (lock held). */
static void unask(struct fetch *f, struct cell *c)
{
    if (c->state == CELL_HASH_ASKED) {
        c->state = CELL_UNKNOWN;
        f->n_hash_asked--;
        const uint32_t i = (uint32_t)(c - f->cells);
        if (i < f->hash_next) f->hash_next = i;
    } else if (c->state == CELL_ASKED) {
        c->state = CELL_IDLE;
        not_ahead(f, c);
    }
}

void fetch_not_sent(struct fetch *f, const struct wire_message *m)
{
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < m->cells.n; i++) {
        const struct wire_cell_id id = m->cells.ids[i];
        struct cell *c = find(f, (struct cell_id){id.tensor, id.cell});
        if (c) unask(f, c);
    }
    pthread_mutex_unlock(&f->lock);
}

void fetch_tick(struct fetch *f, uint64_t now_ns)
{
    pthread_mutex_lock(&f->lock);
    if (f->n_hash_asked + f->n_ahead > 0 &&
        now_ns - f->arrived_ns > ASK_AGAIN_NS) {
        for (uint32_t i = 0; i < f->n; i++) {
            struct cell *c = &f->cells[i];
            if (now_ns - c->asked_ns > ASK_AGAIN_NS) unask(f, c);
        }
    }
    pthread_mutex_unlock(&f->lock);
}

static void take_hashes(struct fetch *f, const struct wire_cells *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        struct cell *c =
            find(f, (struct cell_id){m->ids[i].tensor, m->ids[i].cell});
        if (!c || c->state != CELL_HASH_ASKED) continue;
        memcpy(c->hash, m->hashes + (size_t)i * HASH_BYTES, HASH_BYTES);
        c->state = CELL_IDLE;
        f->n_hash_asked--;
        f->arrived_ns = clock_now_ns();
    }
}

static void take_cell(struct fetch *f, const struct wire_cell *m,
                      const void *data, size_t n)
{
    struct cell *c = find(f, (struct cell_id){m->id.tensor, m->id.cell});
    if (!c || (c->state != CELL_ASKED && c->state != CELL_HASH_ASKED)) return;
    f->arrived_ns = clock_now_ns();
    if (m->status != ST_OK) {
        struct error err;
        error_set(&err, ST_IO, "%s cannot read piece %u of tensor %s (%s)",
                  f->from, c->id.cell, gguf_tensor(f->gguf, c->id.tensor)->name,
                  status_text((enum status)m->status));
        stop_all(f, &err);
        return;
    }
    if (c->state != CELL_ASKED) return;
    if (n != c->n) {
        came_wrong(f, c);
    } else if (!make_data(f, c)) {
        (void)no_memory(f, c);
    } else {
        memcpy(c->data, data, n);
        c->state = CELL_ARRIVED;
    }
}

void fetch_take(struct fetch *f, const struct wire_message *m,
                const void *tensor, size_t n)
{
    pthread_mutex_lock(&f->lock);
    if (m->kind == WIRE_MANIFEST &&
        memcmp(m->cells.model_id, f->model_id, KEY_BYTES) == 0) {
        take_hashes(f, &m->cells);
    } else if (m->kind == WIRE_CELL &&
               memcmp(m->cell.model_id, f->model_id, KEY_BYTES) == 0) {
        take_cell(f, &m->cell, tensor, n);
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void fetch_progress(struct fetch *f, uint64_t *done, uint64_t *total)
{
    pthread_mutex_lock(&f->lock);
    *done = f->done_bytes;
    *total = f->total_bytes;
    pthread_mutex_unlock(&f->lock);
}

bool fetch_goes_on(struct fetch *f)
{
    uint64_t done = 0, total = 0;
    if (f) fetch_progress(f, &done, &total);
    return done < total;
}

size_t fetch_memory(struct fetch *f)
{
    pthread_mutex_lock(&f->lock);
    const size_t n = f->memory_bytes;
    pthread_mutex_unlock(&f->lock);
    return n;
}
