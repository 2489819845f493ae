/* vec_neon.c - the table for 64-bit ARM. */
#include "engine/vec.h"

#ifdef __aarch64__
#include "engine/vec_table.h"

VEC_TABLE(neon)
#else
const struct vec_ops *vec_ops_neon(void)
{
    return NULL;
}
#endif
