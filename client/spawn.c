#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define GRACE_NS UINT64_C(3000000000)

static bool runnable(char path[SPAWN_PATH_BYTES], const char *dir, size_t n_dir,
                     const char *name)
{
    const int n =
        snprintf(path, SPAWN_PATH_BYTES, "%.*s/%s", (int)n_dir, dir, name);
    return n > 0 && n < SPAWN_PATH_BYTES && access(path, X_OK) == 0;
}

enum status spawn_find(char path[SPAWN_PATH_BYTES], const char *name,
                       struct error *err)
{
    char self[SPAWN_PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) *slash = '\0';
    if (slash && runnable(path, self, strlen(self), name)) return ST_OK;
    const char *at = getenv("PATH");
    while (at && *at) {
        const size_t k = strcspn(at, ":");
        if (k > 0 && runnable(path, at, k, name)) return ST_OK;
        at += k + (at[k] == ':');
    }
    return error_set(err, ST_NOT_FOUND,
                     "%s is neither in %.200s, where potluck is, nor in PATH: "
                     "install or build it too",
                     name, slash ? self : "its folder");
}

enum status spawn_find_data(char path[SPAWN_PATH_BYTES],
                            const char *const *places, struct error *err)
{
    char self[SPAWN_PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && places[i]; i++) {
        const int k =
            snprintf(path, SPAWN_PATH_BYTES, "%s/%s", self, places[i]);
        if (k > 0 && k < SPAWN_PATH_BYTES && access(path, R_OK) == 0)
            return ST_OK;
    }
    const char *want = places[0] ? places[0] : "a file";
    const char *name = strrchr(want, '/');
    return error_set(err, ST_NOT_FOUND, "%s is not with potluck in %.200s",
                     name ? name + 1 : want, self);
}

enum status spawn_become(const char *name, char **argv, struct error *err)
{
    char path[SPAWN_PATH_BYTES];
    const enum status st = spawn_find(path, name, err);
    if (st != ST_OK) return st;
    argv[0] = path;
    execv(path, argv);
    return error_set(err, ST_IO, "%s: %s", path, strerror(errno));
}

/* Between fork and exec. The parent may be gone already, in which case the
 * signal for its death never comes. */
NORETURN static void child(const char *path, const char *const *argv, int log,
                           pid_t parent)
{
    const int in = open("/dev/null", O_RDONLY);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        setpgid(0, 0) == 0 && in >= 0 && dup2(in, 0) == 0 &&
        dup2(log, 1) == 1 && dup2(log, 2) == 2) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        /* execv does not write to the strings */
        execv(path, (char *const *)(uintptr_t)argv);
        const char *why = strerror(errno);
        if (write(2, why, strlen(why)) < 0) _exit(126);
    }
    _exit(127);
}

enum status spawn_child(pid_t *pid, const char *path, const char *const *argv,
                        const char *log_path, struct error *err)
{
    const int log =
        open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) {
        return error_set(err, ST_IO, "%s: %s", log_path, strerror(errno));
    }
    const pid_t parent = getpid();
    const pid_t got = fork();
    if (got == 0) child(path, argv, log, parent);
    const int e = errno;
    close(log);
    if (got < 0) return error_set(err, ST_IO, "%s: %s", path, strerror(e));
    *pid = got;
    return ST_OK;
}

bool spawn_ended(pid_t pid, char how[32])
{
    int status;
    if (waitpid(pid, &status, WNOHANG) != pid) return false;
    if (WIFSIGNALED(status))
        snprintf(how, 32, "signal %d", WTERMSIG(status));
    else
        snprintf(how, 32, "exit status %d", WEXITSTATUS(status));
    return true;
}

void spawn_end_all(pid_t *pids, size_t n)
{
    char how[32];
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        if (pids[i] == 0) continue;
        kill(pids[i], SIGTERM);
        left++;
    }
    const uint64_t end = clock_now_ns() + GRACE_NS;
    while (left > 0 && clock_now_ns() < end) {
        for (size_t i = 0; i < n; i++) {
            if (pids[i] == 0 || !spawn_ended(pids[i], how)) continue;
            pids[i] = 0;
            left--;
        }
        const struct timespec t = {.tv_nsec = 10000000};
        if (left > 0) nanosleep(&t, NULL);
    }
    for (size_t i = 0; i < n; i++) {
        if (pids[i] == 0) continue;
        kill(pids[i], SIGKILL);
        while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR) continue;
        pids[i] = 0;
    }
}
