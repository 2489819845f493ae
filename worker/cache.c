/* cache.c - see the header.
 *
 * The time of modification is the time of last use; it is set by us, as the
 * kernel's own resolution of milliseconds would leave ties.  Evicting the
 * oldest first therefore takes what this session has put or got only when
 * nothing older is left.
 *
 * `total` is an estimate: exact after a scan, then this process's own puts are
 * added.  A scan comes before the first put, before every eviction and every
 * sixteenth of the limit, because of other workers in the same folder. */
#include "worker/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_BYTES  (HASH_TEXT_BYTES + 1) /* "ab/cdef..." and a NUL */
#define TEMP_PREFIX "tmp-"
#define TEMP_MAX_S  3600 /* older ones were left by a crash */

struct cache {
    int dir; /* DIR/cells; -1: there is none */
    char *path;
    uint64_t limit;
    cache_say_fn *say;
    void *say_arg;
    pthread_mutex_t lock; /* of what follows */
    uint64_t total, since_scan;
    bool scanned;
    struct cache_counters counters;
};

static void name_of(char name[NAME_BYTES], const uint8_t hash[HASH_BYTES])
{
    char text[HASH_TEXT_BYTES];
    hash_text(text, hash);
    memcpy(name, text, 2);
    name[2] = '/';
    memcpy(name + 3, text + 2, sizeof text - 2); /* with the NUL */
}

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void set_used(int fd)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {0}};
    clock_gettime(CLOCK_REALTIME, &times[1]);
    (void)futimens(fd, times); /* a folder that is read-only: no matter */
}

/* With the lock held, or before anybody else knows the cache. */
static void give_up(struct cache *c, int reason)
{
    if (c->counters.read_only) return;
    c->counters.read_only = true;
    if (!c->say) return;
    char text[96], line[512];
    const char *why = strerror_r(reason, text, sizeof text);
    if (reason == ENOSPC || reason == EDQUOT) why = "the disk is full";
    snprintf(line, sizeof line,
             "cache %.300s: %s: from now on nothing more is kept there; "
             "everything else goes on",
             c->path, why);
    c->say(c->say_arg, line);
}

static void count(struct cache *c, uint64_t *counter)
{
    pthread_mutex_lock(&c->lock);
    (*counter)++;
    pthread_mutex_unlock(&c->lock);
}

/* -------------------------------------------------------------- open */

/* path and whatever is missing above it; 0 or errno. */
static int make_dirs(char *path)
{
    for (char *s = path + 1; *s; s++) {
        if (*s != '/') continue;
        *s = '\0';
        const bool made = mkdir(path, 0700) == 0;
        const int reason = errno;
        *s = '/';
        if (!made && reason != EEXIST && reason != EROFS && reason != EACCES) {
            return reason; /* the last two also where it is there already */
        }
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : errno;
}

enum status cache_open(struct cache **out, const char *dir,
                       uint64_t limit_bytes, cache_say_fn *say, void *say_arg,
                       struct error *err)
{
    static const char tail[] = "/cells";
    const size_t n = strlen(dir);
    struct cache *c = mem_zalloc(sizeof *c);
    char *path = mem_alloc(n + sizeof tail);
    if (!c || !path) {
        mem_free(c);
        mem_free(path);
        return error_set(err, ST_NO_MEMORY, "no memory left for the cache");
    }
    memcpy(path, dir, n);
    memcpy(path + n, tail, sizeof tail);
    *c = (struct cache){
        .path = path, .limit = limit_bytes, .say = say, .say_arg = say_arg};
    pthread_mutex_init(&c->lock, NULL);
    const int reason = make_dirs(path);
    c->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->dir < 0) give_up(c, reason ? reason : errno);
    *out = c;
    return ST_OK;
}

void cache_close(struct cache *c)
{
    if (!c) return;
    if (c->dir >= 0) close(c->dir);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->path);
    mem_free(c);
}

struct cache_counters cache_counters(struct cache *c)
{
    pthread_mutex_lock(&c->lock);
    const struct cache_counters counters = c->counters;
    pthread_mutex_unlock(&c->lock);
    return counters;
}

