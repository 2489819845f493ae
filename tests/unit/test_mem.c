/* The allocator: counts, faults, the no-allocation guard, budgets. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"

/* Sizes that the compiler must not see through, or it warns. */
static size_t opaque(size_t n)
{
    volatile size_t v = n;
    return v;
}

static int setup(void **state)
{
    (void)state;
    mem_fail_after(-1);
    return mem_in_use() == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    mem_fail_after(-1);
    return mem_in_use() == 0 ? 0 : -1; /* nothing leaks */
}

static void test_blocks_are_aligned_counted_and_whole(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 100001};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        unsigned char *p = mem_alloc(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % MEM_ALIGN, 0);
        assert_int_equal(mem_in_use(), sizes[i]);
        memset(p, 0x5a, sizes[i]); /* ASan sees a byte too many */
        mem_free(p);
        assert_int_equal(mem_in_use(), 0);
    }
    mem_free(NULL);
}

static void test_zeroed_blocks_are_zero(void **state)
{
    (void)state;
    unsigned char *dirty = mem_alloc(5000);
    assert_non_null(dirty);
    memset(dirty, 0xff, 5000);
    mem_free(dirty);
    unsigned char *p = mem_zalloc(5000);
    unsigned char *q = mem_zalloc_array(100, 50);
    assert_non_null(p);
    assert_non_null(q);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(p[i], 0);
        assert_int_equal(q[i], 0);
    }
    assert_int_equal(mem_in_use(), 10000);
    mem_free(p);
    mem_free(q);
}

static void test_absurd_sizes_give_null(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 64,
                                   SIZE_MAX - 126, SIZE_MAX / 2};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_null(mem_alloc(opaque(sizes[i])));
        assert_null(mem_zalloc(opaque(sizes[i])));
        assert_null(mem_strndup("x", opaque(SIZE_MAX)));
    }
    assert_null(mem_zalloc_array(opaque(SIZE_MAX / 2), opaque(3)));
    assert_null(mem_zalloc_array(opaque(1) << 33, opaque(1) << 33));
    assert_int_equal(mem_in_use(), 0);
}

static void test_realloc_keeps_what_fits(void **state)
{
    (void)state;
    char *p = mem_realloc(NULL, 4);
    assert_non_null(p);
    memcpy(p, "abcd", 4);
    char *q = mem_realloc(p, 1000);
    assert_non_null(q);
    assert_memory_equal(q, "abcd", 4);
    assert_int_equal(mem_in_use(), 1000);
    q = mem_realloc(q, 2);
    assert_non_null(q);
    assert_memory_equal(q, "ab", 2);
    assert_int_equal(mem_in_use(), 2);

    mem_fail_after(0);
    assert_null(mem_realloc(q, 50));
    mem_fail_after(-1);
    assert_memory_equal(q, "ab", 2); /* the old block is still valid */
    assert_int_equal(mem_in_use(), 2);
    mem_free(q);
}

static void test_strndup_copies_and_terminates(void **state)
{
    (void)state;
    static const char text[] = {'a', '\0', 'b', 'c'};
    char *p = mem_strndup(text, 3);
    assert_non_null(p);
    assert_memory_equal(p, "a\0b\0", 4);
    assert_int_equal(mem_in_use(), 4);
    mem_free(p);
}

static void test_faults_start_after_n_allocations(void **state)
{
    (void)state;
    for (long n = 0; n < 4; n++) {
        void *p[6];
        mem_fail_after(n);
        for (long i = 0; i < 6; i++) p[i] = mem_alloc(8);
        mem_fail_after(-1);
        for (long i = 0; i < 6; i++) {
            assert_int_equal(p[i] != NULL, i < n);
            mem_free(p[i]);
        }
    }
    void *p = mem_alloc(8);
    assert_non_null(p);
    mem_free(p);
}

static void *allocate_elsewhere(void *arg)
{
    void *p = mem_alloc(16);
    mem_free(p);
    return p ? arg : NULL;
}

static void test_guard_belongs_to_its_thread_and_ends(void **state)
{
    (void)state;
    void *p = mem_alloc(16);
    mem_guard_begin("decode");
    mem_free(p); /* freeing is allowed */
    pthread_t thread;
    int fine;
    void *ok = NULL;
    const int rc = pthread_create(&thread, NULL, allocate_elsewhere, &fine);
    if (rc == 0) pthread_join(thread, &ok);
    mem_guard_end();
    assert_int_equal(rc, 0);
    assert_non_null(ok);
    p = mem_alloc(16);
    assert_non_null(p);
    mem_free(p);
}

