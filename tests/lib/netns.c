/* netns.c - see the header. */
#include "tests/lib/netns.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/compiler.h"

#define WORDS_MAX 24

/* Runs "ip netns add x" and the like; its exit code. */
static int run_words(const char *line, bool quiet)
{
    char words[512];
    const char *argv[WORDS_MAX + 1] = {0};
    size_t n = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *p = words; *p && n < WORDS_MAX;) {
        argv[n++] = p;
        p += strcspn(p, " ");
        if (*p) *p++ = '\0';
    }
    const pid_t pid = fork();
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);
        if (null >= 0 && quiet) {
            dup2(null, 1);
            dup2(null, 2);
        }
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void must(const char *fmt, ...) PRINTF_LIKE(1, 2);

static void must(const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    const int code = run_words(line, false);
    if (code != 0) fail_msg("%s: exit code %d", line, code);
}

static void without(const char *what)
{
    const char *ci = getenv("CI");
    if (ci && strcmp(ci, "true") == 0) fail_msg("%s", what);
    print_message("SKIPPED: %s\n", what);
    skip();
}

#define SWITCH(n) ((n)->name[NETNS_HOSTS])

/* ------------------------------------------------------------ removal */

static void remove_one(const char *name)
{
    char line[64], pids[64];
    snprintf(line, sizeof line, "ip netns pids %s", name);
    FILE *f = popen(line, "r");
    while (f && fgets(pids, sizeof pids, f)) {
        const long pid = strtol(pids, NULL, 10);
        if (pid > 1) kill((pid_t)pid, SIGKILL);
    }
    if (f) pclose(f);
    snprintf(line, sizeof line, "ip netns del %s", name);
    run_words(line, true);
}

/* Waits in a session of its own until the test has ended, be it by a signal:
 * then the pipe is closed at the other end. */
static void janitor(const struct netns *n, int fd)
{
    char byte;
    setsid();
    for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
    const int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(null, i);
    while (read(fd, &byte, 1) > 0) continue;
    for (uint32_t i = 0; i < n->n_hosts; i++) remove_one(n->name[i]);
    remove_one(n->name[NETNS_HOSTS]);
    _exit(0);
}

static void hire_janitor(struct netns *n)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    /* programs that the test starts do not keep it open */
    assert_int_equal(fcntl(fds[1], F_SETFD, FD_CLOEXEC), 0);
    n->janitor = fork();
    assert_true(n->janitor >= 0);
    if (n->janitor == 0) {
        close(fds[1]);
        janitor(n, fds[0]);
    }
    close(fds[0]);
    n->janitor_fd = fds[1];
}

void netns_end(struct netns *n)
{
    if (n->janitor == 0) return;
    close(n->janitor_fd);
    waitpid(n->janitor, NULL, 0);
    *n = (struct netns){0};
}

/* ------------------------------------------------------------- making */

static void name_all(struct netns *n, uint32_t n_hosts)
{
    *n = (struct netns){.n_hosts = n_hosts};
    for (uint32_t i = 0; i <= NETNS_HOSTS; i++) {
        snprintf(n->name[i], sizeof n->name[i], "pl%ld-%u", (long)getpid(), i);
        if (i == NETNS_HOSTS) continue;
        snprintf(n->address[i], sizeof n->address[i], "10.77.0.%u", i + 2);
        n->prefix[i][0] = "ip";
        n->prefix[i][1] = "netns";
        n->prefix[i][2] = "exec";
        n->prefix[i][3] = n->name[i];
    }
}

static void add_host(struct netns *n, uint32_t i)
{
    const char *host = n->name[i];
    must("ip netns add %s", host);
    must("ip link add e0 netns %s type veth peer name p%u netns %s", host, i,
         SWITCH(n));
    must("ip -n %s link set lo up", host);
    must("ip -n %s link set p%u up", SWITCH(n), i);
    must("ip -n %s addr add %s/32 dev e0", host, n->address[i]);
    netns_link(n, i, true);
}

void netns_begin(struct netns *n, uint32_t n_hosts)
{
    *n = (struct netns){0};
    if (geteuid() != 0) without("network namespaces need root");
    if (run_words("ip netns list", true) != 0 ||
        run_words("tc -V", true) != 0) {
        without("network namespaces need ip and tc (iproute2)");
    }
    assert_in_range(n_hosts, 1, NETNS_HOSTS);
    name_all(n, n_hosts);
    hire_janitor(n);
    must("ip netns add %s", SWITCH(n));
    must("ip -n %s link set lo up", SWITCH(n));
    must("ip -n %s addr add 10.77.0.1/32 dev lo", SWITCH(n));
    must("ip netns exec %s sysctl -q -w net.ipv4.ip_forward=1", SWITCH(n));
    for (uint32_t i = 0; i < n_hosts; i++) add_host(n, i);
}

/* ------------------------------------------------------------ changing */

void netns_rate(struct netns *n, uint32_t mbit)
{
    char tbf[96];
    /* the bucket holds what the rate lets through in some ms */
    snprintf(tbf, sizeof tbf, "tbf rate %umbit burst %ukb latency 100ms", mbit,
             mbit >= 1000 ? 256u : 32u);
    for (uint32_t i = 0; i < n->n_hosts; i++) {
        if (mbit == 0) {
            must("tc -n %s qdisc del dev e0 root", n->name[i]);
            must("tc -n %s qdisc del dev p%u root", SWITCH(n), i);
            continue;
        }
        must("tc -n %s qdisc replace dev e0 root %s", n->name[i], tbf);
        must("tc -n %s qdisc replace dev p%u root %s", SWITCH(n), i, tbf);
    }
}

/* Routes go when a link goes. */
void netns_link(struct netns *n, uint32_t i, bool up)
{
    const char *host = n->name[i];
    must("ip -n %s link set e0 %s", host, up ? "up" : "down");
    if (!up) return;
    must("ip -n %s route replace 10.77.0.1/32 dev e0", host);
    must("ip -n %s route replace default via 10.77.0.1", host);
    must("ip -n %s route replace %s/32 dev p%u", SWITCH(n), n->address[i], i);
}

void netns_between(struct netns *n, uint32_t a, uint32_t b, bool open)
{
    const char *from = n->address[a], *to = n->address[b];
    for (int i = 0; i < 2; i++) {
        must("ip -n %s rule %s from %s to %s pref 10 blackhole", SWITCH(n),
             open ? "del" : "add", from, to);
        from = n->address[b];
        to = n->address[a];
    }
}

void netns_neighbours(struct netns *n, uint32_t a, uint32_t b)
{
    const uint32_t ends[] = {a, b};
    must("ip link add n%u netns %s type veth peer name n%u netns %s", b,
         n->name[a], a, n->name[b]);
    for (uint32_t i = 0; i < 2; i++) {
        const char *host = n->name[ends[i]];
        must("ip -n %s addr add 10.78.%u.%u/30 brd + dev n%u", host,
             a * NETNS_HOSTS + b, i + 1, ends[1 - i]);
        must("ip -n %s link set n%u up", host, ends[1 - i]);
        /* the others reach that address by way of the switch */
        must("ip -n %s route add 10.78.%u.%u/32 via %s dev p%u onlink",
             SWITCH(n), a * NETNS_HOSTS + b, i + 1, n->address[ends[i]],
             ends[i]);
    }
}
