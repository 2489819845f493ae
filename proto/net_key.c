/* net_key.c - CURVE keys: made, written as text, kept in a file.
 *
 * Depends on: mem, limits; libsodium.  Thread: any.
 *
 * The file is two lines of 64 hexadecimal digits, public key first.  The
 * public key follows from the secret one, so a damaged file shows. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "proto/net.h"

#define LINE_BYTES (2 * KEY_BYTES + 1) /* with its newline */
#define FILE_BYTES (2 * LINE_BYTES)

void net_key_text(char text[2 * KEY_BYTES + 1], const uint8_t key[KEY_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < KEY_BYTES; i++) {
        text[2 * i] = digits[key[i] >> 4];
        text[2 * i + 1] = digits[key[i] & 15];
    }
    text[2 * KEY_BYTES] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool net_key_parse(uint8_t key[KEY_BYTES], const char *text)
{
    uint8_t out[KEY_BYTES];
    for (size_t i = 0; i < KEY_BYTES; i++) {
        const int high = digit(text[2 * i]);
        const int low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    if (text[2 * KEY_BYTES] != '\0') return false;
    memcpy(key, out, KEY_BYTES);
    return true;
}

enum status net_key_make(struct net_key *out, struct error *err)
{
    if (sodium_init() < 0) {
        return error_set(err, ST_IO, "libsodium does not start");
    }
    if (crypto_box_keypair(out->pub, out->secret) != 0) {
        return error_set(err, ST_IO, "cannot make a key pair");
    }
    return ST_OK;
}

static bool write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        const ssize_t w = write(fd, data, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        data += w;
        n -= (size_t)w;
    }
    return true;
}

/* The name itself lasts only once the folder is on the disk.  Some file
 * systems cannot sync a folder; the file is whole there all the same. */
static void sync_folder_of(const char *path)
{
    char *folder = mem_strndup(path, strlen(path));
    if (!folder) return;
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder ? 1 : 0] = '\0';
    const int fd = open(slash ? folder : ".", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    mem_free(folder);
}

static enum status write_new(const char *path, const char *text, size_t n,
                             struct error *err)
{
    const size_t room = strlen(path) + sizeof ".XXXXXX";
    char *temp = mem_alloc(room);
    if (!temp) return error_set(err, ST_NO_MEMORY, "%s: no memory", path);
    (void)snprintf(temp, room, "%s.XXXXXX", path);
    const int fd = mkostemp(temp, O_CLOEXEC); /* of mode 0600 */
    if (fd < 0) {
        const int e = errno;
        mem_free(temp);
        return error_set(err, ST_IO, "cannot make key file %s: %s", path,
                         strerror(e));
    }
    bool done = write_all(fd, text, n) && fsync(fd) == 0;
    int e = errno;
    if (close(fd) != 0 && done) {
        done = false;
        e = errno;
    }
    if (done && rename(temp, path) != 0) {
        done = false;
        e = errno;
    }
    if (!done) (void)unlink(temp);
    mem_free(temp);
    if (!done) {
        return error_set(err, ST_IO, "cannot write key file %s: %s", path,
                         strerror(e));
    }
    sync_folder_of(path);
    return ST_OK;
}

static enum status make_file(struct net_key *out, const char *path,
                             struct error *err)
{
    struct net_key key;
    enum status st = net_key_make(&key, err);
    if (st != ST_OK) return st;
    char text[FILE_BYTES + 1];
    net_key_text(text, key.pub);
    text[LINE_BYTES - 1] = '\n';
    net_key_text(text + LINE_BYTES, key.secret);
    text[FILE_BYTES - 1] = '\n';
    st = write_new(path, text, FILE_BYTES, err);
    if (st == ST_OK) *out = key;
    sodium_memzero(text, sizeof text);
    sodium_memzero(&key, sizeof key);
    return st;
}

/* text: the whole file, then a NUL; changed. */
static bool parse_file(struct net_key *out, char *text, size_t n)
{
    if (n != FILE_BYTES || text[LINE_BYTES - 1] != '\n' ||
        text[FILE_BYTES - 1] != '\n') {
        return false;
    }
    text[LINE_BYTES - 1] = text[FILE_BYTES - 1] = '\0';
    struct net_key key;
    uint8_t pub[KEY_BYTES];
    const bool good = net_key_parse(key.pub, text) &&
                      net_key_parse(key.secret, text + LINE_BYTES) &&
                      crypto_scalarmult_base(pub, key.secret) == 0 &&
                      memcmp(pub, key.pub, KEY_BYTES) == 0;
    if (good) *out = key;
    sodium_memzero(&key, sizeof key);
    return good;
}

static enum status read_file(struct net_key *out, int fd, const char *path,
                             struct error *err)
{
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return error_set(err, ST_IO, "cannot read key file %s: %s", path,
                         strerror(errno));
    }
    if (!S_ISREG(about.st_mode)) {
        return error_set(err, ST_INVALID, "key file %s is not a file", path);
    }
    if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return error_set(err, ST_INVALID,
                         "key file %s is open to others: chmod 600 %s", path,
                         path);
    }
    char text[FILE_BYTES + 2]; /* one more than it may have, and a NUL */
    size_t n = 0;
    ssize_t got = 0;
    while (n < FILE_BYTES + 1) {
        got = read(fd, text + n, FILE_BYTES + 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        n += (size_t)got;
    }
    enum status st = ST_OK;
    if (got < 0) {
        st = error_set(err, ST_IO, "cannot read key file %s: %s", path,
                       strerror(errno));
    } else {
        text[n] = '\0';
        if (!parse_file(out, text, n)) {
            st = error_set(err, ST_INVALID,
                           "key file %s is damaged: remove it to get a new "
                           "key, which others must approve again",
                           path);
        }
    }
    sodium_memzero(text, sizeof text);
    return st;
}

enum status net_key_load(struct net_key *out, const char *path,
                         struct error *err)
{
    if (sodium_init() < 0) {
        return error_set(err, ST_IO, "libsodium does not start");
    }
    /* O_NONBLOCK: a FIFO must not stop us. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) return make_file(out, path, err);
    if (fd < 0) {
        return error_set(err, ST_IO, "cannot read key file %s: %s", path,
                         strerror(errno));
    }
    const enum status st = read_file(out, fd, path, err);
    close(fd);
    return st;
}
