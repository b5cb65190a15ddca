// Causal attention over packed rows in bfloat16 on a CPU with AVX512_BF16 or AVX2: forward and backward.
//
// 32 queries at a time stand in the lanes, keys go down the rows: scores, softmax and their derivatives are vertical, and every
// product is one shape, C (M, N) = A (M, K) B (K, N), with A as it lies in memory and B in pairs along K, as the processor's
// instruction takes them. Scores of a block of queries against all keys that they see are alive at once (L x 32 floats a
// thread), so the softmax is exact; nothing of size L x L ever is. The backward pass makes the scores again from the kept
// logarithms of the sums. A unit of work is one row and one key head with all query heads that share it: one thread adds up
// its gradients in a fixed order, so the same input gives the same bytes with any number of threads.

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"

#define QB 32

// C (M x NR*16) [+]= A (M x 2*pairs, row-major) * B ([pairs][NR*16][2])
#define TILE(MR, NR) \
INLINE void tile_##MR##_##NR(long pairs, const bf16 *a, long lda, const bf16 *b, long ldb, float *c, long ldc, int add) { \
    __m512 acc[MR][NR]; \
    UNROLLED for (int m = 0; m < MR; m++) UNROLLED for (int n = 0; n < NR; n++) \
        acc[m][n] = add ? _mm512_loadu_ps(c + m * ldc + 16 * n) : _mm512_setzero_ps(); \
    for (long k = 0; k < pairs; k++) { \
        __m512i bk[NR]; \
        UNROLLED for (int n = 0; n < NR; n++) bk[n] = _mm512_loadu_si512(b + k * ldb + 32 * n); \
        UNROLLED for (int m = 0; m < MR; m++) { \
            int32_t pair; memcpy(&pair, a + m * lda + 2 * k, 4); \
            __m512i am = _mm512_set1_epi32(pair); \
            UNROLLED for (int n = 0; n < NR; n++) acc[m][n] = add_pairs(acc[m][n], am, bk[n]); \
        } \
    } \
    UNROLLED for (int m = 0; m < MR; m++) UNROLLED for (int n = 0; n < NR; n++) _mm512_storeu_ps(c + m * ldc + 16 * n, acc[m][n]); \
}
#ifdef __AVX512BF16__
TILE(12, 2) TILE(6, 2) TILE(3, 2) TILE(1, 2)
TILE(6, 4) TILE(3, 4) TILE(1, 4)
#else // half as many registers of half the size
TILE(4, 1) TILE(2, 1) TILE(1, 1)
#endif

#define ROWS(MR, NR) \
    for (; m + MR <= M; m += MR) tile_##MR##_##NR(pairs, a + m * lda, lda, b + 2 * n, ldb, c + m * ldc + n, ldc, add)

// N is a multiple of 32; ldb counts bfloat16 numbers from one pair of rows of B to the next
static void product(long M, long N, long pairs, const bf16 *a, long lda, const bf16 *b, long ldb, float *c, long ldc, int add) {
    long n = 0;
#ifdef __AVX512BF16__
    for (; n + 64 <= N; n += 64) { long m = 0; ROWS(6, 4); ROWS(3, 4); ROWS(1, 4); }
    for (; n < N; n += 32) { long m = 0; ROWS(12, 2); ROWS(6, 2); ROWS(3, 2); ROWS(1, 2); }
#else
    for (; n < N; n += 16) { long m = 0; ROWS(4, 1); ROWS(2, 1); ROWS(1, 1); }
#endif
}