static void test_guard_ends_the_program_and_names_the_phase(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(fd[1], STDERR_FILENO);
        mem_guard_begin("the phase of this test");
        void *p = mem_alloc(1234);
        _exit(p ? 17 : 18);
    }
    close(fd[1]);
    char text[4096];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof text - 1 &&
           (got = read(fd[0], text + n, sizeof text - 1 - n)) > 0) {
        n += (size_t)got;
    }
    text[n] = '\0';
    close(fd[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "the phase of this test"));
    assert_non_null(strstr(text, "1234"));
}

static void test_budget_refuses_with_the_exact_shortfall(void **state)
{
    (void)state;
    struct mem_budget b = {.name = "weights", .limit_bytes = 1000};
    struct error err = {0};
    assert_int_equal(mem_charge(&b, 600, "layer 0", &err), ST_OK);
    assert_int_equal(mem_charge(&b, 401, "layer 1", &err), ST_NO_MEMORY);
    assert_int_equal(err.status, ST_NO_MEMORY);
    assert_non_null(strstr(err.text, "layer 1"));
    assert_non_null(strstr(err.text, "weights"));
    assert_non_null(strstr(err.text, "401"));
    assert_non_null(strstr(err.text, "400")); /* free */
    assert_int_equal(atomic_load(&b.used_bytes), 600);
    assert_int_equal(mem_charge(&b, opaque(SIZE_MAX), "all", &err),
                     ST_NO_MEMORY);
    assert_int_equal(mem_charge(&b, 400, "layer 1", &err), ST_OK);
    assert_int_equal(mem_charge(&b, 1, "a byte", NULL), ST_NO_MEMORY);
    mem_refund(&b, 1);
    assert_int_equal(mem_charge(&b, 1, "a byte", NULL), ST_OK);
    assert_int_equal(atomic_load(&b.used_bytes), 1000);

    struct mem_budget unlimited = {.name = "none"};
    assert_int_equal(mem_charge(&unlimited, SIZE_MAX / 2, "x", &err), ST_OK);
}

#define CHARGES 20000

static void *charge_many(void *arg)
{
    struct mem_budget *b = arg;
    uintptr_t n = 0;
    for (int i = 0; i < CHARGES; i++) {
        if (mem_charge(b, 3, "x", NULL) == ST_OK) n++;
        void *p = mem_alloc(1);
        mem_free(p);
    }
    return (void *)n;
}

static void test_budget_and_counters_hold_between_threads(void **state)
{
    (void)state;
    /* Room for 1.5 of the two threads' charges. */
    struct mem_budget b = {.name = "shared",
                           .limit_bytes = (size_t)CHARGES * 9 / 2};
    pthread_t other;
    void *theirs = NULL;
    assert_int_equal(pthread_create(&other, NULL, charge_many, &b), 0);
    void *ours = charge_many(&b);
    pthread_join(other, &theirs);
    assert_int_equal((uintptr_t)ours + (uintptr_t)theirs, CHARGES * 3 / 2);
    assert_int_equal(atomic_load(&b.used_bytes), b.limit_bytes);
}

static void test_size_arithmetic_sees_overflow(void **state)
{
    (void)state;
    size_t out = 7;
    assert_true(size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    out = 7;
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_int_equal(out, 7); /* untouched */
    assert_true(size_mul(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_true(size_mul(0, SIZE_MAX, &out));
    assert_int_equal(out, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_blocks_are_aligned_counted_and_whole),
        CASE(test_zeroed_blocks_are_zero),
        CASE(test_absurd_sizes_give_null),
        CASE(test_realloc_keeps_what_fits),
        CASE(test_strndup_copies_and_terminates),
        CASE(test_faults_start_after_n_allocations),
        CASE(test_guard_belongs_to_its_thread_and_ends),
        CASE(test_guard_ends_the_program_and_names_the_phase),
        CASE(test_budget_refuses_with_the_exact_shortfall),
        CASE(test_budget_and_counters_hold_between_threads),
        CASE(test_size_arithmetic_sees_overflow),
    };
#undef CASE
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
