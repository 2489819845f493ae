/* api_fakes.h - a pool and an admission whose answers the test decides, in
 * place of the coordinator's own: for the files that test the HTTP interface.
 *
 * Depends on: pool.h, admit.h, cmocka.  Thread: the test's. */
#ifndef TESTS_UNIT_API_FAKES_H
#define TESTS_UNIT_API_FAKES_H

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/admit.h"
#include "coordinator/pool.h"

#define N_JOBS 256

/* --------------------------------------------------------- fake pool */

struct pool_job {
    bool live;
    struct pool_events events;
    int32_t prompt[64];
    struct pool_request request;
    uint32_t position;
};
struct pool_host {
    struct tokenizer *tokenizer;
    bool ready;
    const char *why;
    enum status submit; /* what pool_submit says */
    uint32_t position;  /* of jobs to come */
    struct pool_job job[N_JOBS];
    size_t n_jobs, n_cancelled;
};
static struct pool_host pool;

enum status pool_submit(struct pool_host *p, const struct pool_request *r,
                        const struct pool_events *events, struct pool_job **out,
                        struct error *err)
{
    if (p->submit != ST_OK)
        return error_set(err, p->submit, "the pool says no");
    struct pool_job *j = &p->job[p->n_jobs++];
    *j = (struct pool_job){.live = true,
                           .events = *events,
                           .request = *r,
                           .position = p->position};
    assert_true(r->n_prompt <= COUNT_OF(j->prompt));
    memcpy(j->prompt, r->prompt, r->n_prompt * sizeof *r->prompt);
    *out = j;
    return ST_OK;
}
void pool_cancel(struct pool_host *p, struct pool_job *job)
{
    assert_true(job->live);
    job->live = false;
    p->n_cancelled++;
}
uint32_t pool_position(const struct pool_host *p, const struct pool_job *job)
{
    (void)p;
    assert_true(job->live);
    return job->position;
}
const struct tokenizer *pool_tokenizer(const struct pool_host *p)
{
    return p->tokenizer;
}
const char *pool_model_name(const struct pool_host *p)
{
    (void)p;
    return "org/tiny";
}
uint64_t pool_model_created(const struct pool_host *p)
{
    (void)p;
    return 1234;
}
uint32_t pool_context(const struct pool_host *p)
{
    (void)p;
    return 64;
}
bool pool_ready(const struct pool_host *p)
{
    return p->ready;
}
const char *pool_why_not(const struct pool_host *p)
{
    return p->why;
}
struct json_t *pool_status_json(const struct pool_host *p)
{
    return json_pack("{s:b}", "ready", p->ready);
}

static void token(size_t job, int32_t id, const char *text)
{
    struct pool_job *j = &pool.job[job];
    assert_true(j->live);
    float row[600];
    for (size_t i = 0; i < COUNT_OF(row); i++) row[i] = (float)i + (float)id;
    j->events.token(j->events.arg, id, text, strlen(text),
                    j->request.whole_rows ? row : NULL);
}

static void end_job(size_t job, const char *reason, enum status st,
                    const char *why)
{
    struct pool_job *j = &pool.job[job];
    assert_true(j->live);
    j->live = false;
    struct error err;
    (void)error_set(&err, st, "%s", why);
    const struct pool_usage u = {.n_prompt = j->request.n_prompt,
                                 .n_generated = 3,
                                 .queued_ns = 5000000,
                                 .prompt_ns = 10000000,
                                 .decode_ns = 4000000};
    j->events.done(j->events.arg, reason, &u, &err);
}

/* ---------------------------------------------------- fake admission */

struct admit {
    size_t n_invited;
    char who[64], name[64];
    uint8_t key[KEY_BYTES];
    enum status says;
};
static struct admit admit;
static struct admit_entry entries[] = {{.state = ADMIT_STATE_PENDING,
                                        .key = {0xab},
                                        .name = "pc\xff",
                                        .host = "h"},
                                       {.state = ADMIT_STATE_ENROLLED}};

enum status admit_invite(struct admit *a, uint64_t now_ns,
                         char text[ADMIT_TOKEN_BYTES], struct error *err)
{
    (void)now_ns, (void)err;
    a->n_invited++;
    snprintf(text, ADMIT_TOKEN_BYTES, "tok");
    return ST_OK;
}
static enum status admit_change(struct admit *a, const char *who,
                                uint8_t key[KEY_BYTES], struct error *err)
{
    if (a->says != ST_OK) return error_set(err, a->says, "%s: nobody", who);
    snprintf(a->who, sizeof a->who, "%s", who);
    memset(key, 0x1f, KEY_BYTES);
    memcpy(entries[1].key, key, KEY_BYTES);
    snprintf(entries[1].name, sizeof entries[1].name, "%s", who);
    return ST_OK;
}
enum status admit_approve(struct admit *a, const char *who,
                          uint8_t key[KEY_BYTES], struct error *err)
{
    return admit_change(a, who, key, err);
}
enum status admit_revoke(struct admit *a, const char *who,
                         uint8_t key[KEY_BYTES], struct error *err)
{
    return admit_change(a, who, key, err);
}
enum status admit_add(struct admit *a, const uint8_t key[KEY_BYTES],
                      const char *name, struct error *err)
{
    (void)err;
    memcpy(a->key, key, KEY_BYTES);
    snprintf(a->name, sizeof a->name, "%s", name);
    return ST_OK;
}
uint32_t admit_count(const struct admit *a)
{
    (void)a;
    return COUNT_OF(entries);
}
const struct admit_entry *admit_entry(const struct admit *a, uint32_t i)
{
    (void)a;
    return &entries[i];
}

#endif
