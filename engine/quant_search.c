/* quant_search.c - quantizers that look for the scales that lose least.
 *
 * Depends on: quant.  Thread: any; no state.
 *
 * A sub-block tries some two dozen steps around the plain one.  Each step gives
 * quants; for these the best scale (and minimum) follow from weighted least
 * squares; the pair that errs least stays.  Then the scales of a 256-block are
 * rounded to their integers, each with its neighbours tried, the common factors
 * are fitted to the result once more, and of both rounds the better stays.
 * Errors count with |x| + rms: large weights matter more than their share.
 * One order of floats, so the same bytes on every machine. */
#include "engine/quant_search.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define STEPS  9      /* to each side, of a scale alone */
#define RANGES 21     /* with a minimum */
#define TINY   1e-30f /* a block of less is one of zeros */

/* The value of the IQ4 table nearest to i - 128; of two, the lower. */
static const int8_t nearest_iq4[256] = {
    -127, -127, -127, -127, -127, -127, -127, -127, -127, -127, -127, -127,
    -127, -104, -104, -104, -104, -104, -104, -104, -104, -104, -104, -104,
    -104, -104, -104, -104, -104, -104, -104, -104, -104, -104, -104, -83,
    -83,  -83,  -83,  -83,  -83,  -83,  -83,  -83,  -83,  -83,  -83,  -83,
    -83,  -83,  -83,  -83,  -83,  -83,  -83,  -65,  -65,  -65,  -65,  -65,
    -65,  -65,  -65,  -65,  -65,  -65,  -65,  -65,  -65,  -65,  -65,  -65,
    -49,  -49,  -49,  -49,  -49,  -49,  -49,  -49,  -49,  -49,  -49,  -49,
    -49,  -49,  -49,  -35,  -35,  -35,  -35,  -35,  -35,  -35,  -35,  -35,
    -35,  -35,  -35,  -35,  -22,  -22,  -22,  -22,  -22,  -22,  -22,  -22,
    -22,  -22,  -22,  -22,  -22,  -10,  -10,  -10,  -10,  -10,  -10,  -10,
    -10,  -10,  -10,  -10,  1,    1,    1,    1,    1,    1,    1,    1,
    1,    1,    1,    1,    13,   13,   13,   13,   13,   13,   13,   13,
    13,   13,   13,   13,   25,   25,   25,   25,   25,   25,   25,   25,
    25,   25,   25,   25,   38,   38,   38,   38,   38,   38,   38,   38,
    38,   38,   38,   38,   38,   38,   53,   53,   53,   53,   53,   53,
    53,   53,   53,   53,   53,   53,   53,   53,   53,   53,   69,   69,
    69,   69,   69,   69,   69,   69,   69,   69,   69,   69,   69,   69,
    69,   69,   69,   69,   89,   89,   89,   89,   89,   89,   89,   89,
    89,   89,   89,   89,   89,   89,   89,   89,   89,   89,   89,   89,
    89,   89,   113,  113,  113,  113,  113,  113,  113,  113,  113,  113,
    113,  113,  113,  113,  113,  113,  113,  113,  113,  113,  113,  113,
    113,  113,  113,  113,
};

/* Quants of a type: whole numbers from lo to hi, or the table's. */
struct grid {
    float lo, hi;
    float step; /* relative, between tries of a scale */
    bool iq4;
};

static struct grid grid_of(enum quant_type type)
{
    const struct quant_info *info = quant_info(type);
    struct grid g = {.lo = info->q_lo,
                     .hi = info->q_hi,
                     .iq4 = type == QUANT_IQ4_NL || type == QUANT_IQ4_XS};
    g.step = g.iq4 ? 0.0125f : -0.1f / g.lo;
    return g;
}

/* The quant nearest to v; of two, the even or (table) lower one. */
static inline float nearest(const struct grid *g, float v)
{
    v = v < g->lo ? g->lo : v;
    v = v > g->hi ? g->hi : v;
    v = (v + 0x1.8p23f) - 0x1.8p23f;
    return g->iq4 ? (float)nearest_iq4[(int)v + 128] : v;
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0;
}

/* How much errors of each weight count. */
static void weigh(const float *x, uint32_t n, float *w)
{
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i] * x[i];
    const float rms = sqrtf(sum / (float)n);
    for (uint32_t i = 0; i < n; i++) w[i] = rms + fabsf(x[i]);
}

/* --------------------------------------------------- one scale, or a pair */

