/* What goes wrong: kills, pauses, cuts, slowness, leaving, failing loads and
 * steps, coordinators that start anew. */
#include "tests/sim/sim.h"

#include <string.h>

#include "tests/sim/sim_worker.h"

static void later(struct sim *s, uint64_t lo_ms, uint64_t hi_ms,
                  void (*run)(struct sim *, struct sim_event *), uint64_t arg)
{
    sim_at(s, s->now + sim_between(s, lo_ms, hi_ms) * SIM_MS, SIM_NOBODY, run,
           NULL, NULL, arg);
}

static void restart_worker(struct sim *s, struct sim_event *e)
{
    const uint32_t who = (uint32_t)e->arg;
    if (s->alive[who]) { /* it still finishes what runs? */
        if (s->workers[who]->leaving) later(s, 1000, 1001, restart_worker, who);
        return;
    }
    sim_note(s, "%u starts", who);
    sim_worker_start(s->workers[who]);
}

static void restart_core(struct sim *s, struct sim_event *e)
{
    (void)e;
    if (s->core) return;
    sim_note(s, "0 starts");
    sim_core_start(s);
}

static void fault_between(struct sim *s, uint32_t a)
{
    uint32_t b;
    do {
        b = (uint32_t)sim_between(s, 0, s->o.n_workers + 1);
    } while (b == a);
    if (sim_chance(s, 0.3)) {
        sim_note(s, "connections of %u and %u break", a, b);
        sim_break(s, a, b);
        return;
    }
    const uint64_t ms = sim_between(s, 50, 7000);
    const bool lossy = sim_chance(s, 0.5);
    sim_note(s, "%u and %u are cut for %llu ms%s", a, b, (unsigned long long)ms,
             lossy ? ", lossy" : "");
    sim_cut(s, a, b, s->now + ms * SIM_MS, lossy);
}

static void pause_until(struct sim *s, uint32_t who, uint64_t until)
{
    if (until > s->frozen_until[who]) s->frozen_until[who] = until;
}

static void freeze(struct sim *s, uint32_t who)
{
    const uint64_t ms = sim_chance(s, 0.5) ? sim_between(s, 10, 2500)
                                           : sim_between(s, 10, 9000);
    sim_note(s, "%u freezes for %llu ms", who, (unsigned long long)ms);
    pause_until(s, who, s->now + ms * SIM_MS);
}

static void one_fault(struct sim *s)
{
    const uint32_t who = (uint32_t)sim_between(s, 1, s->o.n_workers + 1);
    struct sim_worker *w = s->workers[who];
    s->n_faults++;
    switch (sim_between(s, 0, 12)) {
    case 0:
    case 1:
        sim_worker_kill(w);
        later(s, 10, 20000, restart_worker, who);
        break;
    case 2: /* restarted before anybody notices */
        sim_worker_kill(w);
        later(s, 1, 1500, restart_worker, who);
        break;
    case 3:
        freeze(s, who);
        break;
    case 4:
    case 5:
    case 6:
        fault_between(s, who);
        break;
    case 7:
        w->slow = 1 + (double)sim_between(s, 0, 30);
        sim_note(s, "%u is %.0f times slower", who, w->slow);
        break;
    case 8:
        sim_worker_leave(w);
        later(s, 3000, 25000, restart_worker, who);
        break;
    case 9:
        w->p_fail_load = sim_chance(s, 0.5) ? 0.5 : 0;
        w->p_hang_load = sim_chance(s, 0.2) ? 0.1 : 0;
        break;
    case 10:
        w->p_fail_step = sim_chance(s, 0.5) ? 0.02 : 0;
        break;
    default:
        if (!s->o.restarts || !s->core) {
            pause_until(s, 0, s->now + sim_between(s, 1, 4000) * SIM_MS);
            break;
        }
        sim_note(s, "0 is killed");
        sim_core_stop(s);
        later(s, 1, 8000, restart_core, 0);
        break;
    }
}

static void fault(struct sim *s, struct sim_event *e)
{
    (void)e;
    if (s->calm) return;
    one_fault(s);
    later(s, 10, 6000, fault, 0);
}

void sim_faults_start(struct sim *s)
{
    if (s->o.chaos_ns != 0) later(s, 500, 8000, fault, 0);
}

void sim_faults_stop(struct sim *s)
{
    s->calm = true;
    sim_note(s, "calm");
    /* cuts and pauses end by themselves: sooner, what came after them would
     * overtake what they hold */
    if (!s->core) sim_core_start(s);
    for (uint32_t i = 1; i <= s->o.n_workers; i++) {
        struct sim_worker *w = s->workers[i];
        w->p_fail_load = w->p_fail_step = w->p_hang_load = 0;
        w->slow = 1;
        /* one that leaves is still to come back */
        if (!s->alive[i])
            sim_worker_start(w);
        else if (w->leaving)
            later(s, 1000, 1001, restart_worker, i);
    }
}
