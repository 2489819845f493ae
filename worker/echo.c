#include "worker/echo.h"

#define MS_NS UINT64_C(1000000)

enum { THERE = ECHO_SMALL, BACK, DONE };

static struct wire_echo send(struct echo *e, uint64_t now_ns, uint32_t *bytes)
{
    e->sent_ns = now_ns;
    *bytes = e->phase == THERE ? ECHO_BYTES : 0;
    return (struct wire_echo){.n = ++e->n,
                              .reply_bytes = e->phase == BACK ? ECHO_BYTES : 0};
}

struct wire_echo echo_begin(struct echo *e, uint64_t now_ns, uint32_t *bytes)
{
    *e = (struct echo){.n = e->n, .start_ns = now_ns};
    return send(e, now_ns, bytes);
}

bool echo_reply(struct echo *e, const struct wire_echo *reply, uint64_t now_ns,
                struct wire_echo *next, uint32_t *bytes)
{
    if (e->phase >= DONE || reply->n != e->n) return false;
    const uint64_t ns = now_ns > e->sent_ns ? now_ns - e->sent_ns : 1;
    if (e->phase < THERE) {
        /* the first also waits for the connection */
        if (e->rtt_ns == 0 || ns < e->rtt_ns) e->rtt_ns = ns;
    } else if (e->phase == THERE) {
        e->there_ns = ns;
    } else {
        e->back_ns = ns;
    }
    if (++e->phase == DONE) return false;
    *next = send(e, now_ns, bytes);
    return true;
}

bool echo_done(const struct echo *e, uint64_t now_ns)
{
    return e->phase >= DONE || now_ns - e->start_ns > ECHO_WAIT_MS * MS_NS;
}

void echo_report(const struct echo *e, struct wire_report *r)
{
    r->link_bytes_per_s = r->link_latency_s = 0;
    if (e->rtt_ns == 0) return;
    r->link_latency_s = (double)e->rtt_ns / 2e9;
    if (e->there_ns == 0 || e->back_ns == 0) return;
    /* the slower way; a large one that seems faster than a small one is noise
     */
    const uint64_t worst = e->there_ns > e->back_ns ? e->there_ns : e->back_ns;
    const uint64_t ns = worst > e->rtt_ns ? worst - e->rtt_ns : 1000;
    r->link_bytes_per_s = ECHO_BYTES * 1e9 / (double)ns;
}
