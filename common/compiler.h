/* compiler.h - the compiler extensions we use, in one place. */
#ifndef COMMON_COMPILER_H
#define COMMON_COMPILER_H

#include <stdint.h>

#define NODISCARD              __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN               __attribute__((noreturn))
#define LIKELY(x)              __builtin_expect(!!(x), 1)
#define UNLIKELY(x)            __builtin_expect(!!(x), 0)
#define ALWAYS_INLINE          inline __attribute__((always_inline))

/* Before a loop of few, constant iterations over arrays of vectors: unrolled,
 * the arrays become registers.  gcc does not unroll at -O2 by itself. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

_Static_assert(sizeof(void *) == 8, "potluck runs on 64-bit hosts only");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "GGUF and the wire are little-endian, and so must the host be");

#endif
