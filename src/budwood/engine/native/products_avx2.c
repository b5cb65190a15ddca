// Products of a frozen layer with the adapters' pairs beside it, and the pairs' gradients, in bfloat16 with float32 sums, on a processor
// with AVX2, which multiplies no bfloat16 itself: numbers are widened once, when they are laid out, and multiplied as float32.
//
//     y (T, N) = x (T, K) P + h S + rest + bias,    h (T, R) = x Q
//
// What P, Q and S are forward and back stands in products_amx.c. A unit of work is a run of rows and a slab of columns. Its rows of x are
// widened once; P is laid out DEEP rows and SLAB columns at a time: panels of 16 columns, through which six rows of x go at once.
// Each sum is taken in the order of K whatever the units are, so the same input gives the same bytes with any number of threads.

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"

#ifndef __AVX512BF16__
#define ROWS 6    // of x at once: with 16 columns, twelve of the sixteen registers are sums
#define DEEP 256  // rows of P at once: a panel of them stays in the nearest memory
#define SLAB 256  // columns of P at once: with DEEP rows they stay in the second
#define RUN 384   // rows of x in a unit, at most about

typedef struct { const bf16 *w; long rows; } Weight; // (rows, width) of one layer
// Rows or columns of P: those of weights that lie one below the other. `across`: they are P's columns.
typedef struct { const Weight *w; long count, width; int across; } Wide;
typedef struct { const float *x; long deep, rows; float *c; long width; } Block; // x (rows, deep), c (rows, width)

static long parts(long n, long size) { return (n + size - 1) / size; }
static long least(long a, long b) { return a < b ? a : b; }
static long even(long n) { return parts(n, 16) * 16; }

// n numbers, and zeros up to a multiple of 16
static void widen_row(const bf16 *x, long n, float *out) {
    for (long i = 0; i < n; i += 16) _mm512_storeu_ps(out + i, load_some(x + i, lanes_left(n - i)));
}
static const bf16 *row_of(const Wide *p, long row) {
    const Weight *w = p->w;
    for (; row >= w->rows; w++) row -= w->rows;
    return w->w + row * p->width;
}
// P's rows k.. (deep of them) and columns n.. (cols) -> panels of (deep, 16)
static void lay_panels(const Wide *p, long k, long deep, long n, long cols, float *out) {
    if (!p->across) {
        for (long d = 0; d < deep; d++) {
            const bf16 *row = row_of(p, k + d) + n;
            for (long c = 0; c < cols; c += 16)
                _mm512_storeu_ps(out + c * deep + d * 16, load_some(row + c, lanes_left(cols - c)));
        }
        return;
    }
    for (long c = 0; c < cols; c += 16, out += 16 * deep) {
        const bf16 *row[16];
        for (long e = 0; e < 16; e++) row[e] = c + e < cols ? row_of(p, n + c + e) + k : 0;
        for (long d = 0; d < deep; d += 16) {
            __m512i r[16];
            for (long e = 0; e < 16; e++)
                r[e] = row[e] ? _mm512_castps_si512(load_some(row[e] + d, lanes_left(deep - d))) : _mm512_setzero_si512();
            transpose16(r);
            for (long e = 0; e < least(16, deep - d); e++) _mm512_storeu_si512(out + (d + e) * 16, r[e]);
        }
    }
}

// c (M x 16) += x (M, deep) panel (deep, 16)
#define EACH_ROW(M) UNROLLED for (int m = 0; m < M; m++)
#define TILE(M) \
static void tile_##M(const float *x, long sx, const float *panel, long deep, float *c, long sc) { \
    __m256 low[M], high[M]; \
    EACH_ROW(M) low[m] = _mm256_loadu_ps(c + m * sc), high[m] = _mm256_loadu_ps(c + m * sc + 8); \
    for (long k = 0; k < deep; k++) { \
        __m256 left = _mm256_loadu_ps(panel + 16 * k), right = _mm256_loadu_ps(panel + 16 * k + 8); \
        EACH_ROW(M) { \
            __m256 one = _mm256_broadcast_ss(x + m * sx + k); \
            low[m] = _mm256_fmadd_ps(one, left, low[m]); \
            high[m] = _mm256_fmadd_ps(one, right, high[m]); \
        } \
    } \
    EACH_ROW(M) _mm256_storeu_ps(c + m * sc, low[m]), _mm256_storeu_ps(c + m * sc + 8, high[m]); \
}
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

