#include "worker/post.h"

enum status post(struct net_socket *s, const struct wire_message *m,
                 const void *tensor, size_t bytes)
{
    struct buf b;
    if (!s) return ST_NOT_FOUND;
    buf_init(&b, LIMIT_ASSIGN_BYTES);
    enum status st = wire_write(&b, m, NULL);
    if (st == ST_OK) {
        st = net_send(s, (struct net_frame){b.data, b.len},
                      (struct net_frame){tensor, bytes});
    }
    buf_fini(&b);
    return st;
}

void post_or_lose(struct net_socket *s, const struct wire_message *m)
{
    const enum status st = post(s, m, NULL, 0);
    (void)st;
}

void post_echo(struct net_socket *s, struct wire_echo echo, uint32_t bytes)
{
    const struct wire_message m = {.kind = WIRE_ECHO, .echo = echo};
    void *tensor = bytes ? mem_zalloc(bytes) : NULL;
    const enum status st = post(s, &m, tensor, tensor ? bytes : 0);
    (void)st; /* no answer: the link's figures stay unknown */
    mem_free(tensor);
}

void post_echo_answer(struct net_socket *s, const uint8_t key[KEY_BYTES],
                      const struct wire_echo *e)
{
    const struct wire_message m = {.kind = WIRE_ECHO, .echo = {.n = e->n}};
    struct buf b;
    void *tensor = e->reply_bytes ? mem_zalloc(e->reply_bytes) : NULL;
    buf_init(&b, LIMIT_HEADER_BYTES);
    if (wire_write(&b, &m, NULL) == ST_OK && (tensor || !e->reply_bytes)) {
        const enum status st =
            net_send_to(s, key, (struct net_frame){b.data, b.len},
                        (struct net_frame){tensor, e->reply_bytes});
        (void)st;
    }
    buf_fini(&b);
    mem_free(tensor);
}
