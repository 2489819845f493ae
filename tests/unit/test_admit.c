/* test_admit.c - who may join: tokens, approval, revocation, and a list that
 * others may have damaged. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"
#include "coordinator/admit.h"
#include "tests/lib/engine_rig.h"
#include "tests/lib/temp.h"

#define MS     UINT64_C(1000000)
#define MINUTE (60000 * MS)

static char dir[TEMP_PATH_BYTES], path[TEMP_PATH_BYTES + 8];
static uint8_t key[KEY_BYTES]; /* out of the functions */

static int open_dir(void **state)
{
    (void)state;
    if (!temp_dir_create(dir, "test_admit")) return -1;
    snprintf(path, sizeof path, "%s/keys", dir);
    return 0;
}

static int close_dir(void **state)
{
    (void)state;
    return temp_dir_remove(dir) && mem_in_use() == 0 ? 0 : -1;
}

/* A test starts without a list. */
static int forget(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

/* The n-th machine's key; its text begins with n as 8 digits. */
static const uint8_t *key_of(uint32_t n)
{
    static uint8_t k[4][KEY_BYTES];
    static unsigned at;
    uint8_t *to = k[at++ % 4];
    memset(to, 0xab, KEY_BYTES);
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(n >> (24 - 8 * i));
    return to;
}

static struct admit *open_admit(const char *at)
{
    struct admit *a = NULL;
    assert_ok(admit_create(&a, at, &rig_err));
    return a;
}

static enum admit_answer hello(struct admit *a, uint32_t n, const char *name,
                               const char *token, uint64_t now)
{
    rig_err = (struct error){0};
    return admit_hello(a, key_of(n), name, "10.0.0.7", token, now, &rig_err);
}

static void assert_said(const char *words)
{
    if (!strstr(rig_err.text, words)) {
        fail_msg("\"%s\" is not in \"%s\"", words, rig_err.text);
    }
}

static void test_a_token_enrols_for_an_hour(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    char token[ADMIT_TOKEN_BYTES], again[ADMIT_TOKEN_BYTES];
    assert_int_equal(hello(a, 1, "one", "guess", 0), ADMIT_NO);
    assert_ok(admit_invite(a, 0, token, &rig_err));
    assert_int_equal(strspn(token, "0123456789abcdef"), 32);
    assert_true(admit_connect(a, key_of(1), 0));
    assert_false(admit_enrolled(a, key_of(1)));
    assert_int_equal(hello(a, 1, "one", token, 60 * MINUTE - 1), ADMIT_YES);
    assert_int_equal(rig_err.status, ST_OK);
    assert_true(admit_enrolled(a, key_of(1)));
    assert_int_equal(hello(a, 2, "two", token, 60 * MINUTE), ADMIT_NO);
    assert_said("the join string's token is wrong or its time is over: "
                "run `potluck keys invite` at the coordinator for a fresh one");
    assert_false(admit_enrolled(a, key_of(2)));
    /* whoever is in, is in, whatever it says */
    assert_int_equal(hello(a, 1, "one", "", 99 * MINUTE), ADMIT_YES);
    assert_int_equal(hello(a, 1, "one", "old", 99 * MINUTE), ADMIT_YES);

    /* an expired invitation gets a fresh token, an open one keeps its own */
    assert_ok(admit_invite(a, 100 * MINUTE, again, &rig_err));
    assert_string_not_equal(token, again);
    assert_ok(admit_invite(a, 150 * MINUTE, token, &rig_err));
    assert_string_equal(token, again);
    assert_int_equal(hello(a, 3, "three", token, 209 * MINUTE), ADMIT_YES);
    admit_free(a);
}

static void test_a_token_that_is_nearly_right(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    char token[ADMIT_TOKEN_BYTES], bad[LIMIT_NAME + 1];
    assert_ok(admit_invite(a, 0, token, &rig_err));
    for (size_t i = 0; i < 32; i++) {
        memcpy(bad, token, sizeof token);
        bad[i] = bad[i] == '0' ? '1' : '0';
        assert_int_equal(hello(a, 1, "x", bad, 1), ADMIT_NO);
        snprintf(bad, sizeof bad, "%.*s", (int)i + 1, token);
        if (i < 31) assert_int_equal(hello(a, 1, "x", bad, 1), ADMIT_NO);
    }
    snprintf(bad, sizeof bad, "%s0", token);
    assert_int_equal(hello(a, 1, "x", bad, 1), ADMIT_NO);
    memset(bad, '0', sizeof bad - 1);
    bad[sizeof bad - 1] = '\0';
    assert_int_equal(hello(a, 1, "x", bad, 1), ADMIT_NO);
    assert_int_equal(admit_count(a), 0);
    assert_int_equal(hello(a, 1, "x", token, 1), ADMIT_YES);
    admit_free(a);
}

static void test_pending_until_approved(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    assert_true(admit_connect(a, key_of(0x11223344), 0));
    assert_int_equal(admit_count(a), 0); /* it has said nothing yet */
    assert_int_equal(admit_deadline(a), ENROL_MS * MS);
    assert_int_equal(hello(a, 0x11223344, "old\npc\x7f", "", 1), ADMIT_PENDING);
    assert_int_equal(rig_err.status, ST_FULL);
    assert_said("potluck keys approve 11223344abababab");
    assert_int_equal(admit_count(a), 1);
    const struct admit_entry *e = admit_entry(a, 0);
    assert_int_equal(e->state, ADMIT_STATE_PENDING);
    assert_string_equal(e->name, "old?pc?");
    assert_string_equal(e->host, "10.0.0.7");
    assert_null(admit_entry(a, 1));
    assert_false(admit_enrolled(a, key_of(0x11223344)));
    assert_ok(admit_approve(a, "old?pc?", key, &rig_err));
    assert_memory_equal(key, key_of(0x11223344), KEY_BYTES);
    assert_int_equal(hello(a, 0x11223344, "old-pc", "", 2), ADMIT_YES);
    assert_int_equal(admit_count(a), 1);
    assert_int_equal(admit_entry(a, 0)->state, ADMIT_STATE_ENROLLED);
    assert_ok(admit_approve(a, "old-pc", key, &rig_err)); /* twice */
    assert_false(admit_expired(a, UINT64_MAX, key));
    admit_free(a);
}

static void test_revoked_stays_out(void **state)
{
    (void)state;
    struct admit *a = open_admit(path);
    char token[ADMIT_TOKEN_BYTES];
    assert_ok(admit_invite(a, 0, token, &rig_err));
    assert_int_equal(hello(a, 1, "one", token, 1), ADMIT_YES);
    assert_int_equal(hello(a, 2, "two", "", 1), ADMIT_PENDING);
    assert_ok(admit_revoke(a, "one", key, &rig_err));
    assert_ok(admit_revoke(a, "00000002", key, &rig_err));
    assert_ok(admit_revoke(a, "one", key, &rig_err)); /* twice */
    assert_memory_equal(key, key_of(1), KEY_BYTES);
    for (int i = 0; i < 2; i++) { /* across a restart too */
        assert_false(admit_enrolled(a, key_of(1)));
        assert_false(admit_connect(a, key_of(1), 2));
        assert_false(admit_connect(a, key_of(2), 2));
        assert_int_equal(hello(a, 1, "one", token, 2), ADMIT_NO);
        assert_said("was revoked");
        assert_int_equal(admit_count(a), 2);
        assert_int_equal(admit_entry(a, 0)->state, ADMIT_STATE_REVOKED);
        admit_free(a);
        a = open_admit(path);
    }
    assert_ok(admit_approve(a, "one", key, &rig_err));
    assert_true(admit_connect(a, key_of(1), 3));
    assert_ok(admit_add(a, key_of(2), "two", &rig_err));
    assert_true(admit_enrolled(a, key_of(2)));
    admit_free(a);
    a = open_admit(path);
    assert_true(admit_enrolled(a, key_of(1)) && admit_enrolled(a, key_of(2)));
    admit_free(a);
}

static void test_who_is_meant(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    /* a machine that calls itself like the key of another */
    assert_int_equal(hello(a, 0xdeadbeef, "pc", "", 0), ADMIT_PENDING);
    assert_int_equal(hello(a, 0x00000001, "deadbeef", "", 0), ADMIT_PENDING);
    assert_int_equal(hello(a, 0xdeadbee0, "pc", "", 0), ADMIT_PENDING);
    rig_err = (struct error){0};
    assert_fails(admit_approve(a, "pc", key, &rig_err), ST_INVALID,
                 "deadbeefabababab at 10.0.0.7");
    assert_said("deadbee0abababab");
    assert_fails(admit_approve(a, "deadbeef", key, &rig_err), ST_INVALID,
                 "00000001abababab");
    assert_fails(admit_approve(a, "deadbee", key, &rig_err), ST_NOT_FOUND,
                 "deadbee");
    assert_fails(admit_approve(a, "", key, &rig_err), ST_NOT_FOUND, "\"\"");
    assert_fails(admit_revoke(a, "nobody", key, &rig_err), ST_NOT_FOUND,
                 "nobody");
    assert_fails(admit_revoke(a, "pc", key, &rig_err), ST_INVALID, "2 mach");
    assert_ok(admit_approve(a, "DEADBEEFAB", key, &rig_err));
    assert_memory_equal(key, key_of(0xdeadbeef), KEY_BYTES);
    /* one is in, one waits: approve means that which waits, revoke asks */
    assert_fails(admit_revoke(a, "pc", key, &rig_err), ST_INVALID, "2 mach");
    assert_ok(admit_approve(a, "pc", key, &rig_err));
    assert_memory_equal(key, key_of(0xdeadbee0), KEY_BYTES);
    admit_free(a);
}

static void test_places_are_few(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    char token[ADMIT_TOKEN_BYTES];
    assert_ok(admit_invite(a, 0, token, &rig_err));
    assert_ok(admit_add(a, key_of(9000), "mine", &rig_err));
    for (uint32_t i = 0; i < LIMIT_PENDING; i++) {
        assert_true(admit_connect(a, key_of(1 + i), i));
    }
    assert_true(admit_connect(a, key_of(1), 0)); /* has its place */
    assert_false(admit_connect(a, key_of(1000), ENROL_MS * MS - 1));
    assert_int_equal(hello(a, 1000, "x", "", 5), ADMIT_PENDING);
    assert_said("64 machines wait");
    assert_true(admit_connect(a, key_of(9000), 5)); /* the enrolled always */
    assert_int_equal(hello(a, 1001, "y", token, 5), ADMIT_YES);
    /* one whose time is over goes, and is still named */
    assert_true(admit_connect(a, key_of(1000), ENROL_MS * MS + 1));
    assert_int_equal(admit_deadline(a), 0);
    assert_true(admit_expired(a, 0, key));
    assert_memory_equal(key, key_of(1), KEY_BYTES);
    assert_false(admit_expired(a, ENROL_MS * MS, key));
    assert_int_equal(admit_deadline(a), ENROL_MS * MS + 1);
    uint32_t n = 0;
    while (admit_expired(a, ENROL_MS * MS + 63, key)) n++;
    assert_int_equal(n, 63);
    assert_true(admit_connect(a, key_of(1), ENROL_MS * MS + 63));
    admit_free(a);
}

static void test_pending_ones_are_forgotten(void **state)
{
    (void)state;
    struct admit *a = open_admit(NULL);
    assert_int_equal(admit_deadline(a), UINT64_MAX);
    assert_int_equal(hello(a, 1, "one", "", 0), ADMIT_PENDING);
    assert_int_equal(hello(a, 1, "one", "", 3000 * MS), ADMIT_PENDING);
    assert_int_equal(admit_deadline(a), 63000 * MS);
    assert_false(admit_expired(a, 63000 * MS - 1, key));
    assert_true(admit_expired(a, 63000 * MS, key));
    assert_false(admit_expired(a, 63000 * MS, key));
    assert_int_equal(admit_count(a), 0);
    /* a flood of such: never more are kept than have places */
    for (uint32_t i = 0; i < 1000; i++) {
        (void)admit_connect(a, key_of(i), i * MINUTE);
    }
    uint32_t n = 0;
    while (admit_expired(a, UINT64_MAX - 1, key)) n++;
    assert_true(n > LIMIT_PENDING && n <= 2 * LIMIT_PENDING);
    admit_free(a);
}

static void write_text(const char *text, size_t n)
{
    assert_ok(files_write(path, text, n, 0600, &rig_err));
}

static void test_the_list_is_kept(void **state)
{
    (void)state;
    struct stat s;
    char longest[LIMIT_NAME + 20];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest + LIMIT_NAME - 1, "\xc3\xa4", 2); /* cut in the middle */
    struct admit *a = open_admit(path);
    assert_ok(admit_add(a, key_of(1), "", &rig_err));
    assert_ok(admit_add(a, key_of(2), "zwei \xc3\xa4 ", &rig_err));
    assert_ok(admit_add(a, key_of(3), longest, &rig_err));
    admit_free(a);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    a = open_admit(path);
    assert_int_equal(admit_count(a), 3);
    assert_string_equal(admit_entry(a, 0)->name, "unnamed");
    assert_string_equal(admit_entry(a, 1)->name, "zwei \xc3\xa4 ");
    assert_int_equal(strlen(admit_entry(a, 2)->name), LIMIT_NAME - 1);
    assert_ok(admit_revoke(a, "unnamed", key, &rig_err));
    admit_free(a);
    a = open_admit(path);
    assert_int_equal(admit_entry(a, 0)->state, ADMIT_STATE_REVOKED);
    admit_free(a);
}

