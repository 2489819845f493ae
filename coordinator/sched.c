#include "coordinator/sched.h"

#include <assert.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
#define OPS_MAX   4096 /* KV operations of a step: LIMIT_KV_OPS */
#define CHUNK_MIN                                                              \
    32 /* rows of a prompt below which weights are read in vain                \
        */

enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_OVER };

struct request {
    uint64_t id;
    int32_t *tokens;                    /* prompt, then what was generated */
    uint32_t n_prompt, n_tokens, n_max; /* n_max: room in tokens */
    uint32_t n_sent;                    /* rows that have gone out */
    uint32_t n_flying;                  /* of them, rows without a result */
    uint32_t n_pages;
    bool again;      /* its last row has gone out and goes out once more */
    uint64_t served; /* turn of its last decode row: the oldest goes first */
    enum request_state state;
    struct request *next; /* in order of submission */
};

struct flight_row {
    struct request *request;
    bool want;
};
struct flight {
    uint64_t step; /* 0: slot is free */
    uint64_t deadline_ns;
    uint32_t n_rows, n_freed;
    struct flight_row *rows; /* [rows_max] */
    uint64_t *freed;         /* [ops_max / 2] sequences that it frees */
};

struct sched {
    struct sched_config c;
    struct request *first; /* running and over but not freed yet, then waiting
                              ones: nobody overtakes */
    uint32_t n_waiting, n_running; /* running: holds pages, over ones too */
    uint32_t free_pages;
    uint64_t next_step, turn;
    struct flight *flights; /* [n_steps] */
    uint32_t ops_max;       /* half of them to free */
    struct kv_op *ops;      /* [ops_max] */
    uint32_t n_ops;         /* of the step being made */
    uint64_t *unfreed;      /* [n_steps * ops_max / 2] of steps that failed on
                               their way: to be freed once more */
    uint32_t n_unfreed;
    struct step_row *rows; /* [rows_max] */
};

/* ------------------------------------------------------------ memory */

static void free_arrays(struct sched *s)
{
    for (uint32_t i = 0; s->flights && i < s->c.n_steps; i++) {
        mem_free(s->flights[i].rows);
        mem_free(s->flights[i].freed);
    }
    mem_free(s->flights);
    mem_free(s->ops);
    mem_free(s->unfreed);
    mem_free(s->rows);
    s->flights = NULL;
    s->ops = NULL;
    s->unfreed = NULL;
    s->rows = NULL;
}

static bool make_arrays(struct sched *s, const struct sched_config *c)
{
    s->c = *c;
    s->free_pages = c->n_pages;
    s->flights = mem_zalloc_array(c->n_steps, sizeof *s->flights);
    s->ops_max = c->n_seq_max < OPS_MAX / 2 ? 2 * c->n_seq_max : OPS_MAX;
    s->n_unfreed = 0;
    s->ops = mem_zalloc_array(s->ops_max, sizeof *s->ops);
    s->unfreed = mem_zalloc_array((size_t)c->n_steps * s->ops_max / 2,
                                  sizeof *s->unfreed);
    s->rows = mem_zalloc_array(c->rows_max, sizeof *s->rows);
    if (!s->flights || !s->ops || !s->unfreed || !s->rows) return false;
    for (uint32_t i = 0; i < c->n_steps; i++) {
        s->flights[i].rows =
            mem_zalloc_array(c->rows_max, sizeof *s->flights[i].rows);
        s->flights[i].freed =
            mem_zalloc_array(s->ops_max / 2, sizeof *s->flights[i].freed);
        if (!s->flights[i].rows || !s->flights[i].freed) return false;
    }
    return true;
}

enum status sched_create(struct sched **out, const struct sched_config *c,
                         struct error *err)
{
    struct sched *s = mem_zalloc(sizeof *s);
    if (!s) return error_set(err, ST_NO_MEMORY, "scheduler");
    s->next_step = c->first_step ? c->first_step : 1;
    if (!make_arrays(s, c)) {
        sched_free(s);
        return error_set(err, ST_NO_MEMORY, "scheduler of %u steps of %u rows",
                         c->n_steps, c->rows_max);
    }
    *out = s;
    return ST_OK;
}

static void request_free(struct request *r)
{
    mem_free(r->tokens);
    mem_free(r);
}

void sched_free(struct sched *s)
{
    if (!s) return;
    while (s->first) {
        struct request *r = s->first;
        s->first = r->next;
        request_free(r);
    }
    free_arrays(s);
    mem_free(s);
}

static struct request *find(const struct sched *s, uint64_t id)
{
    struct request *r = s->first;
    while (r && r->id != id) r = r->next;
    return r;
}

