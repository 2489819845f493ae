/* vec_f16c.c - the table for AVX with F16C (Ivy Bridge). */
#include "engine/vec.h"

#ifdef __F16C__
#include "engine/vec_table.h"

VEC_TABLE(f16c)
#else
const struct vec_ops *vec_ops_f16c(void)
{
    return NULL;
}
#endif
