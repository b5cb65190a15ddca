// Products of a frozen layer with the adapters' pairs beside it, in bfloat16 with float32 sums, on a CPU with AMX_BF16:
//
//     y (T, N) = x (T, K) P + h S + rest + bias,    h (T, R) = x Q
//
// Forward P holds the transposed weights of layers that read one x, side by side, Q is A transposed, S is B transposed; back P
// holds the weights one below the other, Q is B, S is A. So weights W (d_out, d_in), A (R, d_in) and B (d_out, R) serve both ways as
// they lie in memory: forward their rows become columns, back they are paired along rows. y is rounded once. A unit of work is a slab of
// columns of y and a run of rows: a thread lays its slab of P into tiles once, then goes down the rows, 32 at a time. Each sum is
// taken in the order of K whatever the units are, so the same input gives the same bytes with any number of threads.

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "tiles.h"

#ifdef HAS_TILES
#define WIDE 32            // columns of a panel, numbers of a step along K, rows of a block
#define STEP (2 * NUMBERS) // two tiles: what a panel or a block of rows has of one step
#define APART (STEP + 32)  // from a step of a block of rows to the next: not a power of two, which would share few lines of the cache
#define BLOCK (4 * FLOATS)
#define ROOM 1000000       // bytes of a slab, laid out: half of what lies near a core
#define WIDEST 24          // panels of a slab
#define NEAREST 10         // steps of a block of x at once: what stays in the nearest memory beside the panels that pass
#define NARROWEST 8        // panels for which K is rather taken in pieces than fewer made

typedef struct { const bf16 *w; long rows; } Weight; // (rows, d_in) of one layer
typedef struct { const bf16 *x; long sx, T, d_in, d_out, R, layers, back; const Weight *w; const bf16 *a, *b, *rest, *bias;
                 bf16 *h, *y; long srest, sh, sy; } Job;
typedef struct { long panels, slabs, piece, thin, runs, run; } Plan; // thin: panels of h; piece: steps of K at once; run: blocks
typedef struct { bf16 *p, *q, *s, *x, *h; float *c, *thin; } Room;

static long parts(long n, long size) { return (n + size - 1) / size; }
static long least(long a, long b) { return a < b ? a : b; }
static long most(long a, long b) { return a > b ? a : b; }

// `cols` (<= 32) rows of w from column k0 on, `left` numbers each -> columns of a panel
static void lay_columns(const bf16 *w, long ld, long cols, long k0, long left, bf16 *out) {
    for (long k = 0; k < left; k += WIDE)
        for (long c = 0; c < 2; c++) {
            __m512i r[16];
            for (long e = 0; e < 16; e++)
                r[e] = 16 * c + e < cols ? _mm512_maskz_loadu_epi16(bits(left - k), w + (16 * c + e) * ld + k0 + k) : _mm512_setzero_si512();
            transpose16(r);
            for (long e = 0; e < 16; e++) _mm512_store_si512(out + k / WIDE * STEP + c * NUMBERS + 32 * e, r[e]);
        }
}
// n (<= 32) rows, `left` numbers of each -> tiles of rows, upper and lower, step by step
static void lay_block(const bf16 *x, long ld, long n, long left, bf16 *out) {
    for (long i = 0; i < WIDE; i++)
        for (long k = 0; k < left; k += WIDE)
            _mm512_store_si512(out + k / WIDE * APART + i / 16 * NUMBERS + i % 16 * 32,
                               i < n ? _mm512_maskz_loadu_epi16(bits(left - k), x + i * ld + k) : _mm512_setzero_si512());
}

// Where K's pieces and y's panels lie. Forward a panel belongs to one layer, back a piece does.
typedef struct { const bf16 *w; long at, count; } Place; // at: first column of y, or of x; count: columns, or numbers
static long place(const Job *j, long size, long index, Place *found) { // gives the number of places if there is none of this index
    long at = 0, before = 0;
    for (long l = 0; l < j->layers; l++) {
        long here = parts(j->w[l].rows, size);
        if (index >= before && index < before + here) {
            long first = (index - before) * size;
            *found = (Place){j->w[l].w + first * j->d_in, at + first, least(size, j->w[l].rows - first)};
        }
        at += j->w[l].rows;
        before += here;
    }
    return before;
}
static Place even_place(long size, long total, long index) { return (Place){0, index * size, least(size, total - index * size)}; }
static Place panel_of(const Job *j, long index) {
    Place found = even_place(WIDE, j->d_in, index);
    if (!j->back) place(j, WIDE, index, &found);
    return found;
}
static Place piece_of(const Job *j, const Plan *plan, long index) {
    Place found = even_place(plan->piece * WIDE, j->d_in, index);
    if (j->back) place(j, plan->piece * WIDE, index, &found);
    return found;
}
static long pieces_of(const Job *j, const Plan *plan) {
    Place none;
    return j->back ? place(j, plan->piece * WIDE, -1, &none) : parts(j->d_in, plan->piece * WIDE);
}

