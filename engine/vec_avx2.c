/* vec_avx2.c - the table for AVX2. */
#include "engine/vec.h"

#ifdef __AVX2__
#include "engine/vec_table.h"

VEC_TABLE(avx2)
#else
const struct vec_ops *vec_ops_avx2(void)
{
    return NULL;
}
#endif