// c += x's numbers k.. times the panels
static void multiply(const Block *b, long k, const float *panels, long deep, long cols) {
    static void (*const tiles[ROWS + 1])(const float *, long, const float *, long, float *, long) =
        {0, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};
    for (long n = 0; n < cols; n += 16)
        for (long t = 0; t < b->rows; t += ROWS)
            tiles[least(ROWS, b->rows - t)](b->x + t * b->deep + k, b->deep, panels + n * deep, deep, b->c + t * b->width + n, b->width);
}
// c += x P, columns n.. of P (cols)
static void multiply_all(const Block *b, const Wide *p, long K, long n, long cols, float *panels) {
    for (long k = 0; k < K; k += DEEP) {
        long deep = least(DEEP, K - k);
        lay_panels(p, k, deep, n, cols, panels);
        multiply(b, k, panels, deep, cols);
    }
}

typedef struct { const bf16 *x; long sx, T, K, N, R; Wide p, q, s; const bf16 *rest, *bias; bf16 *h, *y; long srest, sh, sy; } Job;
typedef struct { float *x, *h, *c, *panels; } Room;

// h of a unit's rows, rounded: kept as float32 for what follows, and written out by one of the slabs.
static void make_thin(const Job *j, long t, long rows, int write, Room *r) {
    for (long at = 0; at < j->R; at += SLAB) {
        long cols = least(SLAB, j->R - at);
        Block thin = {r->x, even(j->K), rows, r->c, SLAB};
        memset(r->c, 0, sizeof(float) * rows * SLAB);
        multiply_all(&thin, &j->q, j->K, at, cols, r->panels);
        for (long i = 0; i < rows; i++)
            for (long c = 0; c < cols; c += 16) {
                __mmask16 m = lanes_left(cols - c);
                __m256i rounded = narrow(_mm512_loadu_ps(r->c + i * SLAB + c));
                _mm512_storeu_ps(r->h + i * even(j->R) + at + c, widen(rounded));
                if (write) _mm256_mask_storeu_epi16(j->h + (t + i) * j->sh + at + c, m, rounded);
            }
    }
}
static void finish(const Job *j, long t, long rows, long n, long cols, const float *sums) {
    for (long i = 0; i < rows; i++)
        for (long c = 0; c < cols; c += 16) {
            __mmask16 m = lanes_left(cols - c);
            __m512 v = _mm512_loadu_ps(sums + i * SLAB + c);
            if (j->bias) v = _mm512_add_ps(v, load_some(j->bias + n + c, m));
            if (j->rest) v = _mm512_add_ps(v, load_some(j->rest + (t + i) * j->srest + n + c, m));
            store_some(j->y + (t + i) * j->sy + n + c, m, v);
        }
}
static void unit(const Job *j, long t, long rows, long from, long end, Room *r) {
    for (long i = 0; i < rows; i++) widen_row(j->x + (t + i) * j->sx, j->K, r->x + i * even(j->K));
    if (j->R) make_thin(j, t, rows, from == 0, r);
    for (long n = from; n < end; n += SLAB) {
        long cols = least(SLAB, end - n);
        Block whole = {r->x, even(j->K), rows, r->c, SLAB}, thin = {r->h, even(j->R), rows, r->c, SLAB};
        memset(r->c, 0, sizeof(float) * rows * SLAB);
        multiply_all(&whole, &j->p, j->K, n, cols, r->panels);
        if (j->R) multiply_all(&thin, &j->s, j->R, n, cols, r->panels);
        finish(j, t, rows, n, cols, r->c);
    }
}

