#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status fail_errno(struct error *err, const char *path,
                              const char *doing, int number)
{
    char text[96];
    return error_set(err, ST_IO, "%.180s cannot be %s: %s", path, doing,
                     strerror_r(number, text, sizeof text));
}

/* ----------------------------------------------------------- folders */

enum status files_xdg(char path[FILES_PATH_BYTES], const char *variable,
                      const char *under_home, const char *below,
                      const char *option, struct error *err)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    int n = -1;
    if (base && base[0] == '/') {
        n = snprintf(path, FILES_PATH_BYTES, "%s/potluck%s", base, below);
    } else if (home && home[0] == '/') {
        n = snprintf(path, FILES_PATH_BYTES, "%s/%s/potluck%s", home,
                     under_home, below);
    } else {
        return error_set(err, ST_USAGE, "neither %s nor HOME is set: give %s",
                         variable, option);
    }
    if (n > 0 && n < FILES_PATH_BYTES) return ST_OK;
    return error_set(err, ST_USAGE, "%s or HOME is too long: give %s", variable,
                     option);
}

enum status files_make_dir(const char *path, struct error *err)
{
    char part[FILES_PATH_BYTES];
    struct stat s;
    const size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        return error_set(err, ST_USAGE, "\"%.100s\" is not a path", path);
    }
    memcpy(part, path, n + 1);
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        const bool last = *at == '\0';
        *at = '\0';
        /* a folder that is there may be one that we cannot write to */
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            const int number = errno;
            if (stat(part, &s) != 0 || !S_ISDIR(s.st_mode)) {
                return fail_errno(err, part, "made", number);
            }
        }
        if (last) break;
        *at = '/';
    }
    if (stat(part, &s) != 0) return fail_errno(err, part, "used", errno);
    if (S_ISDIR(s.st_mode)) return ST_OK;
    return error_set(err, ST_IO, "%.180s is not a folder", part);
}

/* ------------------------------------------------------------- files */

static bool write_all(int fd, const char *data, size_t n)
{
    while (n != 0) {
        const ssize_t put = write(fd, data, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        data += put;
        n -= (size_t)put;
    }
    return true;
}

/* A new name lasts through a power cut only once its folder is on disk. Some
 * file systems cannot, and then there is nothing to be done. */
static void sync_folder_of(const char *path)
{
    char dir[FILES_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    if (n >= sizeof dir) return;
    memcpy(dir, path, n);
    dir[n] = '\0';
    const int fd = open(n ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

enum status files_write(const char *path, const void *data, size_t n,
                        mode_t mode, struct error *err)
{
    char temp[FILES_PATH_BYTES];
    const int length = snprintf(temp, sizeof temp, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temp) {
        return error_set(err, ST_USAGE, "%.100s...: too long for a path", path);
    }
    const int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) return fail_errno(err, path, "written", errno);
    bool ok = fchmod(fd, mode) == 0 && write_all(fd, data, n) && fsync(fd) == 0;
    int number = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        number = errno;
    }
    if (ok && rename(temp, path) != 0) {
        ok = false;
        number = errno;
    }
    if (!ok) {
        (void)unlink(temp);
        return fail_errno(err, path, "written", number);
    }
    sync_folder_of(path);
    return ST_OK;
}

static enum status read_all(struct buf *out, int fd, const char *path,
                            struct error *err)
{
    char part[4096];
    for (;;) {
        const ssize_t got = read(fd, part, sizeof part);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(err, path, "read", errno);
        if (got == 0) return ST_OK;
        const enum status st = buf_append(out, part, (size_t)got);
        if (st == ST_TOO_LARGE) {
            return error_set(err, st, "%.180s is over %zu bytes", path,
                             out->max);
        }
        if (st != ST_OK) return error_set(err, st, "%.180s: no memory", path);
    }
}

enum status files_read(struct buf *out, const char *path, mode_t refused,
                       struct error *err)
{
    struct stat s;
    const size_t before = out->len;
    /* O_NONBLOCK: a FIFO must not stop us. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        return error_set(err, ST_NOT_FOUND, "%.180s is not there", path);
    }
    if (fd < 0) return fail_errno(err, path, "read", errno);
    enum status st = ST_OK;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        st = error_set(err, ST_INVALID, "%.180s is not a file", path);
    } else if ((s.st_mode & refused) != 0) {
        st = error_set(err, ST_INVALID,
                       "%.140s is open to others: chmod 600 "
                       "%.140s",
                       path, path);
    }
    if (st == ST_OK) st = read_all(out, fd, path, err);
    close(fd);
    if (st != ST_OK && out->len != before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return st;
}
