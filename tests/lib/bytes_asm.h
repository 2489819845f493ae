/* bytes_asm.h - bytes from a line of text, for tables of malformed input.
 *
 * Depends on: buf.  Thread: its owner's.
 *
 * Words, separated by spaces:
 *   raw:TEXT              those bytes
 *   u8:N u16:N u32:N u64:N  little-endian; decimal, 0x, or negative
 *   f32:X f64:X           IEEE
 *   s:TEXT                u64 length and the bytes (a GGUF string)
 *   z:N                   N zero bytes
 *   a:N                   N letters 'a'
 *   pad:N                 zeros up to a multiple of N */
#ifndef TESTS_LIB_BYTES_ASM_H
#define TESTS_LIB_BYTES_ASM_H

#include "common/buf.h"

/* Appends to *out.  ST_INVALID names the word that is none. */
NODISCARD enum status bytes_asm(struct buf *out, const char *text,
                                struct error *err);

#endif