static void unlink_request(struct sched *s, struct request *r)
{
    struct request **at = &s->first;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    request_free(r);
}

/* ------------------------------------------------------------ submit */

enum status sched_submit(struct sched *s, uint64_t request,
                         const int32_t *prompt, uint32_t n_prompt,
                         uint32_t max_tokens, struct error *err)
{
    if (n_prompt == 0) return error_set(err, ST_USAGE, "the prompt is empty");
    if (n_prompt > s->c.n_ctx) {
        return error_set(err, ST_TOO_LARGE,
                         "the prompt has %u tokens, the context is %u",
                         n_prompt, s->c.n_ctx);
    }
    if (find(s, request)) {
        return error_set(err, ST_INVALID, "request %llu is there already",
                         (unsigned long long)request);
    }
    const uint32_t room = s->c.n_ctx - n_prompt;
    const uint32_t n_max = n_prompt + (max_tokens < room ? max_tokens : room);
    if (kv_pages(n_max) > s->c.n_pages) {
        return error_set(err, ST_TOO_LARGE,
                         "%u tokens of prompt and answer need %u pages of the "
                         "key/value cache, which has %u",
                         n_max, kv_pages(n_max), s->c.n_pages);
    }
    if (s->n_waiting >= s->c.queue_max) {
        return error_set(err, ST_FULL, "%u requests are waiting already",
                         s->n_waiting);
    }
    struct request *r = mem_zalloc(sizeof *r);
    int32_t *tokens = mem_zalloc_array((size_t)n_max + 1, sizeof *tokens);
    if (!r || !tokens) {
        mem_free(r);
        mem_free(tokens);
        return error_set(err, ST_NO_MEMORY, "request of %u tokens", n_max);
    }
    memcpy(tokens, prompt, n_prompt * sizeof *tokens);
    *r = (struct request){.id = request,
                          .tokens = tokens,
                          .n_prompt = n_prompt,
                          .n_tokens = n_prompt,
                          .n_max = n_max,
                          .n_pages = kv_pages(n_max)};
    struct request **at = &s->first;
    while (*at) at = &(*at)->next;
    *at = r;
    s->n_waiting++;
    return ST_OK;
}

/* Whether running or not: nothing more of it goes out. */
static void finish(struct sched *s, struct request *r)
{
    if (r->state == REQUEST_WAITING) {
        s->n_waiting--;
        unlink_request(s, r);
        return;
    }
    r->state = REQUEST_OVER; /* freed by sched_next once nothing flies */
}

void sched_cancel(struct sched *s, uint64_t request)
{
    struct request *r = find(s, request);
    if (r && r->state != REQUEST_OVER) finish(s, r);
}

void sched_end(struct sched *s, uint64_t request)
{
    sched_cancel(s, request);
}

void sched_token(struct sched *s, uint64_t request, int32_t token)
{
    struct request *r = find(s, request);
    if (!r || r->state != REQUEST_RUNNING) return;
    assert(r->n_sent == r->n_tokens);
    if (r->n_tokens >= r->n_max) {
        finish(s, r); /* no room for its row */
        return;
    }
    r->tokens[r->n_tokens++] = token;
}

/* -------------------------------------------------------------- next */

static void admit(struct sched *s)
{
    for (struct request *r = s->first; r; r = r->next) {
        if (r->state != REQUEST_WAITING) continue;
        if (s->n_running >= s->c.n_seq_max || r->n_pages > s->free_pages) {
            return; /* first come, first served: nobody overtakes */
        }
        r->state = REQUEST_RUNNING;
        s->n_waiting--;
        s->n_running++;
        s->free_pages -= r->n_pages;
    }
}

static void put_free(struct sched *s, struct flight *f, uint64_t seq)
{
    s->ops[s->n_ops++] = (struct kv_op){.kind = KV_OP_FREE, .seq = seq};
    f->freed[f->n_freed++] = seq;
}

/* Sequences that are over everywhere: their pages can be used from the step
 * on that carries the operation. */
static void collect_freed(struct sched *s, struct flight *f)
{
    const uint32_t most = s->ops_max / 2;
    s->n_ops = f->n_freed = 0;
    while (s->n_unfreed > 0 && f->n_freed < most) {
        put_free(s, f, s->unfreed[--s->n_unfreed]);
    }
    for (struct request *r = s->first, *next; r; r = next) {
        next = r->next;
        if (r->state == REQUEST_WAITING || f->n_freed == most) break;
        if (r->state != REQUEST_OVER || r->n_flying != 0) continue;
        s->free_pages += r->n_pages;
        s->n_running--;
        if (r->n_sent != 0 || r->again) put_free(s, f, r->id);
        unlink_request(s, r);
    }
}