/* The scale s of least error of s * nearest(x / s); 0 if all is tiny. */
static float fit_scale(const struct grid *g, const float *x, const float *w,
                       uint32_t n)
{
    float top = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    }
    if (fabsf(top) < TINY) return 0;
    float best = 0, best_gain = 0; /* what of the squares is explained */
    for (int try = 0; try < 2 * (2 * STEPS + 1); try++) {
        /* the largest becomes about the lowest quant, or about the highest */
        const float edge = try % 2 ? g->hi : g->lo;
        const float id = edge * (1 + g->step * (float)(try / 2 - STEPS)) / top;
        float xq = 0, qq = 0;
        for (uint32_t i = 0; i < n; i++) {
            const float q = nearest(g, x[i] * id);
            xq += w[i] * x[i] * q;
            qq += w[i] * q * q;
        }
        if (qq > 0 && xq * xq > best_gain * qq) {
            best_gain = xq * xq / qq;
            best = xq / qq;
        }
    }
    return best;
}

/* The line of least error through quants of one step: scale and low end. */
struct line {
    float scale, low;
};

static float line_error(const float *x, const float *w, const float *q,
                        uint32_t n, struct line l)
{
    float error = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float e = l.scale * q[i] + l.low - x[i];
        error += w[i] * e * e;
    }
    return error;
}

/* any_low: the low end may be above zero. */
static struct line through(const float *x, const float *w, const float *q,
                           uint32_t n, bool any_low)
{
    float sw = 0, sx = 0, sq = 0, sqq = 0, sxq = 0;
    for (uint32_t i = 0; i < n; i++) {
        sw += w[i];
        sx += w[i] * x[i];
        sq += w[i] * q[i];
        sqq += w[i] * q[i] * q[i];
        sxq += w[i] * x[i] * q[i];
    }
    const float det = sw * sqq - sq * sq;
    struct line l = {0, 0};
    if (det > 0) {
        l.scale = (sw * sxq - sx * sq) / det;
        l.low = (sqq * sx - sq * sxq) / det;
    }
    if (!(det > 0) || (l.low > 0 && !any_low)) {
        l.low = 0;
        l.scale = sqq > 0 ? sxq / sqq : 0;
    }
    return l;
}

