#include "engine/vec.h"

const struct vec_ops *vec_ops_avx2(void)
{
    return NULL;
}
