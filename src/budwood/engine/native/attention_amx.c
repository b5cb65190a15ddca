// Causal attention over packed rows in bfloat16 on a CPU with AMX_BF16: forward and backward.
//
// Every operand is laid into tiles of 1 KB first (tiles.h): keys and values once for all query heads that share them, queries 32 at
// a time. What does not fill a tile is zero, so a head may have any width. Scores of 32 queries against all keys that they see
// are alive at once (L x 32 floats a thread), so the softmax is exact; nothing of size L x L ever is. The backward pass makes the
// scores again from the kept logarithms of the sums, 32 x 32 at a time; the gradients of keys and values lie transposed until the
// row is done, added up over PART blocks of queries at a time. A unit of work is one row and one key head with all query heads that
// share it: one thread adds up its gradients in a fixed order, so the same input gives the same bytes with any number of threads.

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "tiles.h"

#ifdef HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>

#define QB 32    // queries of a block; keys too
#define PART 4   // blocks of queries whose probabilities are alive at once on the way back
#define BLOCK (QB * QB)
#define LOG2E 1.44269504088896341f
#define LN2 0.69314718055994531f

// 2^x for x <= 1, to 1e-7 of it; of -inf nothing is left, a NaN stays.
INLINE __m512 exp2_512(__m512 x) {
    __m512 r = _mm512_reduce_ps(x, 1); // x - floor(x)
    __m512 p = _mm512_set1_ps(1.8671299e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.0170307e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5799913e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4016444e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9315130e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, x); // times 2^floor(x)
}
// The natural logarithm of x > 0, to 1e-7; a NaN stays.
INLINE __m512 log512(__m512 x) {
    // x = 2^n (1 + r), 1 + r from 0.75 to 1.5
    __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    __m512 n = _mm512_getexp_ps(_mm512_div_ps(x, m)), r = _mm512_sub_ps(m, _mm512_set1_ps(1.0f));
    __m512 p = _mm512_set1_ps(7.0376836292e-2f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.1514610310e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.1676998740e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.2420140846e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.4249322787e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.6668057665e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.0000714765e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-2.4999993993e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(3.3333331174e-1f));
    __m512 square = _mm512_mul_ps(r, r);
    __m512 low = _mm512_fmsub_ps(_mm512_mul_ps(square, r), p, _mm512_mul_ps(_mm512_set1_ps(0.5f), square));
    return _mm512_fmadd_ps(n, _mm512_set1_ps(0.69314718055994531f), _mm512_add_ps(r, low));
}

// `steps`: of 32 numbers along a head; `tiles`: of 16; both cover D, filled up with zeros.
typedef struct { long D, steps, tiles, group, window, T; float scale; } Shape;
typedef struct { bf16 *kt, *vt, *kr, *q, *g, *qt, *gt, *p, *ds, *rows; float *s, *dp, *o, *dk, *dv; } Room;

static long blocks(long n) { return (n + QB - 1) / QB; }
static long least(long a, long b) { return a < b ? a : b; }