static bool decoding(const struct request *r)
{
    return r->state == REQUEST_RUNNING && r->n_sent >= r->n_prompt;
}

/* Decode row ready to go that has waited longest. */
static struct request *next_decode(const struct sched *s)
{
    struct request *best = NULL;
    for (struct request *r = s->first; r && r->state != REQUEST_WAITING;
         r = r->next) {
        if (!decoding(r) || r->n_sent == r->n_tokens) continue;
        if (r->again && s->n_ops == s->ops_max) continue; /* the next step */
        if (!best || r->served < best->served) best = r;
    }
    return best;
}

static void put_row(struct sched *s, struct flight *f, struct request *r)
{
    const uint32_t pos = r->n_sent++;
    if (r->again) {
        s->ops[s->n_ops++] =
            (struct kv_op){.kind = KV_OP_TRUNCATE, .seq = r->id, .n = pos};
        r->again = false;
    }
    const bool want = r->n_sent >= r->n_prompt;
    s->rows[f->n_rows] = (struct step_row){
        .seq = r->id, .pos = pos, .token = r->tokens[pos], .want = want};
    f->rows[f->n_rows++] = (struct flight_row){r, want};
    r->n_flying++;
}

/* Rows of a step whose prompts have n_prompt rows to go.  With several stages
 * they are spread over the steps in flight, so that no stage waits while
 * another reads a prompt. */
static uint32_t chunk_end(const struct sched *s, uint32_t n_rows,
                          uint32_t n_prompt)
{
    uint32_t chunk = s->c.rows_max;
    if (s->c.n_steps > 2) {
        chunk = (n_prompt + s->c.n_steps - 2) / (s->c.n_steps - 1);
        if (chunk < CHUNK_MIN) chunk = CHUNK_MIN;
    }
    return chunk < s->c.rows_max - n_rows ? n_rows + chunk : s->c.rows_max;
}

static uint32_t fill(struct sched *s, struct flight *f)
{
    uint32_t n_decoding = 0, n_want = 0, n_prompt = 0;
    for (struct request *r = s->first; r && r->state != REQUEST_WAITING;
         r = r->next) {
        n_decoding += decoding(r);
        if (r->state == REQUEST_RUNNING && r->n_sent < r->n_prompt) {
            n_prompt += r->n_prompt - r->n_sent;
        }
    }
    /* an even share for each step that can be in flight */
    uint32_t share = (n_decoding + s->c.n_steps - 1) / s->c.n_steps;
    if (share > s->c.outputs_max) share = s->c.outputs_max;
    struct request *r;
    while (n_want < share && f->n_rows < s->c.rows_max &&
           (r = next_decode(s)) != NULL) {
        r->served = ++s->turn;
        put_row(s, f, r);
        n_want++;
    }
    const uint32_t most = chunk_end(s, f->n_rows, n_prompt);
    for (r = s->first; r && r->state != REQUEST_WAITING; r = r->next) {
        if (r->state != REQUEST_RUNNING) continue; /* prompts, oldest first */
        while (r->n_sent < r->n_prompt && f->n_rows < most) {
            const bool last = r->n_sent + 1 == r->n_prompt;
            if (last && n_want == s->c.outputs_max) break;
            put_row(s, f, r);
            n_want += last;
        }
    }
    return n_want;
}

bool sched_next(struct sched *s, uint64_t now_ns,
                uint64_t (*predicted_ns)(void *arg, uint32_t n_rows), void *arg,
                struct sched_step *out)
{
    struct flight *f = NULL;
    for (uint32_t i = 0; i < s->c.n_steps && !f; i++) {
        if (s->flights[i].step == 0) f = &s->flights[i];
    }
    if (!f) return false;
    collect_freed(s, f);
    admit(s);
    f->n_rows = 0;
    const uint32_t n_want = fill(s, f);
    if (f->n_rows == 0 && s->n_ops == 0) return false;
    f->step = s->next_step++;
    f->deadline_ns = now_ns + 10 * predicted_ns(arg, f->n_rows) + 5 * SECOND_NS;
    *out = (struct sched_step){
        .step = f->step,
        .ops = s->ops,
        .n_ops = s->n_ops,
        .rows = s->rows,
        .n_rows = f->n_rows,
        .n_want = n_want,
        .deadline_ns = f->deadline_ns,
    };
    return true;
}

static struct flight *find_flight(struct sched *s, uint64_t step)
{
    for (uint32_t i = 0; step != 0 && i < s->c.n_steps; i++) {
        if (s->flights[i].step == step) return &s->flights[i];
    }
    return NULL;
}