static Plan plan_of(const Job *j) {
    Place none;
    Plan plan = {.thin = parts(j->R, WIDE)};
    long longest = j->back ? 0 : parts(j->d_in, WIDE), threads = omp_get_max_threads();
    if (j->back) for (long l = 0; l < j->layers; l++) longest = most(longest, parts(j->w[l].rows, WIDE));
    plan.panels = j->back ? parts(j->d_in, WIDE) : place(j, WIDE, -1, &none);
    long fitting = ROOM / (longest * STEP * (long)sizeof(bf16)) - plan.thin;
    long widest = least(most(fitting, NARROWEST), WIDEST);
    plan.slabs = parts(plan.panels, widest);
    if (plan.slabs % threads) plan.slabs = least(parts(plan.slabs, threads) * threads, most(plan.panels / NARROWEST, plan.slabs));
    long width = parts(plan.panels, plan.slabs) + plan.thin;
    plan.piece = least(longest, most(1, ROOM / (width * STEP * (long)sizeof(bf16))));
    long blocks = parts(j->T, WIDE);
    plan.runs = least(blocks, most(parts(threads, plan.slabs), parts(blocks, 64)));
    plan.run = parts(blocks, plan.runs);
    return plan;
}

// Numbers from one panel to the next, laid out: not a power of two either.
static long panel_size(const Plan *plan) { return plan->piece * STEP + 32; }

// The part of P and Q that belongs to a piece of K, and with the last piece S.
static void lay_slab(const Job *j, const Plan *plan, long first, long end, Place piece, int last, Room *r) {
    long size = panel_size(plan), more = plan->thin * STEP;
    if (j->back) {
        long at = first * WIDE, cols = least(end * WIDE, j->d_in) - at;
        lay_paired(piece.w + at, j->d_in, cols, piece.count, r->p, size);
        if (last) lay_paired(j->a + at, j->d_in, cols, j->R, r->s, more);
        lay_paired(j->b + piece.at * j->R, j->R, j->R, piece.count, r->q, size);
        return;
    }
    for (long n = first; n < end; n++) {
        Place panel = panel_of(j, n);
        lay_columns(panel.w, j->d_in, panel.count, piece.at, piece.count, r->p + (n - first) * size);
        if (last) lay_columns(j->b + panel.at * j->R, j->R, panel.count, 0, j->R, r->s + (n - first) * more);
    }
    for (long n = 0; n < plan->thin; n++)
        lay_columns(j->a + n * WIDE * j->d_in, j->d_in, least(WIDE, j->R - n * WIDE), piece.at, piece.count, r->q + n * size);
}

// h of a block of rows, rounded, as tiles; written out by one of the slabs.
static void finish_thin(const Job *j, const float *c, long t, long n, long at, int write, bf16 *tiles) {
    for (long i = 0; i < WIDE; i++) {
        const float *from = c + i / 16 * 2 * FLOATS + i % 16 * 16;
        __m512i row = (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(from + FLOATS), _mm512_load_ps(from));
        _mm512_store_si512(tiles + i / 16 * NUMBERS + i % 16 * 32, row);
        if (write && i < n) _mm512_mask_storeu_epi16(j->h + (t + i) * j->sh + at, bits(j->R - at), row);
    }
}
static void finish(const Job *j, const float *c, long t, long n, Place panel) {
    long high = panel.count - 16;
    __mmask16 m0 = (__mmask16)bits(panel.count), m1 = (__mmask16)bits(high);
    __m512 bias0 = _mm512_setzero_ps(), bias1 = bias0;
    if (j->bias) bias0 = load_some(j->bias + panel.at, m0), bias1 = load_some(j->bias + panel.at + 16, m1);
    for (long i = 0; i < n; i++) {
        const float *from = c + i / 16 * 2 * FLOATS + i % 16 * 16;
        __m512 x0 = _mm512_add_ps(_mm512_load_ps(from), bias0), x1 = _mm512_add_ps(_mm512_load_ps(from + FLOATS), bias1);
        if (j->rest) {
            const bf16 *rest = j->rest + (t + i) * j->srest + panel.at;
            x0 = _mm512_add_ps(x0, load_some(rest, m0));
            x1 = _mm512_add_ps(x1, load_some(rest + 16, m1));
        }
        _mm512_mask_storeu_epi16(j->y + (t + i) * j->sy + panel.at, bits(panel.count), (__m512i)_mm512_cvtne2ps_pbh(x1, x0));
    }
}

