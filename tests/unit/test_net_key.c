/* Keys as text and in files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "proto/net.h"
#include "tests/lib/temp.h"

#define FILE_BYTES 130 /* two lines of 64 digits */

static char dir[TEMP_PATH_BYTES];
static char path[TEMP_PATH_BYTES + 16];

static int setup(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "net_key")) return -1;
    snprintf(path, sizeof path, "%s/key", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return temp_dir_remove(dir) && mem_in_use() == 0 ? 0 : -1;
}

static void put(const char *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
}

static size_t get(char *bytes, size_t room)
{
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    const ssize_t n = read(fd, bytes, room);
    close(fd);
    return (size_t)n;
}

static size_t files(void)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_text_and_back(void **state)
{
    (void)state;
    uint8_t key[KEY_BYTES], back[KEY_BYTES] = {0}, upper[KEY_BYTES];
    for (size_t i = 0; i < KEY_BYTES; i++) key[i] = (uint8_t)(i * 37 + 5);
    char text[2 * KEY_BYTES + 1];
    net_key_text(text, key);
    assert_int_equal(strlen(text), 64);
    assert_memory_equal(text, "052a4f7499be", 12);
    assert_true(net_key_parse(back, text));
    assert_memory_equal(back, key, KEY_BYTES);
    for (char *p = text; *p; p++) {
        if (*p >= 'a') *p = (char)(*p - 32);
    }
    assert_true(net_key_parse(upper, text));
    assert_memory_equal(upper, key, KEY_BYTES);

    static const char *const wrong[] = {"", "0", "zz", "0x12"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_false(net_key_parse(back, wrong[i]));
    }
    for (size_t at = 0; at < 64; at++) {
        static const char bad[] = "g/:@G`\n\xb0";
        const char was = text[at];
        for (size_t k = 0; k < sizeof bad; k++) { /* the NUL too: too short */
            text[at] = bad[k];
            assert_false(net_key_parse(back, text));
        }
        text[at] = was;
    }
    char longer[2 * KEY_BYTES + 2];
    snprintf(longer, sizeof longer, "%s0", text);
    assert_false(net_key_parse(back, longer));
    assert_memory_equal(back, key, KEY_BYTES); /* untouched by failures */
}

static void test_keys_are_pairs_and_differ(void **state)
{
    (void)state;
    struct net_key a, b;
    uint8_t pub[KEY_BYTES];
    assert_int_equal(net_key_make(&a, NULL), ST_OK);
    assert_int_equal(net_key_make(&b, NULL), ST_OK);
    assert_memory_not_equal(a.pub, b.pub, KEY_BYTES);
    assert_int_equal(crypto_scalarmult_base(pub, a.secret), 0);
    assert_memory_equal(pub, a.pub, KEY_BYTES);
}

static void test_made_once_and_then_kept(void **state)
{
    (void)state;
    struct net_key a, b;
    struct stat about;
    const mode_t mask = umask(0);
    assert_int_equal(net_key_load(&a, path, NULL), ST_OK);
    umask(mask);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_int_equal(about.st_size, FILE_BYTES);
    assert_int_equal(files(), 1); /* nothing temporary stays */
    assert_int_equal(net_key_load(&b, path, NULL), ST_OK);
    assert_memory_equal(&a, &b, sizeof a);
    char text[FILE_BYTES], pub[2 * KEY_BYTES + 1];
    assert_int_equal(get(text, sizeof text), FILE_BYTES);
    net_key_text(pub, a.pub);
    assert_memory_equal(text, pub, 64);
}

static void test_open_to_others_is_refused(void **state)
{
    (void)state;
    struct net_key a, b;
    assert_int_equal(net_key_load(&a, path, NULL), ST_OK);
    static const mode_t modes[] = {0640, 0604, 0610, 0602, 0644};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct error err = {0};
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(net_key_load(&b, path, &err), ST_INVALID);
        assert_non_null(strstr(err.text, "chmod 600"));
        assert_non_null(strstr(err.text, path));
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(net_key_load(&b, path, NULL), ST_OK);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_damage_shows_and_is_not_overwritten(void **state)
{
    (void)state;
    struct net_key a, b;
    struct error err = {0};
    char good[FILE_BYTES], bad[FILE_BYTES + 2], now[FILE_BYTES + 2];
    assert_int_equal(net_key_load(&a, path, NULL), ST_OK);
    assert_int_equal(get(good, sizeof good), FILE_BYTES);
    memset(&b, 0x5a, sizeof b);
    const struct net_key untouched = b;
    /* One digit: the halves no longer belong together.  (X25519 ignores the
     * three low bits of a secret key's first byte and the high two of its
     * last, which are left alone here.) */
    for (size_t at = 0; at < FILE_BYTES; at++) {
        if (at == 65 || at == 66 || at >= 127) continue;
        memcpy(bad, good, FILE_BYTES);
        bad[at] = bad[at] == '7' ? '8' : '7';
        put(bad, FILE_BYTES);
        assert_int_equal(net_key_load(&b, path, &err), ST_INVALID);
        assert_non_null(strstr(err.text, "damaged"));
        assert_non_null(strstr(err.text, "remove it"));
    }
    for (size_t n = 0; n < FILE_BYTES; n += 5) { /* torn off */
        put(good, n);
        assert_int_equal(net_key_load(&b, path, NULL), ST_INVALID);
        assert_int_equal(get(now, sizeof now), n);
    }
    memcpy(bad, good, FILE_BYTES); /* and longer */
    bad[FILE_BYTES] = '\n';
    put(bad, FILE_BYTES + 1);
    assert_int_equal(net_key_load(&b, path, NULL), ST_INVALID);
    assert_memory_equal(&b, &untouched, sizeof b);
    put(good, FILE_BYTES);
    assert_int_equal(net_key_load(&b, path, NULL), ST_OK);
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_places_where_no_file_can_be(void **state)
{
    (void)state;
    struct net_key a;
    struct error err = {0};
    char where[TEMP_PATH_BYTES + 32];
    snprintf(where, sizeof where, "%s/no/key", dir);
    assert_int_equal(net_key_load(&a, where, &err), ST_IO);
    assert_non_null(strstr(err.text, where));
    assert_int_equal(net_key_load(&a, dir, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "is not a file"));
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(net_key_load(&a, path, &err), ST_INVALID);
    assert_int_equal(unlink(path), 0);
    mem_fail_after(0);
    assert_int_equal(net_key_load(&a, path, &err), ST_NO_MEMORY);
    mem_fail_after(-1);
    assert_int_equal(files(), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_text_and_back),
        TEST(test_keys_are_pairs_and_differ),
        TEST(test_made_once_and_then_kept),
        TEST(test_open_to_others_is_refused),
        TEST(test_damage_shows_and_is_not_overwritten),
        TEST(test_places_where_no_file_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
