/* vec_avx512vnni.c - the table for AVX-512 with VNNI. */
#include "engine/vec.h"

#ifdef __AVX512VNNI__
#include "engine/vec_table.h"

VEC_TABLE(avx512vnni)
#else
const struct vec_ops *vec_ops_avx512vnni(void)
{
    return NULL;
}
#endif