static struct line fit_line(const struct grid *g, const float *x,
                            const float *w, uint32_t n, bool any_low)
{
    float lo = x[0], hi = x[0];
    for (uint32_t i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (!any_low && lo > 0) lo = 0;
    struct line best = {0, lo};
    if (hi - lo < TINY) return best;
    float q[32], least = INFINITY;
    for (int try = 0; try < RANGES; try++) {
        const float id = (g->hi - 1 + 0.1f * (float)try) / (hi - lo);
        for (uint32_t i = 0; i < n; i++) q[i] = nearest(g, (x[i] - lo) * id);
        const struct line l = through(x, w, q, n, any_low);
        const float error = line_error(x, w, q, n, l);
        if (l.scale >= 0 && error < least) {
            least = error;
            best = l;
        }
    }
    return best;
}

/* ----------------------------------------------------------- blocks of 32 */

static void search_32(const struct grid *g, const float *x,
                      struct quant_block *b)
{
    float w[32];
    weigh(x, 32, w);
    b->d = f32_to_f16(fit_scale(g, x, w, 32));
    const float id = inverse(f16_to_f32(b->d));
    for (int i = 0; i < 32; i++) b->q[i] = (int8_t)nearest(g, x[i] * id);
}

static void search_32_min(const struct grid *g, const float *x,
                          struct quant_block *b)
{
    float w[32];
    weigh(x, 32, w);
    const struct line l = fit_line(g, x, w, 32, true);
    b->d = f32_to_f16(l.scale);
    b->dmin = f32_to_f16(-l.low);
    b->m[0] = 1;
    const float id = inverse(f16_to_f32(b->d)), low = -f16_to_f32(b->dmin);
    for (int i = 0; i < 32; i++) {
        b->q[i] = (int8_t)nearest(g, (x[i] - low) * id);
    }
}

/* ---------------------------------------------------------- blocks of 256 */

/* A block of 256 on its way: wanted scales and minima, what is chosen. */
struct super {
    const struct quant_info *info;
    struct grid grid;
    const float *x; /* [256] */
    float w[256];
    float scale[16], low[16];
};

/* Sub-block j with these numbers: its quants (unless NULL), its error. */
static float try_numbers(const struct super *s, uint32_t j, float dl, float ml,
                         int8_t *q)
{
    const uint32_t at = j * s->info->sub;
    const float id = inverse(dl);
    float error = 0;
    for (uint32_t i = 0; i < s->info->sub; i++) {
        const float v = nearest(&s->grid, (s->x[at + i] + ml) * id);
        const float e = dl * v - ml - s->x[at + i];
        error += s->w[at + i] * e * e;
        if (q) q[i] = (int8_t)v;
    }
    return error;
}

static int clamped(float x, int lo, int hi)
{
    if (!(x > (float)lo)) return lo;
    if (x > (float)hi) return hi;
    return (int)floorf(x + 0.5f);
}

/* The numbers of sub-block j around the wanted ones; returns its error. */
static float choose(const struct super *s, uint32_t j, struct quant_block *b)
{
    const struct quant_info *info = s->info;
    const float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    const int sc0 = clamped(s->scale[j] * inverse(d), info->sc_lo, info->sc_hi);
    const int m0 = clamped(s->low[j] * inverse(dmin), 0, info->m_hi);
    float least = INFINITY;
    for (int sc = sc0 - 1; sc <= sc0 + 1; sc++) {
        if (sc < info->sc_lo || sc > info->sc_hi) continue;
        for (int m = m0 - 1; m <= m0 + 1; m++) {
            if (m < 0 || m > info->m_hi) continue;
            const float error =
                try_numbers(s, j, d * (float)sc, dmin * (float)m, NULL);
            if (error < least) {
                least = error;
                b->sc[j] = (int8_t)sc;
                b->m[j] = (uint8_t)m;
            }
        }
    }
    return try_numbers(s, j, d * (float)b->sc[j], dmin * (float)b->m[j],
                       b->q + j * info->sub);
}

static float choose_all(const struct super *s, struct quant_block *b)
{
    float error = 0;
    for (uint32_t j = 0; j < 256 / s->info->sub; j++) error += choose(s, j, b);
    return error;
}

/* d and dmin of least error for the quants, scales and minima of b. */
static void refit(const struct super *s, struct quant_block *b)
{
    double aa = 0, ac = 0, cc = 0, xa = 0, xc = 0;
    for (uint32_t n = 0; n < 256; n++) {
        const uint32_t j = n / s->info->sub;
        const double a = (double)b->sc[j] * (double)b->q[n], c = b->m[j];
        const double w = (double)s->w[n], x = (double)s->x[n];
        aa += w * a * a;
        ac += w * a * c;
        cc += w * c * c;
        xa += w * x * a;
        xc += w * x * c;
    }
    const double det = aa * cc - ac * ac;
    double d = aa > 0 ? xa / aa : 0, dmin = 0;
    if (det > 1e-9 * aa * cc && xa * ac - xc * aa > 0) {
        d = (xa * cc - xc * ac) / det;
        dmin = (xa * ac - xc * aa) / det;
    }
    b->d = f32_to_f16((float)d);
    b->dmin = f32_to_f16((float)dmin);
}

static void search_256(enum quant_type type, const float *x,
                       struct quant_block *b)
{
    struct super s = {.info = quant_info(type), .grid = grid_of(type), .x = x};
    const uint32_t sub = s.info->sub;
    float top_scale = 0, top_low = 0;
    weigh(x, 256, s.w);
    for (uint32_t j = 0; j < 256 / sub; j++) {
        const float *xj = x + j * sub, *wj = s.w + j * sub;
        if (s.info->with_min) {
            const struct line l = fit_line(&s.grid, xj, wj, sub, false);
            s.scale[j] = l.scale;
            s.low[j] = -l.low;
        } else {
            s.scale[j] = fit_scale(&s.grid, xj, wj, sub);
        }
        if (fabsf(s.scale[j]) > fabsf(top_scale)) top_scale = s.scale[j];
        top_low = s.low[j] > top_low ? s.low[j] : top_low;
    }
    /* where scales have a sign, the largest gets the lowest number */
    const int edge = s.info->with_min ? s.info->sc_hi : s.info->sc_lo;
    b->d = f32_to_f16(top_scale / (float)edge);
    if (s.info->with_min) b->dmin = f32_to_f16(top_low / (float)s.info->m_hi);
    const float first = choose_all(&s, b);
    struct quant_block again = *b;
    refit(&s, &again);
    if (choose_all(&s, &again) < first) *b = again;
}

void quant_search_row(enum quant_type type, const float *src, void *dst,
                      uint64_t k)
{
    const struct quant_info *info = quant_info(type);
    assert(info && "quant_search_row: type checked by the caller");
    if (info->block == 1 || type == QUANT_Q8_0) {
        quant_quantize_row(type, src, dst, k);
        return;
    }
    const struct grid g = grid_of(type);
    uint8_t *p = dst;
    for (uint64_t i = 0; i < k / info->block; i++, p += info->block_bytes) {
        const float *x = src + info->block * i;
        struct quant_block b = {.sc = {1}};
        if (info->block == 256) {
            search_256(type, x, &b);
        } else if (info->with_min) {
            search_32_min(&g, x, &b);
        } else {
            search_32(&g, x, &b);
        }
        quant_block_write(type, &b, p);
    }
}
