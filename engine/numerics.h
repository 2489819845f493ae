/* numerics.h - the arithmetic that every machine must do alike.
 *
 * Depends on: libc's sqrt, floor, rint only.  Thread: any.
 * Formal statement: docs/NUMERICS.md; this header and kernels_ref.c are its
 * executable form.  Nothing here may be contracted to fused multiply-adds
 * (the Makefile passes -ffp-contract=off). */
#ifndef ENGINE_NUMERICS_H
#define ENGINE_NUMERICS_H

#include <stdbool.h>
#include <stdint.h>

/* Travels in the handshake: machines with different versions do not mix. */
#define NUMERICS_VERSION 1

/* A leaf is this many consecutive k of a dot product; the last of a row may
 * be shorter. */
#define NM_LEAF       256
#define NM_LEAVES_MAX 512 /* rows of up to 131,072 weights */
#define NM_DEPTH_MAX  11  /* partial sums alive at once: log2(512) + 2 */

/* The balanced tree as a program for a stack: push leaf i, then merges[i]
 * times replace the two top values (a below b) by a + b.  One value remains. */
struct nm_tree {
    uint32_t n_leaves;
    uint8_t merges[NM_LEAVES_MAX];
};

/* The tree over ceil(k / NM_LEAF) leaves that splits n at ceil(n / 2).
 * k in [1, NM_LEAF * NM_LEAVES_MAX]. */
void nm_tree_init(struct nm_tree *tree, uint32_t k);
/* Its value over n leaves already computed; n >= 1. */
float nm_tree_sum(const float *leaves, uint32_t n);

/* Eight lanes to one: ((0+4)+(2+6)) + ((1+5)+(3+7)). */
static inline float nm_lanes_sum(const float lane[8])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* One leaf of a dot product of f32 with f32: lane i of eight sums the
 * products of k = i mod 8 in ascending k, each rounded, starting at +0. */
float nm_leaf_f32(const float *a, const float *b, uint32_t n);
/* The whole: the tree over its leaves. */
float nm_dot_f32(const float *a, const float *b, uint32_t k);

/* e^x in f32: 0 below -87.3, +infinity above 88.7; within 2 ulp. */
float nm_exp(float x);
/* Natural logarithm of a positive f32, computed in f64, rounded once. */
float nm_log(float x);
/* x / (1 + e^-x). */
float nm_silu(float x);
/* Within 2 ulp. */
float nm_tanh(float x);
/* The tanh form of GELU, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))),
 * of x rounded to f16, itself rounded to f16; 0 from -10 down, x from 10 up.
 * So llama.cpp has it on processors, and so we can agree with it. */
float nm_gelu(float x);
/* cap * tanh(x / cap), x being multiplied by 1 / cap. */
float nm_soft_cap(float x, float cap);

/* f64 functions for tables; relative error below 2^-50 on the stated range
 * (pow 2^-47 while |e log base| <= 17), sin and cos absolute. */
double nm_exp64(double x);                        /* |x| <= 700 */
double nm_log64(double x);                        /* positive, normal */
double nm_pow64(double base, double e);           /* base positive */
void nm_sincos64(double x, double *s, double *c); /* |x| <= 2^20, else NaN */

/* y = x * (1 / sqrt(mean(x^2) + eps)) * w, see NUMERICS 6; y may be x. */
void nm_rmsnorm(const float *x, const float *w, float eps, uint32_t n,
                float *y);

/* Ends the program if this thread does not round to nearest or flushes
 * denormals: a library that changed it would change answers. */
void nm_assert_environment(void);

#endif
