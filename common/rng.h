/* rng.h - seeded numbers, the same on every machine.
 *
 * Depends on: libc.  Thread: any (no state but the caller's).
 *
 * Two forms: a stream (struct rng) for tests and generated models, and a
 * counter-based one for sampling, where the n-th draw depends on (seed, n)
 * alone, so that a request can be resumed anywhere. Both are SplitMix64's
 * finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
 * generators", figure 16). */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t rng_u64(struct rng *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return rng_mix(r->state);
}

/* Uniform in [0, n); n > 0.  The bias of the modulo is below n / 2^64. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_u64(r) % n;
}

/* Uniform in (0, 1): 52 random bits and a half, so never 0 or 1. */
static inline double rng_unit(uint64_t bits)
{
    return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

/* The bits of draw (n, lane) of a seed. */
static inline uint64_t rng_at(uint64_t seed, uint64_t n, uint64_t lane)
{
    uint64_t h = rng_mix(seed + UINT64_C(0x9e3779b97f4a7c15));
    h = rng_mix(h ^ (n + UINT64_C(0x9e3779b97f4a7c15)));
    return rng_mix(h ^ (lane + UINT64_C(0x632be59bd9b4e019)));
}

#endif