// rows (n <= QB) of D -> [D/2][QB][2], zero beyond n
static void pack_t(const bf16 *x, long ld, long n, long D, bf16 *out) {
    for (long i = 0; i < QB; i += 16)
        for (long d = 0; d < D; d += 32) {
            __m512i r[16];
            for (long e = 0; e < 16; e++)
                r[e] = i + e < n ? _mm512_loadu_si512(x + (i + e) * ld + d) : _mm512_setzero_si512();
            transpose16(r);
            for (long e = 0; e < 16; e++) _mm512_storeu_si512(out + ((d / 2 + e) * QB + i) * 2, r[e]);
        }
}
// two rows of 16 -> 16 pairs (row0, row1)
INLINE __m512i pair_up(__m256i r0, __m256i r1) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(r0), _mm512_slli_epi32(_mm512_cvtepu16_epi32(r1), 16));
}
INLINE __m256i row_or_zero(const bf16 *x, int there) {
    return there ? _mm256_loadu_si256((const void *)x) : _mm256_setzero_si256();
}
// two rows of 16 floats -> 16 pairs (row0, row1) of bf16
INLINE __m512i pair_rows(__m512 r0, __m512 r1) {
    return pair_up(narrow(r0), narrow(r1));
}
// rows (n <= QB) of D -> [QB/2][D][2], zero beyond n
static void pack_r(const bf16 *x, long ld, long n, long D, bf16 *out) {
    for (long i = 0; i < QB; i += 2)
        for (long d = 0; d < D; d += 16) {
            __m512i pair = pair_up(row_or_zero(x + i * ld + d, i < n), row_or_zero(x + (i + 1) * ld + d, i + 1 < n));
            _mm512_storeu_si512(out + (i / 2 * D + d) * 2, pair);
        }
}
// (L, D) -> (D, Lp), zero beyond L
static void transpose(const bf16 *x, long ld, long L, long D, bf16 *out, long Lp) {
    for (long j = 0; j < Lp; j += 32)
        for (long d = 0; d < D; d += 16) {
            __m512i r[16];
            for (long e = 0; e < 16; e++) {
                long k = j + 2 * e;
                r[e] = pair_up(row_or_zero(x + k * ld + d, k < L), row_or_zero(x + (k + 1) * ld + d, k + 1 < L));
            }
            transpose16(r);
            for (long e = 0; e < 16; e++) _mm512_storeu_si512(out + (d + e) * Lp + j, r[e]);
        }
}
// (D, QB) -> rows (n <= QB) of D in bf16
static void unpack_t(const float *x, long n, long D, bf16 *out, long ld) {
    for (long i = 0; i < n; i += 16)
        for (long d = 0; d < D; d += 16) {
            __m512i r[16];
            for (long e = 0; e < 16; e++) r[e] = _mm512_loadu_si512(x + (d + e) * QB + i);
            transpose16(r);
            for (long e = 0; e < 16 && i + e < n; e++) store(out + (i + e) * ld + d, _mm512_castsi512_ps(r[e]));
        }
}

typedef struct { float *s, *dp, *o, *dk, *dv; bf16 *qt, *gt, *qr, *gr, *pt, *dst, *pp, *vt; } Room;

static long even(long n) { return (n + 31) / 32 * 32; }

// scores transposed: s[j][i] for keys j0..end, queries i
static void scores(const bf16 *k, long sk, long j0, long end, long D, const bf16 *qt, float *s) {
    product(end - j0, QB, D / 2, k + j0 * sk, sk, qt, 2 * QB, s + j0 * QB, QB, 0);
}

INLINE __mmask16 seen(long j, long i, long window) { // lanes i..i+15 that see key j
    static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)i), _mm512_loadu_si512(lanes));
    __mmask16 m = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32((int)j));
    if (window) m &= _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32((int)(j + window)));
    return m;
}

static void forward_unit(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, long L, long D, long group,
                         long sq, long sk, long sv, long so, long T, float scale, long window, Room *r) {
    long Lp = even(L);
    transpose(v, sv, L, D, r->vt, Lp);
    for (long h = 0; h < group; h++)
        for (long i0 = 0; i0 < L; i0 += QB) {
            long n = L - i0 < QB ? L - i0 : QB, end = i0 + n;
            long j0 = window && i0 - window + 1 > 0 ? (i0 - window + 1) / 2 * 2 : 0;
            pack_t(q + i0 * sq + h * D, sq, n, D, r->qt);
            scores(k, sk, j0, end, D, r->qt, r->s);
            __m512 sc = _mm512_set1_ps(scale), ninf = _mm512_set1_ps(-INFINITY);
            __m512 top[2] = {ninf, ninf};
            long clear = window ? j0 : i0; // keys below are seen by all
            for (long j = j0; j < end; j++)
                for (int c = 0; c < 2; c++) {
                    __m512 x = _mm512_mul_ps(_mm512_loadu_ps(r->s + j * QB + 16 * c), sc);
                    if (j >= clear) x = _mm512_mask_mov_ps(ninf, seen(j, i0 + 16 * c, window), x);
                    _mm512_storeu_ps(r->s + j * QB + 16 * c, x);
                    top[c] = _mm512_max_ps(top[c], x);
                }
            __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int c = 0; c < 2; c++) top[c] = _mm512_max_ps(top[c], _mm512_set1_ps(-3e38f));
            long stop = (end + 1) / 2 * 2;
            for (long j = j0; j < stop; j += 2)
                for (int c = 0; c < 2; c++) {
                    __m512 x0 = _mm512_loadu_ps(r->s + j * QB + 16 * c);
                    __mmask16 m0 = _mm512_cmp_ps_mask(x0, ninf, _CMP_NEQ_UQ);
                    __m512 p0 = _mm512_maskz_mov_ps(m0, exp512(_mm512_sub_ps(x0, top[c]))), p1 = _mm512_setzero_ps();
                    if (j + 1 < end) {
                        __m512 x1 = _mm512_loadu_ps(r->s + (j + 1) * QB + 16 * c);
                        __mmask16 m1 = _mm512_cmp_ps_mask(x1, ninf, _CMP_NEQ_UQ);
                        p1 = _mm512_maskz_mov_ps(m1, exp512(_mm512_sub_ps(x1, top[c])));
                    }
                    sum[c] = _mm512_add_ps(sum[c], _mm512_add_ps(p0, p1));
                    _mm512_storeu_si512(r->pp + (j / 2 * QB + 16 * c) * 2, pair_rows(p0, p1));
                }
            // o^T (D x QB) = v^T (D x keys) p
            product(D, QB, (stop - j0) / 2, r->vt + j0, Lp, r->pp + j0 / 2 * QB * 2, 2 * QB, r->o, QB, 0);
            float total[QB], tops[QB];
            for (int c = 0; c < 2; c++) { _mm512_storeu_ps(total + 16 * c, sum[c]); _mm512_storeu_ps(tops + 16 * c, top[c]); }
            for (long i = 0; i < n; i++) lse[h * T + i0 + i] = tops[i] + logf(total[i]);
            for (int c = 0; c < 2; c++) {
                __m512 inv = _mm512_div_ps(_mm512_set1_ps(1.0f), sum[c]);
                for (long d = 0; d < D; d++)
                    _mm512_storeu_ps(r->o + d * QB + 16 * c, _mm512_mul_ps(_mm512_loadu_ps(r->o + d * QB + 16 * c), inv));
            }
            unpack_t(r->o, n, D, o + i0 * so + h * D, so);
        }
}