INLINE __m512i some_of(const bf16 *row, long left) { return _mm512_maskz_loadu_epi16(bits(left), row); }
INLINE __m512i row_of(const bf16 *x, long ld, long i, long n, long d, long D) {
    return i < n ? some_of(x + i * ld + d, D - d) : _mm512_setzero_si512();
}
// rows (n <= QB) of D -> [2][steps] tiles of rows
static void lay_rows(const bf16 *x, long ld, long n, const Shape *h, bf16 *out) {
    for (long i = 0; i < QB; i++)
        for (long d = 0; d < h->steps; d++)
            _mm512_store_si512(out + (i / 16 * h->steps + d) * NUMBERS + i % 16 * 32, row_of(x, ld, i, n, 32 * d, h->D));
}
// tiles of rows -> [tiles] tiles whose rows are columns: 16 of them x QB rows
static void transpose_rows(const bf16 *rows, const Shape *h, bf16 *out) {
    for (long d = 0; d < h->steps; d++) {
        __m512i first[16], last[16];
        for (long e = 0; e < 16; e++) {
            const bf16 *pair = rows + (e / 8 * h->steps + d) * NUMBERS + 2 * e % 16 * 32;
            pair_up(_mm512_load_si512(pair), _mm512_load_si512(pair + 32), first + e, last + e);
        }
        transpose16(first); transpose16(last);
        for (long e = 0; e < 16; e++) {
            _mm512_store_si512(out + 2 * d * NUMBERS + e * 32, first[e]);
            _mm512_store_si512(out + (2 * d + 1) * NUMBERS + e * 32, last[e]);
        }
    }
}
// (L, D) -> for every 16 rows [steps] tiles of pairs along D: the right side of a product whose columns are the rows
static void lay_columns(const bf16 *x, long ld, long L, const Shape *h, bf16 *out) {
    for (long j = 0; j < blocks(L) * QB; j += 16)
        for (long d = 0; d < h->steps; d++) {
            __m512i r[16];
            for (long e = 0; e < 16; e++) r[e] = row_of(x, ld, j + e, L, 32 * d, h->D);
            transpose16(r);
            for (long e = 0; e < 16; e++) _mm512_store_si512(out + (j / 16 * h->steps + d) * NUMBERS + e * 32, r[e]);
        }
}
// (L, D) -> for every QB rows [tiles] tiles of pairs along L: the right side of a product over the rows
static void lay_pairs(const bf16 *x, long ld, long L, const Shape *h, bf16 *out) {
    for (long j = 0; j < blocks(L) * QB; j += 2)
        for (long d = 0; d < h->steps; d++) {
            bf16 *to = out + (j / QB * h->tiles + 2 * d) * NUMBERS + j % QB * 16;
            __m512i first, last;
            pair_up(row_of(x, ld, j, L, 32 * d, h->D), row_of(x, ld, j + 1, L, 32 * d, h->D), &first, &last);
            _mm512_store_si512(to, first);
            _mm512_store_si512(to + NUMBERS, last);
        }
}
// blocks of QB rows and 32 columns in four tiles, times a factor a row -> rows (n <= QB) of D
static void write_rows(const float *c, const float *factor, long n, const Shape *h, bf16 *out, long ld) {
    for (long i = 0; i < n; i++)
        for (long d = 0; d < h->steps; d++) {
            const float *from = c + d * BLOCK + i / 16 * 2 * FLOATS + i % 16 * 16;
            __m512 f = _mm512_set1_ps(factor[i]);
            __m512 x0 = _mm512_mul_ps(_mm512_load_ps(from), f), x1 = _mm512_mul_ps(_mm512_load_ps(from + FLOATS), f);
            _mm512_mask_storeu_epi16(out + i * ld + 32 * d, bits(h->D - 32 * d), (__m512i)_mm512_cvtne2ps_pbh(x1, x0));
        }
}

INLINE __m512 sum16(__m512i part[16]) { // lane i: the sum of part[i]
    transpose16(part);
    __m512 sum = _mm512_castsi512_ps(part[0]);
    for (int e = 1; e < 16; e++) sum = _mm512_add_ps(sum, _mm512_castsi512_ps(part[e]));
    return sum;
}
INLINE __m512 top16(__m512i part[16]) {
    transpose16(part);
    __m512 top = _mm512_castsi512_ps(part[0]);
    for (int e = 1; e < 16; e++) top = _mm512_max_ps(top, _mm512_castsi512_ps(part[e]));
    return top;
}

// The keys that a block of queries sees: blocks from `first` to `diagonal`; those from `clear` to before it are seen whole.
typedef struct { long first, clear, diagonal; } Span;
static Span span_of(long i0, long window) {
    Span span = {0, 0, i0 / QB};
    if (window && i0 - window + 1 > 0) span.first = (i0 - window + 1) / QB;
    if (window && i0 + QB - window > 0) span.clear = least(blocks(i0 + QB - window), span.diagonal);
    return span;
}
INLINE uint32_t seen(long i, long j, long window) { // keys of j..j+31 that query i sees
    return bits(i - j + 1) & (window ? ~bits(i - window + 1 - j) : 0xffffffffu);
}
// Do `what` with block b of keys and the mask m of those that query i sees.
#define EACH_BLOCK(span, i, window, what) \
    for (long b = (span).first; b < (span).clear; b++) { uint32_t m = seen(i, QB * b, window); what } \
    for (long b = (span).clear; b < (span).diagonal; b++) { const uint32_t m = 0xffffffffu; what } \
    { long b = (span).diagonal; uint32_t m = seen(i, QB * b, window); what }

