#include "worker/link.h"

#include "proto/limits.h"

#define MS_NS UINT64_C(1000000)

void link_init(struct link *l)
{
    *l = (struct link){.state = LINK_JOINING,
                       .hello_ms = LINK_HELLO_MS,
                       .heartbeat_ms = HEARTBEAT_MS,
                       .lease_ms = LEASE_MS};
}

void link_heard(struct link *l, uint64_t now_ns)
{
    l->heard_ns = now_ns;
}

bool link_welcome(struct link *l, uint64_t boot, uint32_t node,
                  uint32_t heartbeat_ms, uint32_t lease_ms, uint64_t now_ns)
{
    link_heard(l, now_ns);
    if (l->state == LINK_OVER || l->state == LINK_LEAVING) return false;
    if (l->state == LINK_MEMBER && l->boot == boot && l->node == node) {
        return false;
    }
    l->state = LINK_MEMBER;
    l->boot = boot;
    l->node = node;
    l->heartbeat_ms = heartbeat_ms ? heartbeat_ms : HEARTBEAT_MS;
    l->lease_ms = lease_ms ? lease_ms : LEASE_MS;
    l->beat_ns = now_ns;
    l->assigned = false;
    l->pending = LINK_NOTHING;
    return true;
}

void link_assigned(struct link *l, bool assigned)
{
    l->assigned = assigned;
}

static void lose(struct link *l)
{
    l->state = LINK_JOINING;
    l->assigned = l->said_hello = false;
    l->hello_ms = LINK_HELLO_MS;
    l->pending = LINK_LOST;
}

bool link_refused(struct link *l, enum status why, uint64_t now_ns)
{
    link_heard(l, now_ns);
    if (l->state == LINK_LEAVING || l->state == LINK_OVER) return true;
    if (why != ST_NOT_FOUND && why != ST_FULL) {
        l->state = LINK_OVER;
        return false;
    }
    if (l->state == LINK_MEMBER) lose(l);
    l->hello_ms = why == ST_FULL ? LINK_PENDING_MS : LINK_HELLO_MS;
    return true;
}

static void say_bye(struct link *l)
{
    l->state = LINK_OVER;
    l->pending = LINK_SEND_BYE;
}

void link_leave(struct link *l, uint64_t now_ns)
{
    if (l->state == LINK_OVER) return;
    if (l->state == LINK_MEMBER && l->assigned) {
        l->state = LINK_LEAVING;
        l->leave_ns = now_ns;
        l->pending = LINK_SEND_DRAIN;
        return;
    }
    say_bye(l);
}

static bool passed(uint64_t since_ns, uint64_t ms, uint64_t now_ns)
{
    return now_ns - since_ns >= ms * MS_NS;
}

/* A server of another key, a wrong port, a machine that is off: all of them
 * look the same from here, so after a while it is said, and then rarely. */
static bool long_silent(struct link *l, uint64_t now_ns)
{
    const uint64_t since =
        l->heard_ns > l->joining_ns ? l->heard_ns : l->joining_ns;
    const bool told = l->told_ns > since;
    if (!passed(told ? l->told_ns : since,
                told ? LINK_AGAIN_MS : LINK_SILENT_MS, now_ns)) {
        return false;
    }
    l->told_ns = now_ns;
    return true;
}

enum link_action link_next(struct link *l, uint64_t now_ns)
{
    const enum link_action first = l->pending;
    l->pending = LINK_NOTHING;
    if (first != LINK_NOTHING || l->state == LINK_OVER) return first;
    if (l->state == LINK_JOINING) {
        if (l->said_hello && !passed(l->hello_ns, l->hello_ms, now_ns)) {
            return long_silent(l, now_ns) ? LINK_SAY_SILENT : LINK_NOTHING;
        }
        if (!l->said_hello) l->joining_ns = now_ns;
        l->said_hello = true;
        l->hello_ns = now_ns;
        return LINK_SEND_HELLO;
    }
    if (l->state == LINK_LEAVING &&
        (!l->assigned || passed(l->leave_ns, LINK_LEAVE_MS, now_ns) ||
         passed(l->heard_ns, l->lease_ms, now_ns))) {
        l->state = LINK_OVER;
        return LINK_SEND_BYE;
    }
    if (l->state == LINK_MEMBER && passed(l->heard_ns, l->lease_ms, now_ns)) {
        lose(l);
        l->pending = LINK_NOTHING;
        return LINK_LOST;
    }
    if (!passed(l->beat_ns, l->heartbeat_ms, now_ns)) return LINK_NOTHING;
    l->beat_ns = now_ns;
    return LINK_SEND_HEARTBEAT;
}

static uint64_t left_ms(uint64_t since_ns, uint64_t ms, uint64_t now_ns)
{
    const uint64_t end = since_ns + ms * MS_NS;
    return now_ns >= end ? 0 : (end - now_ns + MS_NS - 1) / MS_NS;
}

uint64_t link_wait_ms(const struct link *l, uint64_t now_ns)
{
    if (l->pending != LINK_NOTHING) return 0;
    if (l->state == LINK_OVER) return LINK_HELLO_MS;
    if (l->state == LINK_JOINING) {
        return l->said_hello ? left_ms(l->hello_ns, l->hello_ms, now_ns) : 0;
    }
    const uint64_t beat = left_ms(l->beat_ns, l->heartbeat_ms, now_ns);
    const uint64_t lease = left_ms(l->heard_ns, l->lease_ms, now_ns);
    return beat < lease ? beat : lease;
}