/* --------------------------------------------------------------- get */

static bool read_all(int fd, char *dst, size_t n)
{
    while (n != 0) {
        const ssize_t got = read(fd, dst, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        dst += got;
        n -= (size_t)got;
    }
    return true;
}

static bool is_cell(const struct stat *s, size_t n)
{
    return S_ISREG(s->st_mode) && (uint64_t)s->st_size == n;
}

static bool read_verified(int fd, const uint8_t *hash, void *dst, size_t n)
{
    struct stat s;
    uint8_t found[HASH_BYTES];
    if (fstat(fd, &s) != 0 || !is_cell(&s, n)) return false;
    if (!read_all(fd, dst, n)) return false;
    hash_of(found, dst, n);
    return memcmp(found, hash, sizeof found) == 0;
}

bool cache_get(struct cache *c, const uint8_t hash[HASH_BYTES], void *dst,
               size_t n)
{
    char name[NAME_BYTES];
    name_of(name, hash);
    const int fd = c->dir < 0
                       ? -1
                       : openat(c->dir, name,
                                O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        count(c, &c->counters.misses);
        return false;
    }
    const bool good = read_verified(fd, hash, dst, n);
    if (good) set_used(fd);
    close(fd);
    if (!good) {
        /* should another worker have put a good one there meanwhile, it will
         * be fetched again: no more than time is lost */
        (void)unlinkat(c->dir, name, 0);
        count(c, &c->counters.damaged);
    }
    count(c, good ? &c->counters.hits : &c->counters.misses);
    return good;
}

bool cache_has(const struct cache *c, const uint8_t hash[HASH_BYTES], size_t n)
{
    char name[NAME_BYTES];
    struct stat s;
    name_of(name, hash);
    return c->dir >= 0 && fstatat(c->dir, name, &s, AT_SYMLINK_NOFOLLOW) == 0 &&
           is_cell(&s, n);
}

/* -------------------------------------------------------------- scan */

struct entry {
    int64_t used_ns;
    uint64_t n_bytes;
    char name[NAME_BYTES];
};

struct entries { /* after heapify: the least recently used in front */
    struct entry *all;
    size_t n, cap;
    uint64_t total;
};

static bool older(const struct entry *a, const struct entry *b)
{
    if (a->used_ns != b->used_ns) return a->used_ns < b->used_ns;
    return strcmp(a->name, b->name) < 0;
}

static void sift(struct entries *e, size_t i)
{
    for (;;) {
        size_t first = i;
        for (size_t kid = 2 * i + 1; kid <= 2 * i + 2 && kid < e->n; kid++) {
            if (older(&e->all[kid], &e->all[first])) first = kid;
        }
        if (first == i) return;
        const struct entry t = e->all[i];
        e->all[i] = e->all[first];
        e->all[first] = t;
        i = first;
    }
}

static bool add_entry(struct entries *e, const struct entry *x)
{
    if (e->n == e->cap) {
        const size_t cap = e->cap ? 2 * e->cap : 256;
        struct entry *all = mem_realloc(e->all, cap * sizeof *all);
        if (!all) return false;
        e->all = all;
        e->cap = cap;
    }
    e->all[e->n++] = *x;
    e->total += x->n_bytes;
    return true;
}

static bool is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static DIR *open_dir(int at, const char *name)
{
    const int fd =
        openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0) close(fd);
    return d;
}

