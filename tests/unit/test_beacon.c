/* test_beacon.c - the datagram of a coordinator: written, doubted, sent and
 * heard. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/announce.h"
#include "tests/lib/engine_rig.h"
#include "worker/find.h"

#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct beacon sample(uint8_t first)
{
    struct beacon b = {.port = 7420};
    snprintf(b.name, sizeof b.name, "school server");
    memset(b.key, 0x5a, sizeof b.key);
    b.key[0] = first;
    return b;
}

static void test_there_and_back(void **state)
{
    (void)state;
    char text[BEACON_BYTES];
    struct beacon b = sample(1), out;
    size_t n = beacon_format(text, &b);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(text, "potluck 1 7420 015a5a", 21);
    assert_true(beacon_parse(&out, text, n));
    assert_memory_equal(&out, &b, sizeof b);
    memset(b.name, 'n', BEACON_NAME_MAX);
    b.port = 65535;
    n = beacon_format(text, &b);
    assert_true(n < BEACON_BYTES);
    assert_true(beacon_parse(&out, text, n));
    assert_string_equal(out.name, b.name);
    snprintf(b.name, sizeof b.name, "a\n\xc3\xa4");
    assert_true(beacon_parse(&out, text, beacon_format(text, &b)));
    assert_string_equal(out.name, "a???");
    b.name[0] = '\0';
    assert_true(beacon_parse(&out, text, beacon_format(text, &b)));
    assert_string_equal(out.name, "-");
}

static void test_what_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "potluck",
        "potluck 1 ",
        "potluck 1 7420",
        "potluck 1 7420 ",
        "potluck 2 7420 " KEY " x",
        "Potluck 1 7420 " KEY " x",
        " potluck 1 7420 " KEY " x",
        "potluck  1 7420 " KEY " x",
        "potluck 1  7420 " KEY " x",
        "potluck 1 0 " KEY " x",
        "potluck 1 07420 " KEY " x",
        "potluck 1 -1 " KEY " x",
        "potluck 1 +1 " KEY " x",
        "potluck 1 65536 " KEY " x",
        "potluck 1 99999999999999999999 " KEY " x",
        "potluck 1 7420 " KEY,
        "potluck 1 7420 " KEY " ",
        "potluck 1 7420 " KEY "0 x",
        "potluck 1 7420 " KEY "\tx",
        "potluck 1 7420 0" KEY " x",
        "potluck 1 7420 g" KEY " x",
        "potluck 1 7420 A" KEY " x",
        "potluck 1 7420 " KEY " x\n",
        "potluck 1 7420 " KEY " \x1b[2J",
        "potluck 1 7420 " KEY " \xc3\xa4",
        "potluck 1 7420 " KEY
        " 0123456789012345678901234567890123456789012345678901234567890123",
    };
    struct beacon out = {.port = 77};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (beacon_parse(&out, bad[i], strlen(bad[i]))) fail_msg("%s", bad[i]);
    }
    char whole[300] = "potluck 1 7420 " KEY " x";
    assert_false(beacon_parse(&out, whole, strlen(whole) + 1)); /* a NUL */
    assert_false(beacon_parse(&out, whole, sizeof whole));
    assert_int_equal(out.port, 77);
    for (size_t n = 0; n < strlen(whole); n++) {
        char *exact = mem_alloc(n); /* reading on would be seen */
        assert_non_null(exact);
        memcpy(exact, whole, n);
        assert_false(beacon_parse(&out, exact, n));
        mem_free(exact);
    }
    assert_true(beacon_parse(&out, whole, strlen(whole)));
}

/* --------------------------------------------------------------- sockets */

/* A port that was free just now. */
static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_ANY)}};
    socklen_t n = sizeof at;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    close(fd);
    return ntohs(at.sin_port);
}

struct senders {
    uint32_t n;
    uint16_t port;
    atomic_bool stop;
};

/* Coordinators that talk much, among others that talk rubbish. */
static void *send_main(void *arg)
{
    struct senders *s = arg;
    struct announce a[FIND_MAX + 4];
    uint64_t now = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct beacon b = sample((uint8_t)i);
        announce_open(&a[i], &b, "127.0.0.1", s->port);
    }
    while (!atomic_load(&s->stop)) {
        for (uint32_t i = 0; i < s->n; i++) {
            struct announce junk = a[i];
            junk.text[3] = '\0';
            beacon_send(&junk, now);
            junk.next_ns = 0;
            junk.n = 0;
            beacon_send(&junk, now);
            beacon_send(&a[i], now);
        }
        now += BEACON_EVERY_MS * UINT64_C(1000000);
        const struct timespec t = {0, 1000000};
        nanosleep(&t, NULL);
    }
    for (uint32_t i = 0; i < s->n; i++) announce_close(&a[i]);
    return NULL;
}

static uint32_t find(struct found out[FIND_MAX], uint32_t n_senders)
{
    struct senders s = {.n = n_senders, .port = free_port()};
    pthread_t thread;
    uint32_t n = UINT32_MAX;
    assert_int_equal(pthread_create(&thread, NULL, send_main, &s), 0);
    const enum status st = find_coordinators(
        out, &n, s.port, n_senders ? 60000 : 50, 500, &rig_err);
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    assert_ok(st);
    return n;
}

static void test_heard(void **state)
{
    (void)state;
    struct found all[FIND_MAX];
    assert_int_equal(find(all, 0), 0);
    assert_int_equal(find(all, 1), 1);
    assert_string_equal(all[0].join.host, "127.0.0.1");
    assert_int_equal(all[0].join.port, 7420);
    assert_int_equal(all[0].join.key[1], 0x5a);
    assert_string_equal(all[0].join.token, "");
    assert_string_equal(all[0].name, "school server");
    assert_int_equal(find(all, 3), 3);
    assert_int_equal(find(all, FIND_MAX + 4), FIND_MAX);
}

static void test_every_two_seconds(void **state)
{
    (void)state;
    struct announce a;
    const struct beacon b = sample(1);
    announce_open(&a, &b, "127.0.0.1", free_port());
    assert_int_equal(announce_deadline(&a), 0);
    beacon_send(&a, 5);
    assert_int_equal(announce_deadline(&a), 5 + UINT64_C(2000000000));
    beacon_send(&a, 6);
    assert_int_equal(announce_deadline(&a), 5 + UINT64_C(2000000000));
    announce_close(&a);
    beacon_send(&a, UINT64_MAX); /* closed: nothing */
    assert_int_equal(announce_deadline(&a), UINT64_MAX);
    announce_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_heard),
        cmocka_unit_test(test_every_two_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