// Scores s of 16 queries from i on -> probabilities before they are divided by their sums. Gives those, and the logarithm (base 2) of
// what else was left out.
TILED static void soften(const float *s, bf16 *p, long i, Span span, const Shape *h, __m512 *sums, __m512 *tops) {
    __m512i part[16];
    const __m512 none = _mm512_set1_ps(-INFINITY), c = _mm512_set1_ps(h->scale * LOG2E);
    for (long e = 0; e < 16; e++) {
        const float *row = s + e * 16;
        __m512 top0 = none, top1 = none;
        EACH_BLOCK(span, i + e, h->window, {
            const float *x = row + b * BLOCK;
            top0 = _mm512_mask_max_ps(top0, (__mmask16)m, _mm512_mul_ps(c, _mm512_load_ps(x)), top0);
            top1 = _mm512_mask_max_ps(top1, (__mmask16)(m >> 16), _mm512_mul_ps(c, _mm512_load_ps(x + FLOATS)), top1);
        })
        part[e] = _mm512_castps_si512(_mm512_max_ps(top0, top1));
    }
    float top[16];
    *tops = top16(part);
    _mm512_storeu_ps(top, *tops);
    for (long e = 0; e < 16; e++) {
        const float *row = s + e * 16;
        bf16 *to = p + e * 32;
        __m512 t = _mm512_set1_ps(top[e]), sum0 = _mm512_setzero_ps(), sum1 = sum0;
        EACH_BLOCK(span, i + e, h->window, {
            const float *x = row + b * BLOCK;
            __m512 p0 = exp2_512(_mm512_fmsub_ps(_mm512_load_ps(x), c, t));
            __m512 p1 = exp2_512(_mm512_fmsub_ps(_mm512_load_ps(x + FLOATS), c, t));
            p0 = _mm512_maskz_mov_ps((__mmask16)m, p0);
            p1 = _mm512_maskz_mov_ps((__mmask16)(m >> 16), p1);
            sum0 = _mm512_add_ps(sum0, p0);
            sum1 = _mm512_add_ps(sum1, p1);
            _mm512_store_si512(to + b * BLOCK, (__m512i)_mm512_cvtne2ps_pbh(p1, p0));
        })
        part[e] = _mm512_castps_si512(_mm512_add_ps(sum0, sum1));
    }
    *sums = sum16(part);
}

TILED static void forward_unit(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, long L, const Shape *h, long sq,
                               long sk, long sv, long so, Room *r) {
    lay_columns(k, sk, L, h, r->kt);
    lay_pairs(v, sv, L, h, r->vt);
    for (long head = 0; head < h->group; head++)
        for (long i0 = 0; i0 < L; i0 += QB) {
            long n = least(L - i0, QB);
            Span span = span_of(i0, h->window);
            lay_rows(q + i0 * sq + head * h->D, sq, n, h, r->q);
            for (long b = span.first; b <= span.diagonal; b++) {
                const bf16 *keys = r->kt + 2 * b * h->steps * NUMBERS;
                multiply(h->steps, r->q, r->q + h->steps * NUMBERS, NUMBERS, keys, keys + h->steps * NUMBERS, NUMBERS,
                         r->s + b * BLOCK, 0);
            }
            float factor[QB];
            for (long c = 0; c < 2; c++) {
                __m512 sums, tops;
                soften(r->s + 2 * c * FLOATS, r->p + c * NUMBERS, i0 + 16 * c, span, h, &sums, &tops);
                _mm512_storeu_ps(factor + 16 * c, _mm512_div_ps(_mm512_set1_ps(1.0f), sums));
                _mm512_mask_storeu_ps(lse + head * h->T + i0 + 16 * c, (__mmask16)bits(n - 16 * c),
                                      _mm512_fmadd_ps(tops, _mm512_set1_ps(LN2), log512(sums)));
            }
            for (long d = 0; d < h->steps; d++) {
                const bf16 *p = r->p + span.first * BLOCK, *values = r->vt + (span.first * h->tiles + 2 * d) * NUMBERS;
                multiply(span.diagonal - span.first + 1, p, p + NUMBERS, BLOCK, values, values + NUMBERS, h->tiles * NUMBERS,
                         r->o + d * BLOCK, 0);
            }
            write_rows(r->o, factor, n, h, o + i0 * so + head * h->D, so);
        }
}

