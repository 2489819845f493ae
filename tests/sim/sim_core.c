/* The real coordinator's core, and what coordinator/net.c does around it. */
#include "tests/sim/sim.h"

#include <string.h>

static uint64_t io_now(void *arg)
{
    const struct sim *s = arg;
    return s->now;
}

static enum status io_control(void *arg, const uint8_t key[KEY_BYTES],
                              const struct wire_message *m)
{
    return sim_send(arg, 0, sim_who(key), SIM_CONTROL, m, NULL, 0);
}

static enum status io_step(void *arg, const struct cluster_node *to,
                           const struct wire_message *m)
{
    struct sim *s = arg;
    s->n_steps++;
    s->steps_flying++;
    if (s->steps_flying > 2 * m->step.n_stages + 2) {
        sim_fail(s, "%u steps are in flight over %u stages", s->steps_flying,
                 m->step.n_stages);
    }
    if (m->step.epoch != cluster_epoch(pool_cluster(s->core))) {
        sim_fail(s, "a step of another epoch goes out");
    }
    return sim_send(s, 0, sim_who(to->key), SIM_DATA, m, NULL, 0);
}

static void io_drop(void *arg, const uint8_t key[KEY_BYTES])
{
    struct sim *s = arg;
    const uint32_t who = sim_who(key);
    sim_note(s, "0 drops %u", who);
    s->dropped[who] = true;
}

static void planned(struct sim *s, struct sim_event *e)
{
    struct core_plan *task = s->planning;
    (void)e;
    s->planning = NULL;
    core_plan_run(task);
    core_planned(s->core, task);
    sim_core_settle(s);
}

static void io_plan(void *arg, struct core_plan *task)
{
    struct sim *s = arg;
    if (s->planning) sim_fail(s, "a second plan while one is made");
    s->planning = task;
    sim_at(s, s->now + sim_between(s, 1, 800) * SIM_MS, 0, planned, NULL, NULL,
           0);
}

static void io_say(void *arg, const char *line)
{
    sim_note(arg, "0: %s", line);
}

static void core_ticks(struct sim *s, struct sim_event *e)
{
    if (e->arg != s->core_tick_ns) return; /* another one was earlier */
    s->core_tick_ns = 0;
    core_tick(s->core);
    if (core_deadline(s->core) < s->now) {
        sim_fail(s, "the next tick is due in the past: the loop spins");
    }
    sim_core_settle(s);
}

void sim_core_settle(struct sim *s)
{
    if (!s->core || s->failed) return;
    if (!core_check(s->core)) sim_fail(s, "core_check");
    const uint64_t epoch = cluster_epoch(pool_cluster(s->core));
    if (epoch < s->epoch) {
        sim_fail(s, "epoch %llu after %llu", (unsigned long long)epoch,
                 (unsigned long long)s->epoch);
    }
    if (epoch != s->epoch) {
        s->steps_flying = 0;
        s->n_epochs++;
    }
    s->epoch = epoch;
    uint64_t at = core_deadline(s->core);
    if (at == UINT64_MAX) return;
    /* libuv's timers count milliseconds */
    if (at < s->now + SIM_MS) at = s->now + SIM_MS;
    if (s->core_tick_ns != 0 && s->core_tick_ns <= at) return;
    s->core_tick_ns = at;
    sim_at(s, at, 0, core_ticks, NULL, NULL, at);
}

void sim_core_receive(struct sim *s, uint32_t from, enum sim_socket socket,
                      struct wire_message *m, const void *tensor,
                      size_t tensor_bytes)
{
    uint8_t key[KEY_BYTES];
    sim_key(from, key);
    if (m->kind == WIRE_HELLO) s->dropped[from] = false;
    if (s->dropped[from]) return;
    if (socket == SIM_DATA) {
        if (!core_member(s->core, key)) return;
        const bool ours = m->result.epoch == s->epoch;
        if (ours && s->steps_flying > 0) s->steps_flying--;
        core_data(s->core, key, m, tensor, tensor_bytes);
    } else if (m->kind == WIRE_HELLO) {
        core_hello(s->core, key, "10.0.0.1", &m->hello);
    } else {
        core_control(s->core, key, m);
    }
    sim_core_settle(s);
}

bool sim_core_start(struct sim *s)
{
    const struct core_io io = {.now = io_now,
                               .control = io_control,
                               .step = io_step,
                               .drop = io_drop,
                               .plan = io_plan,
                               .say = io_say,
                               .arg = s};
    s->boot = s->now + 1;
    struct core_config c = {
        .model_name = "sim",
        .model = &s->model->model,
        .tokenizer = s->model->tokenizer,
        .model_header = s->model->header.data,
        .model_header_bytes = s->model->header.len,
        .cluster = {.boot = s->boot,
                    .first_epoch = s->epoch + 1,
                    .wait_for = s->o.n_workers,
                    .settle_ns = 500 * SIM_MS,
                    .data_port = 7001,
                    .bulk_port = 7002},
        .objective = PLAN_THROUGHPUT,
        .n_users = 8,
        .n_ctx = 192,
        .kv_type = KV_F16,
        .plan_json = s->o.plan_json,
        .plan_json_bytes = s->o.plan_json ? strlen(s->o.plan_json) : 0,
        .queue_max = 24,
        .first_request = s->boot,
    };
    struct error err;
    if (core_create(&s->core, &c, &io, &err) != ST_OK) {
        sim_fail(s, "core: %s", err.text);
        return false;
    }
    s->alive[0] = true;
    s->core_tick_ns = 0;
    s->steps_flying = 0;
    memset(s->dropped, 0, sizeof s->dropped);
    sim_core_settle(s);
    return true;
}

void sim_core_stop(struct sim *s)
{
    if (!s->core) return;
    /* the thread comes back before the loop ends; what it brings may ask for
     * another plan */
    while (s->planning) {
        struct core_plan *task = s->planning;
        s->planning = NULL;
        core_plan_run(task);
        core_planned(s->core, task);
    }
    s->epoch = cluster_epoch(pool_cluster(s->core));
    core_free(s->core);
    s->core = NULL;
    s->alive[0] = false;
    s->life[0]++;
    for (uint32_t i = 1; i < SIM_PROCS; i++) sim_break(s, 0, i);
    sim_requests_forget(s);
}
