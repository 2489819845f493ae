/* The parts of training that torch does slowly on a processor: attention over
 * packed documents, RMSNorm, SwiGLU, and the way to the experts and back.
 * train.py builds this into a shared object; model.py holds the same sums in
 * plain torch, and `fast.py check` compares the two with their gradients.
 *
 * One thread. Arrays are row-major f32; "bf" ones hold bfloat16. A vector is
 * 16 floats; the compiler splits it on processors whose vectors are shorter. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define HEAD 32   /* width of a head */
#define ROWS 4    /* queries computed together */
#define KEYS 32   /* keys computed together */
#define MAX_T 512 /* longest document */

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint16_t bf;

static inline float from_bf(bf x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline bf to_bf(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (bf)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* e^x for x <= 0: 2^n times a polynomial, good to about 1e-6; 0 far below. */
static inline vec exp_vec(vec x)
{
    vec low = (vec){0} - 87.0f;
    x = (vec)(((ivec)x & (x > low)) | ((ivec)low & ~(x > low)));
    vec y = x * 1.44269504f;
    ivec n = __builtin_convertvector(y - 0.5f, ivec); /* to the nearest */
    vec r = y - __builtin_convertvector(n, vec);
    vec p = (vec){0} + 1.5403530e-4f;
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    return (vec)((ivec)p + (n << 23));
}

static struct {
    float kt[HEAD][MAX_T]; /* keys and values, by column and by row */
    float vt[HEAD][MAX_T];
    float k[MAX_T][HEAD];
    float v[MAX_T][HEAD];
    float dk[MAX_T][HEAD];
    float dv[MAX_T][HEAD];
    float p[ROWS][MAX_T];
    float dp[ROWS][MAX_T];
    float q[ROWS][HEAD];
    float dy[ROWS][HEAD];
    float dq[ROWS][HEAD];
} w __attribute__((aligned(64)));

static inline vec load(const float *p)
{
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void store(float *p, vec x)
{
    memcpy(p, &x, sizeof x);
}

/* Turns pairs (2i, 2i+1) by the angles of a position; sign -1 turns back. */
static void rotate(float *x, const float *cs, float sign)
{
    for (int i = 0; i < HEAD / 2; i++) {
        float c = cs[2 * i], s = sign * cs[2 * i + 1];
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}

/* out[r][j] = sum_d a[r][d] bt[d][j], for j below n (a multiple of KEYS). */
static void rows_by_columns(float out[ROWS][MAX_T], float a[ROWS][HEAD],
                            float bt[HEAD][MAX_T], int n)
{
    for (int j = 0; j < n; j += KEYS) {
        vec s[ROWS][2] = {{{0}}};
        for (int d = 0; d < HEAD; d++) {
            vec b0 = load(&bt[d][j]), b1 = load(&bt[d][j + 16]);
            for (int r = 0; r < ROWS; r++) {
                s[r][0] += b0 * a[r][d];
                s[r][1] += b1 * a[r][d];
            }
        }
        for (int r = 0; r < ROWS; r++) {
            store(&out[r][j], s[r][0]);
            store(&out[r][j + 16], s[r][1]);
        }
    }
}

/* out[r][d] = sum_j a[r][j] b[j][d] */
static void weighted_rows(float out[ROWS][HEAD], float a[ROWS][MAX_T],
                          float b[MAX_T][HEAD], int n)
{
    vec s[ROWS][2] = {{{0}}};
    for (int j = 0; j < n; j++) {
        vec b0 = load(b[j]), b1 = load(b[j] + 16);
        for (int r = 0; r < ROWS; r++) {
            s[r][0] += b0 * a[r][j];
            s[r][1] += b1 * a[r][j];
        }
    }
    for (int r = 0; r < ROWS; r++) {
        store(out[r], s[r][0]);
        store(out[r] + 16, s[r][1]);
    }
}

/* to[j] += sum_r a[r][j] b[r] */
static void add_outer(float to[MAX_T][HEAD], float a[ROWS][MAX_T],
                      float b[ROWS][HEAD], int n)
{
    vec x[ROWS][2];
    for (int r = 0; r < ROWS; r++) {
        x[r][0] = load(b[r]);
        x[r][1] = load(b[r] + 16);
    }
    for (int j = 0; j < n; j++) {
        vec t0 = load(to[j]), t1 = load(to[j] + 16);
        for (int r = 0; r < ROWS; r++) {
            t0 += x[r][0] * a[r][j];
            t1 += x[r][1] * a[r][j];
        }
        store(to[j], t0);
        store(to[j] + 16, t1);
    }
}

/* Keys (turned) and values of one document and head into w. */
static void fetch(const float *k, const float *v, int stride, int t, int padded,
                  const float *cs)
{
    for (int j = 0; j < padded; j++) {
        memset(w.k[j], 0, sizeof w.k[j]);
        memset(w.v[j], 0, sizeof w.v[j]);
        if (j < t) {
            memcpy(w.k[j], k + (size_t)j * stride, sizeof w.k[j]);
            memcpy(w.v[j], v + (size_t)j * stride, sizeof w.v[j]);
            rotate(w.k[j], cs + j * HEAD, 1);
        }
        for (int d = 0; d < HEAD; d++) {
            w.kt[d][j] = w.k[j][d];
            w.vt[d][j] = w.v[j][d];
        }
    }
}

static int pad(int n)
{
    return (n + KEYS - 1) / KEYS * KEYS;
}

/* q, y [n, n_head HEAD]; k, v [n, n_kv HEAD]; document s is rows
 * start[s]..start[s + 1]; cs [MAX_T, HEAD] holds cosines and sines in turn;
 * lse [n, n_head] is kept for the way back. */
void attend(const float *q, const float *k, const float *v, float *y,
            float *lse, const int64_t *start, int n_doc, const float *cs,
            int n_head, int n_kv)
{
    float scale = 1.0f / sqrtf(HEAD);
    int share = n_head / n_kv, sq = n_head * HEAD, skv = n_kv * HEAD;
    for (int s = 0; s < n_doc; s++)
        for (int g = 0; g < n_kv; g++) {
            size_t at = (size_t)start[s];
            int t = (int)(start[s + 1] - start[s]);
            fetch(k + at * skv + g * HEAD, v + at * skv + g * HEAD, skv, t,
                  pad(t), cs);
            for (int h = g * share; h < (g + 1) * share; h++)
                for (int i = 0; i < t; i += ROWS) {
                    int n_row = t - i < ROWS ? t - i : ROWS;
                    int n = pad(i + n_row);
                    float total[ROWS];
                    memset(w.q, 0, sizeof w.q);
                    for (int r = 0; r < n_row; r++) {
                        memcpy(w.q[r], q + (at + i + r) * sq + h * HEAD,
                               sizeof w.q[r]);
                        rotate(w.q[r], cs + (i + r) * HEAD, 1);
                        for (int d = 0; d < HEAD; d++)
                            w.q[r][d] *= scale;
                    }
                    rows_by_columns(w.p, w.q, w.kt, n);
                    for (int r = 0; r < n_row; r++) {
                        float top = w.p[r][0];
                        for (int j = 1; j <= i + r; j++)
                            top = w.p[r][j] > top ? w.p[r][j] : top;
                        for (int j = i + r + 1; j < n; j++)
                            w.p[r][j] = -1e30f;
                        vec sum = {0};
                        for (int j = 0; j < n; j += 16) {
                            vec e = exp_vec(load(&w.p[r][j]) - top);
                            store(&w.p[r][j], e);
                            sum += e;
                        }
                        for (int j = i + r + 1; j < n; j++)
                            w.p[r][j] = 0;
                        total[r] = 0;
                        for (int j = 0; j < 16; j++)
                            total[r] += sum[j];
                        lse[(at + i + r) * n_head + h] = top + logf(total[r]);
                    }
                    weighted_rows(w.dq, w.p, w.v, i + n_row);
                    for (int r = 0; r < n_row; r++)
                        for (int d = 0; d < HEAD; d++)
                            y[(at + i + r) * sq + h * HEAD + d] =
                                w.dq[r][d] / total[r];
                }
        }
}

/* The gradients of the above: dy as y, dq as q, dk and dv as k. */
void attend_back(const float *q, const float *k, const float *v, const float *y,
                 const float *lse, const float *dy, float *dq, float *dk,
                 float *dv, const int64_t *start, int n_doc, const float *cs,
                 int n_head, int n_kv)
{
    float scale = 1.0f / sqrtf(HEAD);
    int share = n_head / n_kv, sq = n_head * HEAD, skv = n_kv * HEAD;
    for (int s = 0; s < n_doc; s++)
        for (int g = 0; g < n_kv; g++) {
            size_t at = (size_t)start[s];
            int t = (int)(start[s + 1] - start[s]);
            fetch(k + at * skv + g * HEAD, v + at * skv + g * HEAD, skv, t,
                  pad(t), cs);
            memset(w.dk, 0, (size_t)pad(t) * sizeof w.dk[0]);
            memset(w.dv, 0, (size_t)pad(t) * sizeof w.dv[0]);
            for (int h = g * share; h < (g + 1) * share; h++)
                for (int i = 0; i < t; i += ROWS) {
                    int n_row = t - i < ROWS ? t - i : ROWS;
                    int n = pad(i + n_row);
                    float delta[ROWS] = {0};
                    memset(w.q, 0, sizeof w.q);
                    memset(w.dy, 0, sizeof w.dy);
                    for (int r = 0; r < n_row; r++) {
                        size_t row = (at + i + r) * sq + h * HEAD;
                        memcpy(w.q[r], q + row, sizeof w.q[r]);
                        memcpy(w.dy[r], dy + row, sizeof w.dy[r]);
                        rotate(w.q[r], cs + (i + r) * HEAD, 1);
                        for (int d = 0; d < HEAD; d++) {
                            w.q[r][d] *= scale;
                            delta[r] += w.dy[r][d] * y[row + d];
                        }
                    }
                    rows_by_columns(w.p, w.q, w.kt, n);
                    rows_by_columns(w.dp, w.dy, w.vt, n);
                    for (int r = 0; r < ROWS; r++) {
                        int last = r < n_row ? i + r : -1;
                        float l = last < 0
                                      ? 0
                                      : lse[(at + i + r) * n_head + h];
                        for (int j = last + 1; j < n; j++)
                            w.p[r][j] = -1e30f;
                        for (int j = 0; j < n; j += 16)
                            store(&w.p[r][j], exp_vec(load(&w.p[r][j]) - l));
                        for (int j = last + 1; j < n; j++)
                            w.p[r][j] = 0;
                        for (int j = 0; j < n; j += 16)
                            store(&w.dp[r][j],
                                  load(&w.p[r][j]) *
                                      (load(&w.dp[r][j]) - delta[r]));
                    }
                    add_outer(w.dv, w.p, w.dy, i + n_row);
                    add_outer(w.dk, w.dp, w.q, i + n_row);
                    weighted_rows(w.dq, w.dp, w.k, i + n_row);
                    for (int r = 0; r < n_row; r++) {
                        rotate(w.dq[r], cs + (i + r) * HEAD, -1);
                        for (int d = 0; d < HEAD; d++)
                            dq[(at + i + r) * sq + h * HEAD + d] =
                                w.dq[r][d] * scale;
                    }
                }
            for (int j = 0; j < t; j++) {
                rotate(w.dk[j], cs + j * HEAD, -1);
                size_t row = (at + j) * skv + g * HEAD;
                memcpy(dk + row, w.dk[j], sizeof w.dk[j]);
                memcpy(dv + row, w.dv[j], sizeof w.dv[j]);
            }
        }
}

/* y = x / rms(x) * weight over rows of k; r [n] is kept. */
void rms(const float *x, const float *weight, float *y, float *kept, int n,
         int k, float eps)
{
    for (int i = 0; i < n; i++) {
        const float *a = x + (size_t)i * k;
        float *b = y + (size_t)i * k, sum = 0;
        for (int j = 0; j < k; j++)
            sum += a[j] * a[j];
        float r = kept[i] = 1.0f / sqrtf(sum / k + eps);
        for (int j = 0; j < k; j++)
            b[j] = a[j] * r * weight[j];
    }
}

void rms_back(const float *x, const float *weight, const float *kept,
              const float *dy, float *dx, float *dweight, int n, int k)
{
    memset(dweight, 0, (size_t)k * sizeof *dweight);
    for (int i = 0; i < n; i++) {
        const float *a = x + (size_t)i * k, *g = dy + (size_t)i * k;
        float *b = dx + (size_t)i * k, r = kept[i], dot = 0;
        for (int j = 0; j < k; j++)
            dot += a[j] * g[j] * weight[j];
        dot *= r * r * r / k;
        for (int j = 0; j < k; j++) {
            dweight[j] += g[j] * a[j] * r;
            b[j] = g[j] * weight[j] * r - a[j] * dot;
        }
    }
}

/* 1 / (1 + e^-x) */
static inline vec sigmoid(vec x)
{
    ivec negative = x < (vec){0};
    vec size = (vec)((ivec)x & 0x7fffffff);
    vec e = exp_vec(-size), s = 1.0f / (1.0f + e);
    return (vec)(((ivec)(s * e) & negative) | ((ivec)s & ~negative));
}

static inline vec widen(const bf *p)
{
    float x[16];
    for (int i = 0; i < 16; i++)
        x[i] = from_bf(p[i]);
    return load(x);
}

static inline void narrow(bf *p, vec x)
{
    float f[16];
    store(f, x);
    for (int i = 0; i < 16; i++)
        p[i] = to_bf(f[i]);
}

/* h = silu(a) u; n is a multiple of 16 */
void swiglu(const bf *a, const bf *u, bf *h, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        vec x = widen(a + i);
        narrow(h + i, x * sigmoid(x) * widen(u + i));
    }
}

/* Replaces a and u by their gradients. */
void swiglu_back(bf *a, bf *u, const bf *dh, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        vec x = widen(a + i), s = sigmoid(x), g = widen(dh + i);
        vec y = widen(u + i);
        narrow(a + i, g * y * s * (1.0f + x * (1.0f - s)));
        narrow(u + i, g * x * s);
    }
}

/* y[i] = sum over the two places of token i of share * out[place] */
void gather(const bf *out, const float *share, const int64_t *place, float *y,
            int n, int k)
{
    for (int i = 0; i < n; i++) {
        const bf *a = out + place[2 * i] * k, *b = out + place[2 * i + 1] * k;
        float s = share[2 * i], t = share[2 * i + 1];
        for (int j = 0; j < k; j++)
            y[(size_t)i * k + j] = s * from_bf(a[j]) + t * from_bf(b[j]);
    }
}

/* The way back: dout[place] = share * dy[i], dshare = out[place] . dy[i] */
void gather_back(const bf *out, const float *share, const int64_t *place,
                 const float *dy, bf *dout, float *dshare, int n, int k)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 2; c++) {
            const float *g = dy + (size_t)i * k;
            const bf *a = out + place[2 * i + c] * k;
            bf *d = dout + place[2 * i + c] * k;
            float s = share[2 * i + c], dot = 0;
            for (int j = 0; j < k; j++) {
                dot += from_bf(a[j]) * g[j];
                d[j] = to_bf(s * g[j]);
            }
            dshare[2 * i + c] = dot;
        }
}

/* z[place] = x[i] in both places */
void spread(const float *x, const int64_t *place, bf *z, int n, int k)
{
    for (int i = 0; i < n; i++) {
        bf *a = z + place[2 * i] * k, *b = z + place[2 * i + 1] * k;
        for (int j = 0; j < k; j++)
            a[j] = to_bf(x[(size_t)i * k + j]);
        memcpy(b, a, (size_t)k * sizeof *b);
    }
}
