// The gradients of an adapter's pairs in float32 on a CPU with AMX_BF16: out (R, N) = transposed h (T, R) times x (T, N), or
// that transposed.
//
// A unit of work is some panels of 32 columns of x, for all of R: a thread goes down the tokens, TOKENS at a time. Each sum is taken in
// the order of the tokens, so the same input gives the same bytes with any number of threads.

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "tiles.h"

#ifdef HAS_TILES
#define WIDE 32
#define STEP (2 * NUMBERS)
#define BLOCK (4 * FLOATS)
#define TOKENS 128
#define PANELS 24                           // of a unit, at most
#define APART (TOKENS / WIDE * STEP + 32) // from one panel to the next: not a power of two, which would share few lines of the cache

static long parts(long n, long size) { return (n + size - 1) / size; }
static long least(long a, long b) { return a < b ? a : b; }

// (T, R) -> for every 32 columns and every 32 rows two tiles whose rows are the columns
static void transpose_all(const bf16 *h, long sh, long T, long R, bf16 *out) {
    for (long c = 0; c < R; c += WIDE)
        for (long t = 0; t < T; t += WIDE) {
            bf16 *tiles = out + (c / WIDE * parts(T, WIDE) + t / WIDE) * STEP;
            lay_paired(h + t * sh + c, sh, least(WIDE, R - c), least(WIDE, T - t), tiles, 0);
            for (long half = 0; half < 2; half++) {
                __m512i r[16];
                for (long e = 0; e < 16; e++) r[e] = _mm512_load_si512(tiles + half * NUMBERS + 32 * e);
                transpose16(r);
                for (long e = 0; e < 16; e++) _mm512_store_si512(tiles + half * NUMBERS + 32 * e, r[e]);
            }
        }
}

// Two tiles side by side of the sums of ranks from `rank` on -> out (R, N), or (N, R)
static void write_sums(const float *c, float *out, long rank, long R, long at, long N, long transposed) {
    for (long half = 0; half < 2; half++) {
        __m512i r[16];
        for (long e = 0; e < 16; e++) r[e] = _mm512_castps_si512(_mm512_load_ps(c + half * FLOATS + 16 * e));
        long column = at + 16 * half, ranks = least(16, R - rank), columns = least(16, N - column);
        if (transposed) transpose16(r);
        float *to = transposed ? out + column * R + rank : out + rank * N + column;
        for (long e = 0; e < (transposed ? columns : ranks); e++)
            _mm512_mask_storeu_ps(to + e * (transposed ? R : N), (__mmask16)bits(transposed ? ranks : columns), _mm512_castsi512_ps(r[e]));
    }
}

TILED static void unit(const bf16 *h, const bf16 *x, long sx, float *out, long T, long R, long N, long transposed, long first,
                       long panels, bf16 *room, float *c) {
    long blocks = parts(R, WIDE), cols = least(panels * WIDE, N - first * WIDE);
    for (long t = 0; t < T; t += TOKENS) {
        long n = least(TOKENS, T - t);
        lay_paired(x + t * sx + first * WIDE, sx, cols, n, room, APART);
        for (long p = 0; p < panels; p++)
            for (long r = 0; r < blocks; r++) {
                const bf16 *a = h + (r * parts(T, WIDE) + t / WIDE) * STEP, *b = room + p * APART;
                multiply(parts(n, WIDE), a, a + NUMBERS, STEP, b, b + NUMBERS, STEP, c + (p * blocks + r) * BLOCK, t > 0);
            }
    }
    for (long rank = 0; rank < R; rank += 16)
        for (long p = 0; p < panels; p++)
            write_sums(c + (p * blocks + rank / WIDE) * BLOCK + rank % WIDE / 16 * 2 * FLOATS, out, rank, R, (first + p) * WIDE, N,
                       transposed);
}

TILED int budwood_pair_gradient_amx(const bf16 *h, const bf16 *x, float *out, long T, long R, long N, long transposed,
                                   long sh, long sx) {
    if (T == 0) return memset(out, 0, sizeof(float) * R * N), 0;
    long threads = omp_get_max_threads(), panels = parts(N, WIDE), units = parts(parts(panels, PANELS), threads) * threads;
    long width = parts(panels, units), all = parts(R, WIDE) * parts(T, WIDE) * STEP, each = width * APART;
    long sums = width * parts(R, WIDE) * BLOCK;
    bf16 *room = aligned_alloc(64, 2 * all + threads * (2 * each + 4 * sums));
    if (!room) return 1;
    transpose_all(h, sh, T, R, room);
#pragma omp parallel
    {
        bf16 *mine = room + all + omp_get_thread_num() * (each + 2 * sums);
        begin_tiles();
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < units; u++) {
            long first = u * width, count = least(width, panels - first);
            if (count > 0) unit(room, x, sx, out, T, R, N, transposed, first, count, mine, (float *)(mine + each));
        }
        end_tiles();
    }
    free(room);
    return 0;
}
#endif
