/* core_status.c - the pool as JSON, for /v1/cluster and `potluck status`. */
#include <jansson.h>
#include <stdio.h>

#include "coordinator/core_internal.h"

static const char *node_state_name(enum node_state s)
{
    static const char *const names[] = {
        [NODE_JOINED] = "joined",    [NODE_IDLE] = "idle",
        [NODE_LOADING] = "loading",  [NODE_READY] = "ready",
        [NODE_DRAINING] = "leaving", [NODE_GONE] = "gone"};
    return names[s];
}

static const char *pool_state_name(enum pool_state s)
{
    static const char *const names[] = {
        [POOL_WAITING] = "waiting",   [POOL_PLANNING] = "planning",
        [POOL_LOADING] = "loading",   [POOL_SERVING] = "serving",
        [POOL_STOPPING] = "stopping", [POOL_STARVED] = "starved"};
    return names[s];
}

static json_t *number(uint64_t n)
{
    return json_integer(n < INT64_MAX ? (json_int_t)n : INT64_MAX);
}

/* What it holds by the plan: layers, head, experts away from their block. */
static void put_share(const struct pool_host *p, const struct cluster_node *n,
                      json_t *to)
{
    const struct plan *plan = &p->plan;
    const struct plan_share *s = NULL;
    for (uint32_t i = 0; p->has_plan && i < plan->n_nodes && !s; i++) {
        if (plan->nodes[i].id == n->id && plan->nodes[i].used) {
            s = &plan->nodes[i];
        }
    }
    if (!s) return;
    uint32_t first = UINT32_MAX, end = 0, experts = 0;
    for (uint32_t l = 0; l < plan->n_layer; l++) {
        const struct shard_layer_spec *layer = &s->spec.layers[l];
        if (layer->block) {
            if (first == UINT32_MAX) first = l;
            end = l + 1;
            continue;
        }
        for (size_t w = 0; w < COUNT_OF(layer->experts); w++) {
            experts += (uint32_t)__builtin_popcountll(layer->experts[w]);
        }
    }
    char layers[32] = "";
    if (end != 0) {
        snprintf(layers, sizeof layers, "%u-%u", first, end - 1);
        json_object_set_new(to, "first_layer", json_integer(first));
        json_object_set_new(to, "end_layer", json_integer(end));
    }
    json_object_set_new(to, "layers", json_string(layers));
    json_object_set_new(to, "embed", json_boolean(s->spec.embed));
    json_object_set_new(to, "head",
                        json_boolean(s->spec.vocab_end > s->spec.vocab_first));
    json_object_set_new(to, "experts", json_integer(experts));
    json_object_set_new(to, "weight_bytes", number(s->bytes.weights));
    json_object_set_new(to, "kv_bytes", number(s->bytes.kv));
    json_object_set_new(to, "planned_bytes", number(s->bytes.total));
}

static json_t *node_json(const struct pool_host *p,
                         const struct cluster_node *n)
{
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:b, s:s, s:o, s:o}", "id",
        (int)n->id, "name", n->hello.name, "state", node_state_name(n->state),
        "host", n->host, "cpu", n->hello.cpu, "isa", n->hello.isa, "threads",
        (int)n->hello.n_threads, "memory_bytes", number(n->hello.memory_bytes),
        "busy", n->busy, "what",
        n->state == NODE_LOADING ? n->what
        : n->held_ns             ? n->held
                                 : "",
        "done_bytes", number(n->done_bytes), "total_bytes",
        number(n->total_bytes));
    if (!j) return json_null();
    if (n->reported) {
        const struct wire_report *r = &n->report;
        json_object_set_new(j, "read_bytes_per_s",
                            json_real(r->read_bytes_per_s));
        json_object_set_new(j, "link_bytes_per_s",
                            json_real(r->link_bytes_per_s));
        json_object_set_new(j, "link_latency_s", json_real(r->link_latency_s));
    }
    if (n->state == NODE_LOADING && p->has_plan) {
        json_object_set_new(
            j, "loading_s",
            json_real((double)(core_now(p) - p->planned_ns) / 1e9));
    }
    if (n->state == NODE_READY) {
        json_object_set_new(j, "peak_bytes", number(n->ready.peak_bytes));
    }
    put_share(p, n, j);
    return j;
}

static json_t *plan_json(const struct pool_host *p)
{
    const struct plan *plan = &p->plan;
    json_t *stages = json_array();
    for (uint32_t i = 0; i < plan->n_stages; i++) {
        const struct plan_stage *s = &plan->stages[i];
        json_array_append_new(
            stages,
            json_pack("{s:s, s:i, s:i, s:b, s:b, s:f}", "node",
                      plan->nodes[s->node].name, "first", (int)s->layer_first,
                      "end", (int)s->layer_end, "embed", s->embed, "head",
                      s->head, "decode_ms", s->decode_s * 1e3));
    }
    return json_pack("{s:o, s:i, s:i, s:f, s:f, s:f, s:s}", "stages", stages,
                     "n_steps", (int)plan->n_steps, "n_pages",
                     (int)plan->n_pages, "decode_tokens_per_s",
                     plan->decode_tokens_per_s, "batch_tokens_per_s",
                     plan->batch_tokens_per_s, "prompt_512_s",
                     plan->prompt_512_s, "bottleneck", plan->bottleneck);
}

json_t *pool_status_json(const struct pool_host *p)
{
    json_t *nodes = json_array();
    for (uint32_t i = 0; i < cluster_n_nodes(p->cluster); i++) {
        json_array_append_new(nodes, node_json(p, cluster_node(p->cluster, i)));
    }
    struct sched_counts n = {0};
    if (p->sched) n = sched_counts(p->sched);
    uint32_t parked = 0;
    for (const struct pool_job *j = p->jobs; j; j = j->next) {
        parked += j->state == JOB_PARKED;
    }
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:i, s:i, s:o, s:o, s:{s:i, s:i, s:i, s:i}, "
        "s:{s:o, s:o, s:o, s:o}}",
        "state", pool_state_name(cluster_state(p->cluster)), "why",
        pool_why_not(p), "epoch", number(cluster_epoch(p->cluster)), "model",
        p->c.model_name, "n_layer", (int)p->c.model->n_layer, "n_ctx",
        (int)pool_context(p), "nodes", nodes, "plan",
        p->has_plan ? plan_json(p) : json_null(), "queue", "waiting",
        (int)(n.waiting + parked), "running", (int)n.running, "in_flight",
        (int)n.in_flight, "free_pages", (int)n.free_pages, "totals", "prompts",
        number(p->totals.prompts), "tokens", number(p->totals.tokens), "steps",
        number(p->totals.steps), "compute_ns", number(p->totals.compute_ns));
}