bool sched_failed(struct sched *s, uint64_t step,
                  void (*lost)(void *arg, uint64_t request), void *arg)
{
    struct flight *f = find_flight(s, step);
    if (!f) return false;
    f->step = 0;
    for (uint32_t i = 0; i < f->n_rows; i++) f->rows[i].request->n_flying--;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        struct request *r = f->rows[i].request;
        if (r->state != REQUEST_RUNNING) continue;
        finish(s, r);
        lost(arg, r->id);
    }
    /* the stages behind the one that failed know of none of this */
    for (uint32_t i = 0; i < f->n_freed; i++) {
        s->unfreed[s->n_unfreed++] = f->freed[i];
    }
    return true;
}

void sched_again(struct sched *s, uint64_t request)
{
    struct request *r = find(s, request);
    if (!r || r->state != REQUEST_RUNNING) return;
    /* rows before it may fly still: their Result was lost on its way */
    assert(r->n_sent == r->n_tokens);
    r->n_sent--;
    r->again = true;
}

bool sched_done(struct sched *s, uint64_t step,
                void (*row)(void *arg, uint64_t request, uint32_t i), void *arg)
{
    struct flight *f = find_flight(s, step);
    if (!f) return false;
    for (uint32_t i = 0; i < f->n_rows; i++) f->rows[i].request->n_flying--;
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n_rows; i++) {
        if (!f->rows[i].want) continue;
        const struct request *r = f->rows[i].request;
        if (r->state == REQUEST_RUNNING) row(arg, r->id, n);
        n++;
    }
    f->step = 0; /* last: what row does may ask for further steps */
    return true;
}

/* ----------------------------------------------------------- looking */

uint64_t sched_next_step(const struct sched *s)
{
    return s->next_step;
}

uint64_t sched_overdue(const struct sched *s, uint64_t now_ns)
{
    for (uint32_t i = 0; i < s->c.n_steps; i++) {
        const struct flight *f = &s->flights[i];
        if (f->step != 0 && now_ns > f->deadline_ns) return f->step;
    }
    return 0;
}

uint64_t sched_deadline(const struct sched *s)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < s->c.n_steps; i++) {
        const struct flight *f = &s->flights[i];
        if (f->step != 0 && f->deadline_ns < first) first = f->deadline_ns;
    }
    return first;
}

enum status sched_reset(struct sched *s, const struct sched_config *c,
                        void (*lost)(void *arg, uint64_t request, bool running),
                        void *arg, struct error *err)
{
    struct request *r = s->first;
    s->first = NULL;
    s->n_waiting = s->n_running = 0;
    while (r) {
        struct request *next = r->next;
        if (r->state != REQUEST_OVER) {
            lost(arg, r->id, r->state == REQUEST_RUNNING);
        }
        request_free(r);
        r = next;
    }
    free_arrays(s);
    if (make_arrays(s, c)) return ST_OK;
    free_arrays(s);
    s->c = (struct sched_config){0}; /* nothing fits until the next reset */
    return error_set(err, ST_NO_MEMORY, "scheduler");
}

struct sched_counts sched_counts(const struct sched *s)
{
    struct sched_counts n = {.waiting = s->n_waiting,
                             .running = s->n_running,
                             .free_pages = s->free_pages};
    for (uint32_t i = 0; i < s->c.n_steps; i++) {
        n.in_flight += s->flights[i].step != 0;
    }
    return n;
}

uint32_t sched_position(const struct sched *s, uint64_t request)
{
    uint32_t before = 1;
    for (const struct request *r = s->first; r; r = r->next) {
        if (r->id == request) {
            return r->state == REQUEST_WAITING ? before : 0;
        }
        before += r->state == REQUEST_WAITING;
    }
    return UINT32_MAX;
}

bool sched_check(const struct sched *s)
{
    uint32_t pages = 0, running = 0, waiting = 0, flying = 0, listed = 0;
    for (const struct request *r = s->first; r; r = r->next) {
        if (r->n_sent > r->n_tokens || r->n_tokens > r->n_max) return false;
        flying += r->n_flying;
        if (r->state != REQUEST_WAITING && waiting != 0) return false;
        if (r->state == REQUEST_WAITING) {
            if (r->n_sent != 0) return false;
            waiting++;
            continue;
        }
        running++;
        pages += r->n_pages;
    }
    for (uint32_t i = 0; i < s->c.n_steps; i++) {
        if (s->flights[i].step != 0) listed += s->flights[i].n_rows;
    }
    return pages + s->free_pages == s->c.n_pages && running == s->n_running &&
           waiting == s->n_waiting && running <= s->c.n_seq_max &&
           flying == listed;
}