// Scores and slopes of the probabilities, a block of 32 queries and 32 keys in four tiles each, -> probabilities p in pairs along
// queries, the scores' gradients (but for the scale) in such pairs and as rows. Pairs are made inside each 128 bits: column 4 a + b
// of tile e is key 8 a + 4 e + b. norms: -logarithms (base 2) of the sums.
TILED INLINE void differ(const float *s, const float *dp, const float *norms, const float *deltas, long i0, long j, int masked,
                         const Shape *h, bf16 *p, bf16 *ds, bf16 *rows) {
    const __m512 c = _mm512_set1_ps(h->scale * LOG2E);
    for (long i = 0; i < QB; i += 2) {
        __m512i both[2], slopes[2];
        for (long e = 0; e < 2; e++) {
            long at = i / 16 * 2 * FLOATS + (i + e) % 16 * 16;
            uint32_t m = masked ? seen(i0 + i + e, j, h->window) : 0xffffffffu;
            __m512 norm = _mm512_set1_ps(norms[i + e]), delta = _mm512_set1_ps(deltas[i + e]), x[2], y[2];
            for (long f = 0; f < 2; f++) {
                __mmask16 there = (__mmask16)(m >> 16 * f);
                x[f] = exp2_512(_mm512_fmadd_ps(_mm512_load_ps(s + at + f * FLOATS), c, norm));
                if (masked) x[f] = _mm512_maskz_mov_ps(there, x[f]);
                y[f] = _mm512_maskz_mul_ps(there, x[f], _mm512_sub_ps(_mm512_load_ps(dp + at + f * FLOATS), delta));
            }
            both[e] = (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]);
            slopes[e] = (__m512i)_mm512_cvtne2ps_pbh(y[1], y[0]);
            _mm512_store_si512(rows + i / 16 * NUMBERS + (i + e) % 16 * 32, slopes[e]);
        }
        _mm512_store_si512(p + i * 16, _mm512_unpacklo_epi16(both[0], both[1]));
        _mm512_store_si512(p + NUMBERS + i * 16, _mm512_unpackhi_epi16(both[0], both[1]));
        _mm512_store_si512(ds + i * 16, _mm512_unpacklo_epi16(slopes[0], slopes[1]));
        _mm512_store_si512(ds + NUMBERS + i * 16, _mm512_unpackhi_epi16(slopes[0], slopes[1]));
    }
}

// Of each query the sum of g o, for n queries; 0 beyond.
static void sum_products(const bf16 *g, long sg, const bf16 *o, long so, long n, const Shape *h, float *out) {
    for (long c = 0; c < QB; c += 16) {
        __m512i part[16];
        for (long e = 0; e < 16; e++) {
            __m512 sum = _mm512_setzero_ps();
            for (long d = 0; d < h->steps; d++)
                sum = _mm512_dpbf16_ps(sum, (__m512bh)row_of(g, sg, c + e, n, 32 * d, h->D),
                                       (__m512bh)row_of(o, so, c + e, n, 32 * d, h->D));
            part[e] = _mm512_castps_si512(sum);
        }
        _mm512_storeu_ps(out + c, sum16(part));
    }
}

// (D, L) in blocks of 32 x QB, keys in the order that `differ` left them in, times a factor -> rows of D
static void write_keys(const float *c, float factor, long L, const Shape *h, bf16 *out, long ld) {
    __m512 f = _mm512_set1_ps(factor);
    for (long b = 0; b < blocks(L) * 2; b++)
        for (long d = 0; d < h->steps; d++) {
            const float *from = c + (b / 2 * h->steps + d) * BLOCK + b % 2 * FLOATS;
            __m512i r0[16], r1[16];
            for (long e = 0; e < 16; e++) {
                r0[e] = _mm512_castps_si512(_mm512_mul_ps(f, _mm512_load_ps(from + 16 * e)));
                r1[e] = _mm512_castps_si512(_mm512_mul_ps(f, _mm512_load_ps(from + 2 * FLOATS + 16 * e)));
            }
            transpose16(r0); transpose16(r1);
            for (long e = 0; e < 16; e++) {
                long j = b / 2 * QB + e / 4 * 8 + b % 2 * 4 + e % 4;
                __m512i row = (__m512i)_mm512_cvtne2ps_pbh(_mm512_castsi512_ps(r1[e]), _mm512_castsi512_ps(r0[e]));
                if (j < L) _mm512_mask_storeu_epi16(out + j * ld + 32 * d, bits(h->D - 32 * d), row);
            }
        }
}