static void backward_unit(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *o, const bf16 *g, const float *lse,
                          bf16 *dq, bf16 *dk, bf16 *dv, long L, long D, long group, long sq, long sk, long sv, long so,
                          long sg, long sdq, long sdk, long sdv, long T, float scale, long window, Room *r) {
    long Lp = even(L);
    transpose(k, sk, L, D, r->vt, Lp);
    memset(r->dk, 0, sizeof(float) * L * D);
    memset(r->dv, 0, sizeof(float) * L * D);
    for (long h = 0; h < group; h++)
        for (long i0 = 0; i0 < L; i0 += QB) {
            long n = L - i0 < QB ? L - i0 : QB, end = i0 + n, stop = (end + 1) / 2 * 2;
            long j0 = window && i0 - window + 1 > 0 ? (i0 - window + 1) / 2 * 2 : 0;
            const bf16 *qi = q + i0 * sq + h * D, *gi = g + i0 * sg + h * D, *oi = o + i0 * so + h * D;
            pack_t(qi, sq, n, D, r->qt); pack_t(gi, sg, n, D, r->gt);
            pack_r(qi, sq, n, D, r->qr); pack_r(gi, sg, n, D, r->gr);
            float delta[QB] = {0}, norm[QB];
            for (long i = 0; i < QB; i++) norm[i] = i < n ? lse[h * T + i0 + i] : INFINITY;
            for (long i = 0; i < n; i++) {
                __m512 acc = _mm512_setzero_ps();
                for (long d = 0; d < D; d += 32)
                    acc = add_pairs(acc, _mm512_loadu_si512(gi + i * sg + d), _mm512_loadu_si512(oi + i * so + d));
                delta[i] = _mm512_reduce_add_ps(acc);
            }
            scores(k, sk, j0, end, D, r->qt, r->s);
            scores(v, sv, j0, end, D, r->gt, r->dp);
            __m512 sc = _mm512_set1_ps(scale);
            long clear = window ? j0 : i0;
            for (long j = j0; j < stop; j += 2)
                for (int c = 0; c < 2; c++) {
                    __m512 ln = _mm512_loadu_ps(norm + 16 * c), de = _mm512_loadu_ps(delta + 16 * c);
                    __m512 p[2], ds[2];
                    for (int e = 0; e < 2; e++) {
                        p[e] = ds[e] = _mm512_setzero_ps();
                        if (j + e >= end) continue;
                        __m512 x = _mm512_loadu_ps(r->s + (j + e) * QB + 16 * c);
                        p[e] = exp512(_mm512_min_ps(_mm512_setzero_ps(), _mm512_fmsub_ps(x, sc, ln)));
                        __mmask16 m = j + e >= clear ? seen(j + e, i0 + 16 * c, window) : 0xffff;
                        if (n < QB) m &= (__mmask16)((n - 16 * c >= 16) ? 0xffff : n - 16 * c <= 0 ? 0 : (1 << (n - 16 * c)) - 1);
                        p[e] = _mm512_maskz_mov_ps(m, p[e]);
                        __m512 dp = _mm512_sub_ps(_mm512_loadu_ps(r->dp + (j + e) * QB + 16 * c), de);
                        ds[e] = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_mov_ps(m, dp), p[e]), sc);
                        _mm256_storeu_si256((void *)(r->pt + (j + e) * QB + 16 * c), narrow(p[e]));
                        _mm256_storeu_si256((void *)(r->dst + (j + e) * QB + 16 * c), narrow(ds[e]));
                    }
                    _mm512_storeu_si512(r->pp + (j / 2 * QB + 16 * c) * 2, pair_rows(ds[0], ds[1]));
                }
            product(end - j0, D, QB / 2, r->pt + j0 * QB, QB, r->gr, 2 * D, r->dv + j0 * D, D, 1);
            product(end - j0, D, QB / 2, r->dst + j0 * QB, QB, r->qr, 2 * D, r->dk + j0 * D, D, 1);
            product(D, QB, (stop - j0) / 2, r->vt + j0, Lp, r->pp + j0 / 2 * QB * 2, 2 * QB, r->o, QB, 0);
            unpack_t(r->o, n, D, dq + i0 * sdq + h * D, sdq);
        }
    for (long j = 0; j < L; j++)
        for (long d = 0; d < D; d += 16) {
            _mm256_storeu_si256((void *)(dk + j * sdk + d), narrow(_mm512_loadu_ps(r->dk + j * D + d)));
            _mm256_storeu_si256((void *)(dv + j * sdv + d), narrow(_mm512_loadu_ps(r->dv + j * D + d)));
        }
}