// A block of rows of x against the slab, some steps of K at a time, so that its tiles stay as near as can be.
TILED static void multiply_block(const Job *j, const Plan *plan, long t, long first, long end, Place piece, int begun, int last,
                                 float *c, Room *r) {
    long n = least(j->T - t, WIDE), steps = parts(piece.count, WIDE), size = panel_size(plan), panels = end - first;
    long turns = parts(steps, NEAREST), near = parts(steps, turns), rows = parts(WIDE, panels);
    float *thin = c + panels * BLOCK;
    lay_block(j->x + t * j->sx + piece.at, j->sx, n, piece.count, r->x);
    for (long k = 0; k < steps; k += near) {
        long now = least(near, steps - k);
        int end_here = last && k + now == steps;
        for (long p = 0; p < plan->thin; p++) {
            const bf16 *q = r->q + p * size + k * STEP;
            multiply_two(now, r->x + k * APART, APART, q, 0, q, q, thin + p * BLOCK, begun || k, (Ahead){0});
            if (end_here) finish_thin(j, thin + p * BLOCK, t, n, p * WIDE, first == 0, r->h + p * APART);
        }
        for (long p = 0; p < panels; p++) {
            const bf16 *panel = r->p + p * size + k * STEP, *s = r->s + p * plan->thin * STEP;
            Place place = panel_of(j, first + p);
            Ahead ahead = {0};
            if (t + WIDE < j->T) {
                ahead.x = (const char *)(j->x + (t + WIDE + p * rows) * j->sx + piece.at + k * WIDE);
                ahead.sx = 2 * j->sx;
                ahead.rows = least(rows, least(j->T - t - WIDE, WIDE) - p * rows);
            }
            if (end_here) ahead.y = (char *)(j->y + t * j->sy + place.at), ahead.sy = 2 * j->sy;
            multiply_two(now, r->x + k * APART, APART, panel, end_here ? plan->thin : 0, r->h, s, c + p * BLOCK, begun || k, ahead);
            if (end_here) finish(j, c + p * BLOCK, t, n, place);
        }
    }
}

TILED static void unit(const Job *j, const Plan *plan, long slab, long run, Room *r) {
    long width = parts(plan->panels, plan->slabs), first = slab * width, end = least(first + width, plan->panels);
    long pieces = pieces_of(j, plan), from = run * plan->run * WIDE;
    if (first >= end) return;
    for (long k = 0; k < pieces; k++) {
        Place piece = piece_of(j, plan, k);
        lay_slab(j, plan, first, end, piece, k + 1 == pieces, r);
        for (long t = from; t < least(j->T, from + plan->run * WIDE); t += WIDE) {
            float *c = r->c + (pieces > 1 ? (t - from) / WIDE * (end - first + plan->thin) * BLOCK : 0);
            multiply_block(j, plan, t, first, end, piece, k > 0, k + 1 == pieces, c, r);
        }
    }
}

static void *get(char **at, long bytes) { void *p = *at; *at += (bytes + 63) / 64 * 64; return p; }
static long room(Room *r, char *base, const Job *j, const Plan *plan) {
    char *at = base;
    long width = parts(plan->panels, plan->slabs), all = width + plan->thin, blocks = pieces_of(j, plan) > 1 ? plan->run : 1;
    r->p = get(&at, 2 * width * panel_size(plan));
    r->q = get(&at, 2 * plan->thin * panel_size(plan));
    r->s = get(&at, 2 * width * plan->thin * STEP);
    r->x = get(&at, 2 * plan->piece * APART);
    r->h = get(&at, 2 * plan->thin * APART);
    r->c = get(&at, 4 * blocks * all * BLOCK);
    return at - base;
}

// weights: `layers` pairs of an address and a number of rows; a, b, h, rest and bias may be null, R is then 0. y may be `rest`.
TILED int budwood_product_amx(const bf16 *x, const int64_t *weights, const bf16 *a, const bf16 *b, const bf16 *rest,
                              const bf16 *bias, bf16 *h, bf16 *y, long T, long d_in, long d_out, long R, long layers, long back,
                              long sx, long srest, long sh, long sy) {
    if (T == 0) return 0;
    Weight w[layers];
    for (long l = 0; l < layers; l++) w[l] = (Weight){(const bf16 *)weights[2 * l], weights[2 * l + 1]};
    Job j = {x, sx, T, d_in, d_out, R, layers, back, w, a, b, rest, bias, h, y, srest, sh, sy};
    Plan plan = plan_of(&j);
    Room none;
    long bytes = room(&none, 0, &j, &plan);
    char *mem = aligned_alloc(64, bytes * omp_get_max_threads());
    if (!mem) return 1;
#pragma omp parallel
    {
        Room r;
        room(&r, mem + bytes * omp_get_thread_num(), &j, &plan);
        begin_tiles();
#pragma omp for schedule(dynamic, 1)
        for (long u = 0; u < plan.slabs * plan.runs; u++) unit(&j, &plan, u % plan.slabs, u / plan.slabs, &r);
        end_tiles();
    }
    free(mem);
    return 0;
}
#endif
