/* stand_in.c - what the engine's tests call of cmocka and of OpenBLAS, for a
 * processor that this machine has no libraries for: `make arm64-check` links
 * the tests to this and to libc, statically, and runs them in an emulator.
 *
 * A failed assertion ends the program; tests/run.sh counts the cases that its
 * plan promised and that never came as failed.  WANT_ISA in the environment
 * is the level that the processor must be found to have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/compiler.h"
#include "engine/cpu.h"

/* ------------------------------------------------------------- cmocka */

static size_t n_done;

void _fail(const char *file, int line)
{
    printf("not ok %zu - %s:%d\n", n_done + 1, file, line);
    exit(1);
}

void _assert_true(LargestIntegralType result, const char *text,
                  const char *file, int line)
{
    if (result) return;
    printf("%s\n", text);
    _fail(file, line);
}

void _assert_int_equal(LargestIntegralType a, LargestIntegralType b,
                       const char *file, int line)
{
    if (a == b) return;
    printf("0x%llx != 0x%llx\n", (unsigned long long)a, (unsigned long long)b);
    _fail(file, line);
}

void _assert_int_not_equal(LargestIntegralType a, LargestIntegralType b,
                           const char *file, int line)
{
    if (a != b) return;
    printf("0x%llx == 0x%llx\n", (unsigned long long)a, (unsigned long long)b);
    _fail(file, line);
}

void _assert_in_range(LargestIntegralType value, LargestIntegralType least,
                      LargestIntegralType most, const char *file, int line)
{
    if (value >= least && value <= most) return;
    printf("0x%llx is out of range\n", (unsigned long long)value);
    _fail(file, line);
}

void _assert_memory_equal(const void *a, const void *b, size_t n,
                          const char *file, int line)
{
    if (memcmp(a, b, n) != 0) _fail(file, line);
}

void _assert_string_equal(const char *a, const char *b, const char *file,
                          int line)
{
    if (strcmp(a, b) == 0) return;
    printf("\"%s\" != \"%s\"\n", a, b);
    _fail(file, line);
}

PRINTF_LIKE(1, 2) void print_message(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

PRINTF_LIKE(1, 2) void print_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests,
                            size_t n, CMFixtureFunction group_setup,
                            CMFixtureFunction group_teardown)
{
    (void)name;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a crash loses nothing */
    printf("1..%zu\n", n);
    const char *want = getenv("WANT_ISA"), *level = isa_name(cpu_isa());
    if (want && strcmp(want, level) != 0) {
        printf("this processor has %s, wanted %s\n", level, want);
        _fail("WANT_ISA", 0);
    }
    void *group = NULL;
    if (group_setup && group_setup(&group) != 0) _fail("setup", 0);
    for (; n_done < n; n_done++) {
        const struct CMUnitTest *t = tests + n_done;
        void *state = t->initial_state ? t->initial_state : group;
        if (t->setup_func && t->setup_func(&state) != 0) _fail(t->name, 0);
        t->test_func(&state);
        if (t->teardown_func && t->teardown_func(&state) != 0) {
            _fail(t->name, 0);
        }
        printf("ok %zu - %s\n", n_done + 1, t->name);
    }
    return group_teardown ? group_teardown(&group) : 0;
}

/* ----------------------------------------------------------- OpenBLAS */

int openblas_get_parallel(void)
{
    return OPENBLAS_SEQUENTIAL;
}

void openblas_set_num_threads(int n)
{
    (void)n;
}

/* C = A * B', row-major: the one product the engine asks for. */
void cblas_sgemm(OPENBLAS_CONST enum CBLAS_ORDER order,
                 OPENBLAS_CONST enum CBLAS_TRANSPOSE trans_a,
                 OPENBLAS_CONST enum CBLAS_TRANSPOSE trans_b,
                 OPENBLAS_CONST blasint m, OPENBLAS_CONST blasint n,
                 OPENBLAS_CONST blasint k, OPENBLAS_CONST float alpha,
                 OPENBLAS_CONST float *a, OPENBLAS_CONST blasint lda,
                 OPENBLAS_CONST float *b, OPENBLAS_CONST blasint ldb,
                 OPENBLAS_CONST float beta, float *c,
                 OPENBLAS_CONST blasint ldc)
{
    if (order != CblasRowMajor || trans_a != CblasNoTrans ||
        trans_b != CblasTrans || !(alpha == 1.0f) || !(beta == 0.0f)) {
        _fail("another sgemm", 0);
    }
    for (blasint i = 0; i < m; i++) {
        for (blasint j = 0; j < n; j++) {
            float sum = 0;
            for (blasint l = 0; l < k; l++) {
                sum += a[(ptrdiff_t)i * lda + l] * b[(ptrdiff_t)j * ldb + l];
            }
            c[(ptrdiff_t)i * ldc + j] = sum;
        }
    }
}
