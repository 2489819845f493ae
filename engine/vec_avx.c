/* vec_avx.c - the table for AVX without F16C (Sandy Bridge). */
#include "engine/vec.h"

#ifdef __AVX__
#include "engine/vec_table.h"

VEC_TABLE(avx)
#else
const struct vec_ops *vec_ops_avx(void)
{
    return NULL;
}
#endif