/* The cells of one folder; false: no memory. */
static bool scan_folder(struct cache *c, const char *folder,
                        struct entries *out)
{
    DIR *d = open_dir(c->dir, folder);
    bool good = true;
    if (!d) return true;
    for (const struct dirent *f; good && (f = readdir(d)) != NULL;) {
        struct stat s;
        struct entry x;
        if (!is_hex(f->d_name, 2 * HASH_BYTES - 2) ||
            fstatat(dirfd(d), f->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(s.st_mode)) {
            continue;
        }
        x.used_ns = ns_of(s.st_mtim);
        x.n_bytes = (uint64_t)s.st_size;
        snprintf(x.name, sizeof x.name, "%.2s/%.62s", folder, f->d_name);
        good = add_entry(out, &x);
    }
    closedir(d);
    return good;
}

static void remove_stale(const struct cache *c, const char *temp)
{
    struct stat s;
    const time_t now = time(NULL);
    if (fstatat(c->dir, temp, &s, AT_SYMLINK_NOFOLLOW) == 0 &&
        s.st_mtim.tv_sec < now - TEMP_MAX_S) {
        (void)unlinkat(c->dir, temp, 0);
    }
}

/* Everything in the cache.  False: no memory, or (after give_up) no folder. */
static bool scan(struct cache *c, struct entries *out)
{
    DIR *d = open_dir(c->dir, ".");
    bool good = true;
    *out = (struct entries){0};
    if (!d) {
        give_up(c, errno);
        return false;
    }
    for (const struct dirent *f; good && (f = readdir(d)) != NULL;) {
        if (is_hex(f->d_name, 2)) good = scan_folder(c, f->d_name, out);
        if (strncmp(f->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0) {
            remove_stale(c, f->d_name);
        }
    }
    closedir(d);
    if (good) {
        c->total = out->total;
        c->since_scan = 0;
        c->scanned = true;
    } else {
        mem_free(out->all);
    }
    return good;
}

/* Makes room for n more bytes; the lock is held. */
static bool make_room(struct cache *c, size_t n)
{
    const uint64_t spare = c->limit / 16;
    struct entries e;
    if (c->limit == 0) return true;
    if (n > c->limit) return false;
    if (c->scanned && c->since_scan <= spare && c->total <= c->limit - n) {
        return true;
    }
    if (!scan(c, &e)) return false;
    if (c->total > c->limit - n) {
        for (size_t i = e.n / 2; i-- > 0;) sift(&e, i);
        const uint64_t want = c->limit - (spare > n ? spare : n);
        while (e.n > 0 && c->total > want) {
            /* gone already: another worker's doing, and as good */
            (void)unlinkat(c->dir, e.all[0].name, 0);
            c->total -= e.all[0].n_bytes;
            c->counters.evicted++;
            e.all[0] = e.all[--e.n];
            sift(&e, 0);
        }
    }
    mem_free(e.all);
    return true;
}

/* --------------------------------------------------------------- put */

static bool write_all(int fd, const char *data, size_t n)
{
    while (n != 0) {
        const ssize_t put = write(fd, data, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        data += put;
        n -= (size_t)put;
    }
    return true;
}

/* Whole under its name, or not at all; 0 or errno. */
static int write_cell(const struct cache *c, const char *name, const void *data,
                      size_t n)
{
    char temp[sizeof TEMP_PREFIX + 16], folder[3] = {name[0], name[1], '\0'};
    uint64_t random;
    randombytes_buf(&random, sizeof random);
    snprintf(temp, sizeof temp, TEMP_PREFIX "%016llx",
             (unsigned long long)random);
    const int fd =
        openat(c->dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int reason = write_all(fd, data, n) ? 0 : errno;
    set_used(fd);
    if (close(fd) != 0 && !reason) reason = errno;
    if (!reason && mkdirat(c->dir, folder, 0700) != 0 && errno != EEXIST) {
        reason = errno;
    }
    if (!reason && renameat(c->dir, temp, c->dir, name) != 0) reason = errno;
    if (reason) (void)unlinkat(c->dir, temp, 0);
    return reason;
}

void cache_put(struct cache *c, const uint8_t hash[HASH_BYTES],
               const void *data, size_t n)
{
    char name[NAME_BYTES];
    name_of(name, hash);
    if (cache_has(c, hash, n)) return; /* another worker was first */
    pthread_mutex_lock(&c->lock);
    const bool room = !c->counters.read_only && make_room(c, n);
    if (room) {
        c->total += n;
        c->since_scan += n;
    }
    pthread_mutex_unlock(&c->lock);
    if (!room) return;
    const int reason = write_cell(c, name, data, n);
    pthread_mutex_lock(&c->lock);
    if (reason) {
        c->total -= n;
        give_up(c, reason);
    } else {
        c->counters.puts++;
    }
    pthread_mutex_unlock(&c->lock);
}
