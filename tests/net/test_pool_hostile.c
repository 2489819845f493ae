/* test_pool_hostile.c - strangers on every port of a pool: silent, babbling,
 * half of a handshake.  Prompts are answered meanwhile, and nothing dies. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/lib/fault_rig.h"

#define N_WORKERS 2
#define PORTS_MAX 16
#define N_SILENT  200
#define N_NOISE   6       /* connections a port */
#define NOISE     (50000) /* bytes each */

/* ZMTP 3.0's greeting: signature, version, mechanism, as-server, filler. */
#define GREETING 64

static struct fault_rig rig;
static uint16_t ports[PORTS_MAX];
static size_t n_ports;

static void begin(void)
{
    fault_begin(&rig);
    fault_serve(&rig, N_WORKERS, (const char *const[]){"--spread", NULL});
    n_ports = lan_ports(rig.lan.coordinator, ports, PORTS_MAX);
    assert_int_equal(n_ports, 4); /* control, data, bulk, HTTP */
    for (uint32_t i = 1; i <= N_WORKERS; i++) {
        const size_t n =
            lan_ports(rig.lan.workers[i], ports + n_ports, PORTS_MAX - n_ports);
        assert_int_equal(n, 1);
        n_ports += n;
    }
}

/* As before: the same workers in the same epoch, and the same bytes. */
static void unharmed(json_int_t epoch)
{
    fault_answers(&rig, "0");
    json_t *j = lan_status(&rig.lan);
    assert_int_equal(json_array_size(json_object_get(j, "nodes")), N_WORKERS);
    assert_int_equal(json_integer_value(json_object_get(j, "epoch")), epoch);
    json_decref(j);
}

static json_int_t epoch_now(void)
{
    json_t *j = lan_status(&rig.lan);
    const json_int_t epoch = json_integer_value(json_object_get(j, "epoch"));
    json_decref(j);
    return epoch;
}

static int dial(uint16_t port)
{
    const struct timeval second = {.tv_sec = 1};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* As much as the other side takes before it hangs up. */
static void push(int fd, const uint8_t *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        const ssize_t put = send(fd, bytes + at, n - at, MSG_NOSIGNAL);
        if (put <= 0) return;
        at += (size_t)put;
    }
}

static void test_silent_peers(void **state)
{
    (void)state;
    int fd[N_SILENT];
    begin();
    const json_int_t epoch = epoch_now();
    for (size_t p = 0; p < n_ports; p++) {
        for (uint32_t i = 0; i < N_SILENT; i++) fd[i] = dial(ports[p]);
        unharmed(epoch);
        for (uint32_t i = 0; i < N_SILENT; i++) close(fd[i]);
    }
    unharmed(epoch);
    fault_end(&rig);
}

static void make_noise(struct rng *rng, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (uint8_t)rng_below(rng, 256);
}

static void greeting(uint8_t g[GREETING])
{
    memset(g, 0, GREETING);
    g[0] = 0xff;
    g[8] = 1;
    g[9] = 0x7f;
    g[10] = 3;
    memcpy(g + 12, "CURVE", 5);
}

/* Random from the first byte; behind a whole greeting; in place of a part of
 * it; behind the beginning of HTTP requests. */
static void test_noise_on_every_port(void **state)
{
    (void)state;
    static const char *const http[] = {
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
        "\r\n",
        "GET /health HTTP/1.1\r\nX: ",
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
        "chunked\r\n\r\nfffffff0\r\n"};
    struct rng rng = {.state = 11};
    uint8_t *noise = mem_alloc(NOISE);
    assert_non_null(noise);
    begin();
    const json_int_t epoch = epoch_now();
    for (size_t p = 0; p < n_ports; p++) {
        int fd[N_NOISE];
        for (uint32_t i = 0; i < N_NOISE; i++) {
            make_noise(&rng, noise, NOISE);
            if (i == 1 || i == 2) greeting(noise);
            if (i == 2) noise[GREETING] = 4; /* a command, and short */
            if (i >= 3) memcpy(noise, http[i - 3], strlen(http[i - 3]));
            fd[i] = dial(ports[p]);
            push(fd[i], noise, NOISE);
        }
        unharmed(epoch);
        for (uint32_t i = 0; i < N_NOISE; i++) close(fd[i]);
    }
    unharmed(epoch);
    mem_free(noise);
    fault_end(&rig);
}

static void test_truncated_handshakes(void **state)
{
    (void)state;
    struct rng rng = {.state = 13};
    uint8_t bytes[GREETING + 202];
    begin();
    const json_int_t epoch = epoch_now();
    for (size_t p = 0; p < n_ports; p++) {
        int fd[GREETING];
        for (size_t n = 0; n < GREETING; n++) {
            greeting(bytes);
            /* CURVE's HELLO: 200 bytes, of a version and keys that are none */
            make_noise(&rng, bytes + GREETING, sizeof bytes - GREETING);
            bytes[GREETING] = 4;
            bytes[GREETING + 1] = 200;
            memcpy(bytes + GREETING + 2, "\5HELLO\1\0", 8);
            fd[n] = dial(ports[p]);
            push(fd[n], bytes, n % 2 ? n : sizeof bytes - n);
            if (n % 3 == 0) shutdown(fd[n], SHUT_WR);
        }
        unharmed(epoch);
        for (size_t n = 0; n < GREETING; n++) close(fd[n]);
    }
    unharmed(epoch);
    fault_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_peers),
        cmocka_unit_test(test_noise_on_every_port),
        cmocka_unit_test(test_truncated_handshakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