static void *get(char **at, long numbers) { void *p = *at; *at += parts(4 * numbers, 64) * 64; return p; }
static long room(Room *r, char *base, long rows, long K, long R) {
    char *at = base;
    r->x = get(&at, rows * even(K));
    r->h = get(&at, rows * even(R));
    r->c = get(&at, rows * SLAB);
    r->panels = get(&at, DEEP * SLAB);
    return at - base;
}

// As `budwood_product_amx`: weights are `layers` pairs of an address and a number of rows; a, b, h, rest and bias may be null, R is then 0.
// y may be `rest`.
int budwood_product_avx2(const bf16 *x, const int64_t *weights, const bf16 *a, const bf16 *b, const bf16 *rest, const bf16 *bias, bf16 *h,
                         bf16 *y, long T, long d_in, long d_out, long R, long layers, long back, long sx, long srest, long sh, long sy) {
    if (T == 0) return 0;
    Weight w[layers], of_a = {a, R}, of_b = {b, d_out};
    for (long l = 0; l < layers; l++) w[l] = (Weight){(const bf16 *)weights[2 * l], weights[2 * l + 1]};
    Wide p = {w, layers, d_in, !back}, by_a = {&of_a, 1, d_in, !back}, by_b = {&of_b, 1, R, !back};
    Job j = {x, sx, T, back ? d_out : d_in, back ? d_in : d_out, R, p, back ? by_b : by_a, back ? by_a : by_b, rest, bias, h, y, srest, sh, sy};
    long threads = omp_get_max_threads(), runs = parts(T, RUN);
    if (runs > 1) runs = parts(runs, threads) * threads;
    long rows = parts(parts(T, runs), ROWS) * ROWS, slabs = runs > 1 ? 1 : least(threads, parts(j.N, SLAB));
    long width = even(parts(j.N, slabs));
    Room none;
    long bytes = room(&none, 0, rows, j.K, R);
    char *mem = aligned_alloc(64, bytes * threads);
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), rows, j.K, R);
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < runs * slabs; u++) {
            long t = u / slabs * rows, from = u % slabs * width;
            if (t < T && from < j.N) unit(&j, t, least(rows, T - t), from, least(j.N, from + width), &r);
        }
    }
    free(mem);
    return 0;
}

// out (R, N) = transposed h (T, R) times x (T, N), or that transposed.
int budwood_pair_gradient_avx2(const bf16 *h, const bf16 *x, float *out, long T, long R, long N, long transposed, long sh, long sx) {
    long slabs = parts(N, SLAB), threads = omp_get_max_threads(), deep = even(DEEP);
    long each = R * deep + R * SLAB + DEEP * SLAB;
    float *mem = aligned_alloc(64, parts(4 * each, 64) * 64 * threads);
    if (!mem) return 1;
#pragma omp parallel
    {
        float *turned = mem + omp_get_thread_num() * parts(4 * each, 64) * 16, *sums = turned + R * deep, *panels = sums + R * SLAB;
#pragma omp for schedule(dynamic, 1)
        for (long slab = 0; slab < slabs; slab++) {
            long n = slab * SLAB, cols = least(SLAB, N - n);
            Block block = {turned, deep, R, sums, SLAB};
            memset(sums, 0, sizeof(float) * R * SLAB);
            for (long t = 0; t < T; t += DEEP) {
                long here = least(DEEP, T - t);
                Weight rows = {x + t * sx, here};
                Wide p = {&rows, 1, sx, 0};
                for (long i = 0; i < here; i++)
                    for (long r = 0; r < R; r++) {
                        union { uint32_t bits; float value; } wide = {(uint32_t)h[(t + i) * sh + r] << 16};
                        turned[r * deep + i] = wide.value;
                    }
                lay_panels(&p, 0, here, n, cols, panels);
                multiply(&block, 0, panels, here, cols);
            }
            for (long r = 0; r < R; r++)
                for (long c = 0; c < cols; c++) out[transposed ? (n + c) * R + r : r * N + n + c] = sums[r * SLAB + c];
        }
    }
    free(mem);
    return 0;
}
#endif