static void *get(char **at, long bytes) { void *p = *at; *at += (bytes + 63) / 64 * 64; return p; }
static long room(Room *r, char *base, long L, long D, int backward) {
    char *at = base; long Lp = even(L);
    r->s = get(&at, 4 * Lp * QB); r->o = get(&at, 4 * D * QB); r->qt = get(&at, 2 * D * QB); r->vt = get(&at, 2 * D * Lp);
    r->pp = get(&at, 2 * Lp * QB);
    if (backward) {
        r->dp = get(&at, 4 * Lp * QB); r->dk = get(&at, 4 * Lp * D); r->dv = get(&at, 4 * Lp * D);
        r->gt = get(&at, 2 * D * QB); r->qr = get(&at, 2 * D * QB); r->gr = get(&at, 2 * D * QB);
        r->pt = get(&at, 2 * Lp * QB); r->dst = get(&at, 2 * Lp * QB);
    }
    return at - base;
}

// Scratch for every thread: 0 when there is no memory for it.
static char *rooms(const int32_t *cu, long rows, long D, int backward, long *longest, long *bytes) {
    *longest = 0;
    for (long s = 0; s < rows; s++) if (cu[s + 1] - cu[s] > *longest) *longest = cu[s + 1] - cu[s];
    Room none;
    *bytes = room(&none, 0, *longest, D, backward);
    return aligned_alloc(64, *bytes * omp_get_max_threads());
}

// q (T, Hq, D), k and v (T, Hkv, D), o like q; sq, sk, sv, so: numbers from one token to the next. lse (Hq, T). cu (rows + 1).
int budwood_attention_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, const int32_t *cu, long rows,
                              long Hq, long Hkv, long D, long sq, long sk, long sv, long so, long T, float scale, long window) {
    long longest, bytes, group = Hq / Hkv;
    char *mem = rooms(cu, rows, D, 0, &longest, &bytes);
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), longest, D, 0);
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < rows * Hkv; u++) {
            long s = u / Hkv, h = u % Hkv, t = cu[s];
            forward_unit(q + t * sq + h * group * D, k + t * sk + h * D, v + t * sv + h * D, o + t * so + h * group * D,
                         lse + h * group * T + t, cu[s + 1] - t, D, group, sq, sk, sv, so, T, scale, window, &r);
        }
    }
    free(mem);
    return 0;
}

int budwood_attention_backward(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *o, const bf16 *g, const float *lse,
                               bf16 *dq, bf16 *dk, bf16 *dv, const int32_t *cu, long rows, long Hq, long Hkv, long D, long sq,
                               long sk, long sv, long so, long sg, long sdq, long sdk, long sdv, long T, float scale,
                               long window) {
    long longest, bytes, group = Hq / Hkv;
    char *mem = rooms(cu, rows, D, 1, &longest, &bytes);
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), longest, D, 1);
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < rows * Hkv; u++) {
            long s = u / Hkv, h = u % Hkv, t = cu[s], hq = h * group * D;
            backward_unit(q + t * sq + hq, k + t * sk + h * D, v + t * sv + h * D, o + t * so + hq, g + t * sg + hq,
                          lse + h * group * T + t, dq + t * sdq + hq, dk + t * sdk + h * D, dv + t * sdv + h * D,
                          cu[s + 1] - t, D, group, sq, sk, sv, so, sg, sdq, sdk, sdv, T, scale, window, &r);
        }
    }
    free(mem);
    return 0;
}