// What the probabilities of `count` blocks of queries from block `start` on give to the gradients of the keys and values.
TILED static void add_to_keys(long start, long count, long all, const Shape *h, Room *r) {
    for (long b = span_of(start * QB, h->window).first; b < start + count; b++) {
        long from = b > start ? b - start : 0, to = from;
        while (to < count && span_of((start + to) * QB, h->window).first <= b) to++;
        for (long d = 0; d < h->steps; d++) {
            long left = (from * h->tiles + 2 * d) * NUMBERS, right = (from * all + b) * BLOCK, sum = (b * h->steps + d) * BLOCK;
            multiply(to - from, r->gt + left, r->gt + left + NUMBERS, h->tiles * NUMBERS, r->p + right, r->p + right + NUMBERS,
                     all * BLOCK, r->dv + sum, 1);
            multiply(to - from, r->qt + left, r->qt + left + NUMBERS, h->tiles * NUMBERS, r->ds + right, r->ds + right + NUMBERS,
                     all * BLOCK, r->dk + sum, 1);
        }
    }
}

typedef struct { const bf16 *q, *k, *v, *o, *g; bf16 *dq, *dk, *dv; const float *lse; } Given;
typedef struct { long q, k, v, o, g, dq, dk, dv; } Apart; // numbers from one token to the next

// One block of queries of one head: its gradient, and its probabilities as block `part` of those that `add_to_keys` takes.
TILED static void back_to_queries(const Given *x, const Apart *s, long i0, long part, long L, const Shape *h, Room *r) {
    long n = least(L - i0, QB), keys = h->steps * NUMBERS;
    Span span = span_of(i0, h->window);
    float norms[QB], deltas[QB], factor[QB];
    for (long i = 0; i < QB; i++) {
        norms[i] = i < n ? -LOG2E * x->lse[i0 + i] : 0.0f;
        factor[i] = h->scale;
    }
    sum_products(x->g + i0 * s->g, s->g, x->o + i0 * s->o, s->o, n, h, deltas);
    lay_rows(x->q + i0 * s->q, s->q, n, h, r->q);
    lay_rows(x->g + i0 * s->g, s->g, n, h, r->g);
    transpose_rows(r->q, h, r->qt + part * h->tiles * NUMBERS);
    transpose_rows(r->g, h, r->gt + part * h->tiles * NUMBERS);
    for (long b = span.first; b <= span.diagonal; b++) {
        const bf16 *k = r->kt + 2 * b * keys, *v = r->vt + 2 * b * keys;
        bf16 *p = r->p + (part * blocks(L) + b) * BLOCK, *ds = r->ds + (part * blocks(L) + b) * BLOCK;
        multiply(h->steps, r->q, r->q + keys, NUMBERS, k, k + keys, NUMBERS, r->s, 0);
        multiply(h->steps, r->g, r->g + keys, NUMBERS, v, v + keys, NUMBERS, r->dp, 0);
        if (b >= span.clear && b < span.diagonal)
            differ(r->s, r->dp, norms, deltas, i0, QB * b, 0, h, p, ds, r->rows + b * BLOCK);
        else
            differ(r->s, r->dp, norms, deltas, i0, QB * b, 1, h, p, ds, r->rows + b * BLOCK);
    }
    for (long d = 0; d < h->steps; d++) {
        const bf16 *rows = r->rows + span.first * BLOCK, *k = r->kr + (span.first * h->tiles + 2 * d) * NUMBERS;
        multiply(span.diagonal - span.first + 1, rows, rows + NUMBERS, BLOCK, k, k + NUMBERS, h->tiles * NUMBERS, r->o + d * BLOCK, 0);
    }
    write_rows(r->o, factor, n, h, x->dq + i0 * s->dq, s->dq);
}

static void backward_unit(Given x, const Apart *s, long L, const Shape *h, Room *r) {
    long size = blocks(L) * h->steps * BLOCK;
    lay_columns(x.k, s->k, L, h, r->kt);
    lay_columns(x.v, s->v, L, h, r->vt);
    lay_pairs(x.k, s->k, L, h, r->kr);
    memset(r->dk, 0, sizeof(float) * size);
    memset(r->dv, 0, sizeof(float) * size);
    for (long head = 0; head < h->group; head++) {
        for (long start = 0; start < blocks(L); start += PART) {
            long count = least(PART, blocks(L) - start);
            for (long part = 0; part < count; part++) back_to_queries(&x, s, (start + part) * QB, part, L, h, r);
            add_to_keys(start, count, blocks(L), h, r);
        }
        x.q += h->D; x.o += h->D; x.g += h->D; x.dq += h->D; x.lse += h->T;
    }
    write_keys(r->dk, h->scale, L, h, x.dk, s->dk);
    write_keys(r->dv, 1.0f, L, h, x.dv, s->dv);
}