#define HEX "0011223344556677889900112233445566778899001122334455667788990011"

static void test_damaged_lists(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
        size_t n;
    } bad[] = {
        {"\n", "line 1", 1},
        {HEX " a\n\n", "line 2", 0},
        {HEX "\n", "line 1", 0},
        {HEX " \n", "line 1", 0},
        {HEX "a b\n", "line 1", 0},
        {"x" HEX " b\n", "line 1", 0},
        {"!!" HEX " b\n", "line 1", 0},
        {" " HEX " b\n", "line 1", 0},
        {"00" HEX " b\n", "line 1", 0},
        {HEX " a\n" HEX " b\n", "line 2 repeats", 0},
        {HEX " a\n!" HEX " b\n", "line 2 repeats", 0},
        {HEX " a\r\n", "line 1 has no name", 0},
        {HEX " a\0b\n", "line 1 is damaged", sizeof HEX + 4},
        {HEX " 0123456789012345678901234567890123456789"
             "012345678901234567890123\n",
         "line 1 has no name", 0},
        {"0011", "line 1", 0},
        {HEX " a\n001122", "line 2", 0},
    };
    struct admit *a = NULL;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        write_text(bad[i].text, bad[i].n ? bad[i].n : strlen(bad[i].text));
        assert_fails(admit_create(&a, path, &rig_err), ST_INVALID, bad[i].why);
        assert_null(a);
    }
    write_text(HEX " the last line may lack its end", strlen(HEX) + 31);
    a = open_admit(path);
    assert_int_equal(admit_count(a), 1);
    admit_free(a);
    a = NULL;
    assert_int_equal(chmod(path, 0620), 0);
    assert_fails(admit_create(&a, path, &rig_err), ST_INVALID, "chmod 600");
    assert_fails(admit_create(&a, dir, &rig_err), ST_INVALID, "not a file");
    assert_null(a);
}

