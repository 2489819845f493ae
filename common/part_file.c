#include "common/part_file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFIX ".part-"
#define TRIES 100u

enum status part_file_create(const char *path, char *temp, size_t size, int *fd,
                             struct error *err)
{
    int why = EEXIST;
    for (unsigned i = 0; i < TRIES && why == EEXIST; i++) {
        const int n =
            snprintf(temp, size, "%s" INFIX "%ld-%u", path, (long)getpid(), i);
        if (n < 0 || (size_t)n >= size) {
            return error_set(err, ST_USAGE, "%.100s...: too long for a path",
                             path);
        }
        const int made =
            open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (made < 0) {
            why = errno;
            continue;
        }
        /* A sweep may have it for a moment, and sees that we live; where there
         * are no locks, the process alone is the proof. */
        if (flock(made, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
            *fd = made;
            return ST_OK;
        }
        (void)close(made);
        (void)unlink(temp);
    }
    const bool full = why == ENOSPC || why == EDQUOT;
    return error_set(err, full ? ST_FULL : ST_IO,
                     "%.180s cannot be written: %s", path, strerror(why));
}

/* The process in PATH.part-PID-N; 0: it is no such name. */
static pid_t writer_of(const char *name, const char *base)
{
    const size_t n = strlen(base), infix = strlen(INFIX);
    if (strncmp(name, base, n) != 0 || strncmp(name + n, INFIX, infix) != 0) {
        return 0;
    }
    const char *at = name + n + infix;
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*at)) return 0;
    const long pid = strtol(at, &end, 10);
    if (errno || *end != '-' || !isdigit((unsigned char)end[1])) return 0;
    if (end[1 + strspn(end + 1, "0123456789")] != '\0') return 0;
    return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

/* Ours, a file, its writer gone and its lock free: then removed. */
static bool remove_dead(int folder, const char *name, pid_t pid,
                        uint64_t *bytes)
{
    struct stat s, now;
    if (kill(pid, 0) == 0 || errno != ESRCH) return false;
    const int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return false;
    const bool dead = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) &&
                      s.st_uid == geteuid() &&
                      flock(fd, LOCK_EX | LOCK_NB) == 0 &&
                      fstatat(folder, name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
                      now.st_ino == s.st_ino && now.st_dev == s.st_dev &&
                      unlinkat(folder, name, 0) == 0;
    if (dead) *bytes = (uint64_t)s.st_size;
    (void)close(fd);
    return dead;
}

void part_file_sweep(const char *path,
                     void (*said)(void *arg, const char *name, uint64_t bytes),
                     void *arg)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    char folder[4096];
    const int n =
        snprintf(folder, sizeof folder, "%.*s",
                 slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (n < 0 || (size_t)n >= sizeof folder) return;
    DIR *d = opendir(folder);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        const pid_t pid = writer_of(e->d_name, base);
        uint64_t bytes = 0;
        if (pid == 0 || !remove_dead(dirfd(d), e->d_name, pid, &bytes)) {
            continue;
        }
        if (said) said(arg, e->d_name, bytes);
    }
    (void)closedir(d);
}
