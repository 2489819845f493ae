/* vec_sse4.c - the table for SSE4.1. */
#include "engine/vec.h"

#ifdef __SSE4_1__
#include "engine/vec_table.h"

VEC_TABLE(sse4)
#else
const struct vec_ops *vec_ops_sse4(void)
{
    return NULL;
}
#endif