static void test_too_many(void **state)
{
    (void)state;
    struct admit *a = NULL;
    struct buf b;
    buf_init(&b, 1u << 20);
    for (uint32_t i = 0; i < ADMIT_KEYS_MAX + 1; i++) {
        assert_ok(buf_printf(&b, "%08x%.56s n%u\n", i, HEX, i));
        if (i == ADMIT_KEYS_MAX - 1) write_text(b.data, b.len);
    }
    a = open_admit(path);
    assert_int_equal(admit_count(a), ADMIT_KEYS_MAX);
    assert_fails(admit_add(a, key_of(7), "x", &rig_err), ST_TOO_LARGE, "4096");
    assert_ok(admit_revoke(a, "n77", key, &rig_err));
    admit_free(a);
    a = NULL;
    write_text(b.data, b.len);
    assert_fails(admit_create(&a, path, &rig_err), ST_TOO_LARGE, "4096");
    buf_fini(&b);
}

/* As on a full disk: what is done holds, and the error says for how long. */
static void test_a_full_disk(void **state)
{
    (void)state;
    struct rlimit old, none;
    struct admit *a = open_admit(path);
    char token[ADMIT_TOKEN_BYTES];
    assert_ok(admit_add(a, key_of(1), "before", &rig_err));
    assert_ok(admit_invite(a, 0, token, &rig_err));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = old;
    none.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    const enum admit_answer answer = hello(a, 2, "two", token, 1);
    const struct error said = rig_err;
    (void)hello(a, 3, "three", "", 1);
    const enum status approved = admit_approve(a, "three", key, &rig_err);
    const enum status revoked = admit_revoke(a, "before", key, &rig_err);
    const enum status added = admit_add(a, key_of(4), "four", &rig_err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(answer, ADMIT_YES);
    assert_int_equal(said.status, ST_IO);
    assert_non_null(strstr(said.text, "only until the next start"));
    assert_non_null(strstr(said.text, path));
    assert_int_equal(approved, ST_IO);
    assert_int_equal(revoked, ST_IO);
    assert_int_equal(added, ST_IO);
    assert_memory_equal(key, key_of(1), KEY_BYTES);
    assert_true(admit_enrolled(a, key_of(2)) && admit_enrolled(a, key_of(3)));
    assert_false(admit_enrolled(a, key_of(1)));
    admit_free(a);
    a = open_admit(path); /* the file is as it was, whole */
    assert_int_equal(admit_count(a), 1);
    assert_true(admit_enrolled(a, key_of(1)));
    admit_free(a);
}

static void test_every_failed_allocation(void **state)
{
    (void)state;
    struct admit *a = open_admit(path);
    for (uint32_t i = 0; i < 40; i++) {
        assert_ok(admit_add(a, key_of(i), "x", &rig_err));
    }
    admit_free(a);
    const size_t before = mem_in_use();
    for (long n = 0;; n++) {
        a = NULL;
        mem_fail_after(n);
        const enum status st = admit_create(&a, path, &rig_err);
        mem_fail_after(-1);
        if (st == ST_OK) break;
        assert_int_equal(st, ST_NO_MEMORY);
        assert_null(a);
        assert_int_equal(mem_in_use(), before);
    }
    mem_fail_after(0);
    const enum status st = admit_add(a, key_of(99), "y", &rig_err);
    mem_fail_after(-1);
    assert_int_equal(st, ST_IO); /* in, but not saved */
    assert_true(admit_enrolled(a, key_of(99)));
    admit_free(a);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_enrols_for_an_hour),
        cmocka_unit_test(test_a_token_that_is_nearly_right),
        cmocka_unit_test(test_pending_until_approved),
        cmocka_unit_test_setup(test_revoked_stays_out, forget),
        cmocka_unit_test(test_who_is_meant),
        cmocka_unit_test(test_places_are_few),
        cmocka_unit_test(test_pending_ones_are_forgotten),
        cmocka_unit_test_setup(test_the_list_is_kept, forget),
        cmocka_unit_test_setup(test_damaged_lists, forget),
        cmocka_unit_test_setup(test_too_many, forget),
        cmocka_unit_test_setup(test_a_full_disk, forget),
        cmocka_unit_test_setup(test_every_failed_allocation, forget),
    };
    return cmocka_run_group_tests(tests, open_dir, close_dir);
}
