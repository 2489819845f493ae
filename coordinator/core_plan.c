/* core_plan.c - who computes what: asked of the planner, on another thread. */
#include <stdio.h>
#include <string.h>

#include "coordinator/core_internal.h"
#include "coordinator/spread.h"

/* What the planner is asked, with all that it needs of this thread. */
struct core_plan {
    struct plan_request request;
    struct plan_node nodes[LIMIT_NODES];
    bool given; /* json says it; else the planner decides */
    struct buf json;
    struct plan plan;
    enum status status;
    struct error error;
    bool otherwise; /* json wants a worker that is not here (error): planned
                       without it meanwhile */
};

void core_drop_plan(struct pool_host *p)
{
    sched_free(p->sched);
    p->sched = NULL;
    for (uint32_t i = 0; p->flights && i < p->plan.n_steps; i++) {
        mem_free(p->flights[i].whole);
    }
    mem_free(p->flights);
    mem_free(p->stages);
    mem_free(p->samples);
    p->flights = NULL;
    p->stages = NULL;
    p->samples = NULL;
    if (p->has_plan) plan_fini(&p->plan);
    p->has_plan = p->serving = p->draining = false;
}

static void task_free(struct core_plan *t)
{
    buf_fini(&t->json);
    mem_free(t);
}

static void refused(struct pool_host *p, const char *why)
{
    core_say(p, "no plan: %s", why);
    cluster_plan_refused(p->cluster, why, core_now(p));
    core_fail_parked(p, ST_NO_MEMORY, why);
}

void core_make_plan(struct pool_host *p)
{
    struct core_plan *t = mem_zalloc(sizeof *t);
    if (!t) {
        refused(p, "the coordinator has no memory left to plan with");
        return;
    }
    buf_init(&t->json, PLAN_JSON_MAX);
    t->request = (struct plan_request){
        .model = p->c.model,
        .nodes = t->nodes,
        .n_nodes = cluster_plan_nodes(p->cluster, t->nodes, LIMIT_NODES),
        .objective = p->c.objective,
        .n_users = p->c.n_users,
        .n_ctx = p->c.n_ctx,
        .kv_type = p->c.kv_type,
    };
    enum status st = ST_OK;
    t->given = p->c.plan_json || p->c.spread;
    if (p->c.plan_json) {
        st = buf_append(&t->json, p->c.plan_json, p->c.plan_json_bytes);
    } else if (p->c.spread) {
        st = spread_write(&t->json, p->c.model, t->nodes, t->request.n_nodes);
    }
    if (st != ST_OK) {
        task_free(t);
        refused(p, "the coordinator has no memory left to plan with");
        return;
    }
    core_say(p, "planning over %u workers", t->request.n_nodes);
    p->io.plan(p->io.arg, t);
}

void core_plan_run(struct core_plan *t)
{
    if (t->given) {
        t->status = plan_read_json(&t->plan, &t->request,
                                   t->json.data ? t->json.data : "",
                                   t->json.len, &t->error);
        t->otherwise = t->status == ST_NOT_FOUND;
    }
    if (!t->given || t->otherwise) {
        struct error err;
        t->status = plan_make(&t->plan, &t->request, &err);
        if (t->status != ST_OK) t->error = err;
    }
}

void core_planned(struct pool_host *p, struct core_plan *t)
{
    uint32_t used[LIMIT_NODES], n_used = 0;
    if (cluster_state(p->cluster) != POOL_PLANNING) {
        if (t->status == ST_OK) plan_fini(&t->plan);
    } else if (t->status != ST_OK) {
        refused(p, t->error.text);
    } else {
        if (t->otherwise) {
            core_say(p, "%s; planned without the file until it is there",
                     t->error.text);
        }
        core_drop_plan(p);
        p->plan = t->plan;
        p->has_plan = true;
        p->planned_ns = core_now(p);
        for (uint32_t i = 0; i < p->plan.n_nodes; i++) {
            if (p->plan.nodes[i].used) used[n_used++] = p->plan.nodes[i].id;
        }
        cluster_planned(p->cluster, used, n_used, core_now(p));
    }
    task_free(t);
    core_act(p);
}
