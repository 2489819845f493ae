#include "common/ring.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

struct ring {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    uint32_t capacity, first, n;
    void *items[];
};

enum status ring_create(struct ring **out, uint32_t capacity)
{
    struct ring *r = mem_zalloc(sizeof *r + capacity * sizeof r->items[0]);
    if (!r) return ST_NO_MEMORY;
    r->capacity = capacity;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->filled, &attr);
    pthread_condattr_destroy(&attr);
    *out = r;
    return ST_OK;
}

void ring_free(struct ring *r)
{
    if (!r) return;
    pthread_cond_destroy(&r->filled);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

static bool push(struct ring *r, void *item, bool front)
{
    pthread_mutex_lock(&r->lock);
    const bool room = r->n < r->capacity;
    if (room && front) {
        r->first = (r->first + r->capacity - 1) % r->capacity;
        r->items[r->first] = item;
    } else if (room) {
        r->items[(r->first + r->n) % r->capacity] = item;
    }
    r->n += room;
    if (room) pthread_cond_signal(&r->filled);
    pthread_mutex_unlock(&r->lock);
    return room;
}

bool ring_push(struct ring *r, void *item)
{
    return push(r, item, false);
}

bool ring_push_front(struct ring *r, void *item)
{
    return push(r, item, true);
}

static void *take(struct ring *r)
{
    if (r->n == 0) return NULL;
    void *item = r->items[r->first];
    r->first = (r->first + 1) % r->capacity;
    r->n--;
    return item;
}

void *ring_pop(struct ring *r)
{
    pthread_mutex_lock(&r->lock);
    void *item = take(r);
    pthread_mutex_unlock(&r->lock);
    return item;
}

void *ring_wait(struct ring *r, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&r->lock);
    int rc = 0;
    while (r->n == 0 && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&r->filled, &r->lock, &until);
    }
    void *item = take(r);
    pthread_mutex_unlock(&r->lock);
    return item;
}