static void *get(char **at, long bytes) { void *p = *at; *at += (bytes + 63) / 64 * 64; return p; }
static long room(Room *r, char *base, long L, const Shape *h, int backward) {
    char *at = base;
    long n = blocks(L) * QB, D = 32 * h->steps, part = backward ? PART : 1;
    r->kt = get(&at, 2 * n * D); r->vt = get(&at, 2 * n * D); r->q = get(&at, 2 * QB * D); r->p = get(&at, 2 * n * QB * part);
    r->s = get(&at, 4 * QB * (backward ? QB : n)); r->o = get(&at, 4 * QB * D);
    if (backward) {
        r->kr = get(&at, 2 * n * D); r->g = get(&at, 2 * QB * D); r->dp = get(&at, 4 * BLOCK); r->rows = get(&at, 2 * n * QB);
        r->qt = get(&at, 2 * QB * D * part); r->gt = get(&at, 2 * QB * D * part); r->ds = get(&at, 2 * n * QB * part);
        r->dk = get(&at, 4 * n * D); r->dv = get(&at, 4 * n * D);
    }
    return at - base;
}

// Scratch for every thread: 0 when there is no memory for it.
static char *rooms(const int32_t *cu, long rows, const Shape *h, int backward, long *longest, long *bytes) {
    *longest = 0;
    for (long s = 0; s < rows; s++) if (cu[s + 1] - cu[s] > *longest) *longest = cu[s + 1] - cu[s];
    Room none;
    *bytes = room(&none, 0, *longest, h, backward);
    return aligned_alloc(64, *bytes * omp_get_max_threads());
}

static Shape shape_of(long Hq, long Hkv, long D, long T, float scale, long window) {
    long steps = (D + 31) / 32;
    return (Shape){.D = D, .steps = steps, .tiles = 2 * steps, .group = Hq / Hkv, .window = window, .T = T, .scale = scale};
}

// As those of attention.c, which say what is what.
TILED int budwood_attention_forward_amx(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *lse, const int32_t *cu,
                                        long rows, long Hq, long Hkv, long D, long sq, long sk, long sv, long so, long T,
                                        float scale, long window) {
    Shape h = shape_of(Hq, Hkv, D, T, scale, window);
    long longest, bytes;
    char *mem = rooms(cu, rows, &h, 0, &longest, &bytes);
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), longest, &h, 0);
        begin_tiles();
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < rows * Hkv; u++) {
            long s = u / Hkv, at = u % Hkv, t = cu[s], head = at * h.group;
            forward_unit(q + t * sq + head * D, k + t * sk + at * D, v + t * sv + at * D, o + t * so + head * D,
                         lse + head * T + t, cu[s + 1] - t, &h, sq, sk, sv, so, &r);
        }
        end_tiles();
    }
    free(mem);
    return 0;
}

TILED int budwood_attention_backward_amx(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *o, const bf16 *g,
                                         const float *lse, bf16 *dq, bf16 *dk, bf16 *dv, const int32_t *cu, long rows, long Hq,
                                         long Hkv, long D, long sq, long sk, long sv, long so, long sg, long sdq, long sdk,
                                         long sdv, long T, float scale, long window) {
    Shape h = shape_of(Hq, Hkv, D, T, scale, window);
    Apart apart = {sq, sk, sv, so, sg, sdq, sdk, sdv};
    long longest, bytes;
    char *mem = rooms(cu, rows, &h, 1, &longest, &bytes);
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), longest, &h, 1);
        begin_tiles();
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < rows * Hkv; u++) {
            long s = u / Hkv, at = u % Hkv, t = cu[s], head = at * h.group;
            Given x = {q + t * sq + head * D, k + t * sk + at * D, v + t * sv + at * D, o + t * so + head * D, g + t * sg + head * D,
                       dq + t * sdq + head * D, dk + t * sdk + at * D, dv + t * sdv + at * D, lse + head * T + t};
            backward_unit(x, &apart, cu[s + 1] - t, &h, &r);
        }
        end_tiles();
    }
    free(mem);
    return 0;
}

// Ask the system for the tiles' memory, for this process and all threads that it will have: 0 when they may be used.
int budwood_tiles_granted(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0 ? 0 : 1;
}
#else
int budwood_tiles_granted(void) { return 2; } // the compiler does not know the instructions
#endif
