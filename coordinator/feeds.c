#include "coordinator/feeds.h"

#include <string.h>

#define QUEUE_MAX 1100 /* messages: more than LIMIT_STEPS in flight */

struct feed {
    struct feed *next;
    uint32_t node; /* of the cluster: a worker that restarts is another */
    uint8_t key[KEY_BYTES];
    struct net_socket *socket;
};

/* Workers send results to our own data socket; nothing comes here. */
static void on_nothing(void *arg, struct net_socket *s,
                       const uint8_t key[KEY_BYTES], const char *host,
                       struct net_frame header, struct net_frame tensor)
{
    (void)arg, (void)s, (void)key, (void)host, (void)header, (void)tensor;
}

static enum status open_feed(struct feed **out, struct feeds *f,
                             const struct cluster_node *to)
{
    const struct net_options o = {.name = "data",
                                  .message_max = LIMIT_TENSOR_BYTES,
                                  .queue_max = QUEUE_MAX,
                                  .receive = on_nothing};
    struct feed *feed = mem_zalloc(sizeof *feed);
    if (!feed) return ST_NO_MEMORY;
    feed->node = to->id;
    memcpy(feed->key, to->key, KEY_BYTES);
    const enum status st = net_connect(&feed->socket, f->net, to->host,
                                       to->hello.data_port, to->key, &o, NULL);
    if (st != ST_OK) {
        mem_free(feed);
        return st;
    }
    feed->next = f->first;
    f->first = feed;
    *out = feed;
    return ST_OK;
}

enum status feeds_send(struct feeds *f, const struct cluster_node *to,
                       const struct wire_message *m, struct buf *scratch)
{
    struct feed *feed = f->first;
    while (feed && feed->node != to->id) feed = feed->next;
    enum status st = feed ? ST_OK : open_feed(&feed, f, to);
    scratch->len = 0;
    if (st == ST_OK) st = wire_write(scratch, m, NULL);
    if (st != ST_OK) return st;
    return net_send(feed->socket,
                    (struct net_frame){scratch->data, scratch->len},
                    (struct net_frame){0});
}

static void close_feed(struct feed **at)
{
    struct feed *feed = *at;
    *at = feed->next;
    net_close(feed->socket);
    mem_free(feed);
}

void feeds_drop(struct feeds *f, const uint8_t key[KEY_BYTES])
{
    for (struct feed **at = &f->first; *at;) {
        if (memcmp((*at)->key, key, KEY_BYTES) == 0)
            close_feed(at);
        else
            at = &(*at)->next;
    }
}

void feeds_sweep(struct feeds *f, const struct cluster *c)
{
    for (struct feed **at = &f->first; *at;) {
        if (!cluster_by_id(c, (*at)->node))
            close_feed(at);
        else
            at = &(*at)->next;
    }
}

void feeds_close(struct feeds *f)
{
    while (f->first) close_feed(&f->first);
}

struct net_counters feeds_counters(const struct feeds *f)
{
    struct net_counters sum = {0};
    for (const struct feed *feed = f->first; feed; feed = feed->next) {
        const struct net_counters c = net_counters(feed->socket);
        sum.sent_bytes += c.sent_bytes;
        sum.sent_messages += c.sent_messages;
    }
    return sum;
}
