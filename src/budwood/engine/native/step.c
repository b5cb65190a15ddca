// A decoder layer of the Llama kind over the tokens of one generation step, weights read once for all of them:
//
//     x → norm → q, k, v → rotation, into the cache → attention of the decoding tokens → output, + x → norm → gate, up → gated → down, + x
//
// A product is weights times tokens: 16 rows of a weight as they lie in memory are one tile, 16 tokens laid in pairs the other, so
// nothing of the weights is moved, and what a step costs is reading them. Adapters: tokens stand in the order of their adapters, and a
// block of 16 tokens takes h = A x of every adapter in it with the others' tokens at zero, so y += B h adds up in the same sums. Sums
// are float32, each result is rounded once. Weights of 4 or 8 bits are expanded 32 rows at a time, near the core that multiplies them.
// A token's results do not depend on what shares the step, nor on the number of threads: every sum has its own order.

#include <omp.h>
#include <string.h>

#include "expand.h"
#include "rows.h"
#include "tiles.h"

#define TILE 512      // bfloat16 numbers of a tile
#define SUMS 256      // floats of a tile
#define FEW 32        // tokens up to which weights are multiplied where they lie; beyond they are laid out first
#define MOST_HEADS 8  // query heads of a key head that attention takes at once
#ifdef __AVX512BF16__
#define AT_ONCE 8     // rows of a weight whose sums are held in registers
#else
#define AT_ONCE 4
#endif

// What `engine/generate/native_step.py` fills, in this order; addresses are whole numbers there.
typedef struct { int64_t kind, rows; const bf16 *bias; const void *at[5]; } Linear; // kind 0: bfloat16, 1: NF4, 2: int8
typedef struct { int64_t count; Linear linear[3]; } Product;
typedef struct { const bf16 *before, *between, *q_norm, *k_norm; int64_t window; Product qkv, output, gate_up, down; } Layer; // window 0: none
typedef struct { const bf16 *a, *b; int64_t rank; } Pair; // a (rank, K), b (rows, rank) with 64 bytes behind it; rank: of 16s, 0: none
typedef struct { bf16 *keys, *values; } Cache;            // (slots, key heads, columns, head)
typedef struct { int64_t token, slot, seen; } Decode;      // seen: keys that it sees, its own the last, window aside
typedef struct {
    int64_t tokens, width, queries, key_heads, head, ffn, columns, tiles, decodes, adapters;
    const Layer *layers;
    bf16 *x;
    const bf16 *cosine, *sine;
    const int64_t *slots, *positions;
    const Cache *caches;
    const Decode *decoding;
    const int64_t *starts; // (adapters + 1, twice): first token and one past the last of each
    const Pair *pairs;     // (layers, adapters, 7): q, k, v, output, gate, up, down
    const float *code, *levels;
    bf16 *qkv, *attended, *gated, *packed, *thin;
    char *own; // `sizes` says how much
    int64_t own_bytes; // of it for each thread
    double epsilon, scale;
} Step;

typedef struct { const bf16 *a; long lda; const bf16 *b; } Item; // one step of 32: a row tile of B, and h
typedef struct { bf16 *panel; float *c; Item *items; float *scores; } Own;
typedef struct { long adapter, block, first, end; } Entry; // lanes first..end of a block are this adapter's
typedef struct { const Step *s; const Product *product; const Pair *pairs; long stride, K, deep; const bf16 *norm, *x; long sx; } Job;

static long parts(long n, long size) { return (n + size - 1) / size; }
static long least(long a, long b) { return a < b ? a : b; }
static long most(long a, long b) { return a > b ? a : b; }

// c (16 x 16: rows of a, tokens of b) += a b, 32 numbers of the rows a step
static void few_lanes(long steps, const bf16 *a, long lda, long next, const bf16 *b, float *c) {
    for (long from = 0; from < 16; from += AT_ONCE) {
        __m512 sum[AT_ONCE];
        UNROLLED for (int r = 0; r < AT_ONCE; r++) sum[r] = _mm512_loadu_ps(c + (from + r) * 16);
        for (long k = 0; k < steps; k++)
            for (long p = 0; p < 16; p++) {
                __m512i bk = _mm512_loadu_si512(b + k * TILE + 32 * p);
                UNROLLED for (int r = 0; r < AT_ONCE; r++) {
                    int32_t pair;
                    memcpy(&pair, a + (from + r) * lda + k * next + 2 * p, 4);
                    sum[r] = add_pairs(sum[r], _mm512_set1_epi32(pair), bk);
                }
            }
        UNROLLED for (int r = 0; r < AT_ONCE; r++) _mm512_storeu_ps(c + (from + r) * 16, sum[r]);
    }
}

#ifdef HAS_TILES
// c[row tile][block]: sums of one or two row tiles with one or two blocks of tokens, then of the items of each. `ahead`: the two row tiles that come next.
#define MULTIPLY(NAME, NR, NB) \
TILED static void NAME(long steps, const bf16 *a0, const bf16 *a1, long lda, long next, const bf16 *b0, const bf16 *b1, \
                       const Item *items, const long *counts, float *c, const char *const *ahead) { \
    SETTLE(); \
    _tile_zero(0); if (NB > 1) _tile_zero(1); if (NR > 1) { _tile_zero(2); if (NB > 1) _tile_zero(3); } \
    for (long k = 0; k < steps; k++) { \
        _tile_loadd(4, a0 + k * next, 2 * lda); \
        _tile_loadd(6, b0 + k * TILE, 64); \
        _tile_dpbf16ps(0, 4, 6); \
        if (NB > 1) { _tile_loadd(7, b1 + k * TILE, 64); _tile_dpbf16ps(1, 4, 7); } \
        if (NR > 1) { _tile_loadd(5, a1 + k * next, 2 * lda); _tile_dpbf16ps(2, 5, 6); if (NB > 1) _tile_dpbf16ps(3, 5, 7); } \
        if (ahead) for (long i = 0; i < 16; i++) { \
            _mm_prefetch(ahead[0] + (16 * k + i) * 64, _MM_HINT_T1); \
            _mm_prefetch(ahead[1] + (16 * k + i) * 64, _MM_HINT_T1); \
        } \
    } \
    const Item *item = items; \
    for (long i = 0; i < counts[0]; i++, item++) { _tile_loadd(4, item->a, 2 * item->lda); _tile_loadd(6, item->b, 64); _tile_dpbf16ps(0, 4, 6); } \
    for (long i = 0; i < counts[1]; i++, item++) { _tile_loadd(4, item->a, 2 * item->lda); _tile_loadd(6, item->b, 64); _tile_dpbf16ps(1, 4, 6); } \
    for (long i = 0; i < counts[2]; i++, item++) { _tile_loadd(4, item->a, 2 * item->lda); _tile_loadd(6, item->b, 64); _tile_dpbf16ps(2, 4, 6); } \
    for (long i = 0; i < counts[3]; i++, item++) { _tile_loadd(4, item->a, 2 * item->lda); _tile_loadd(6, item->b, 64); _tile_dpbf16ps(3, 4, 6); } \
    _tile_stored(0, c, 64); if (NB > 1) _tile_stored(1, c + SUMS, 64); \
    if (NR > 1) { _tile_stored(2, c + 2 * SUMS, 64); if (NB > 1) _tile_stored(3, c + 3 * SUMS, 64); } \
    SETTLE(); \
}
MULTIPLY(multiply_1_1, 1, 1) MULTIPLY(multiply_1_2, 1, 2) MULTIPLY(multiply_2_1, 2, 1) MULTIPLY(multiply_2_2, 2, 2)
#else
#define begin_tiles() ((void)0)
#define end_tiles() ((void)0)
#endif

static void multiply_rows(const Step *s, long steps, const bf16 *a0, const bf16 *a1, long lda, long next, const bf16 *b0, const bf16 *b1,
                          const Item *items, const long *counts, float *c, const char *const *ahead) {
#ifdef HAS_TILES
    if (s->tiles) {
        if (a1 && b1) multiply_2_2(steps, a0, a1, lda, next, b0, b1, items, counts, c, ahead);
        else if (a1) multiply_2_1(steps, a0, a1, lda, next, b0, b1, items, counts, c, ahead);
        else if (b1) multiply_1_2(steps, a0, a1, lda, next, b0, b1, items, counts, c, ahead);
        else multiply_1_1(steps, a0, a1, lda, next, b0, b1, items, counts, c, ahead);
        return;
    }
#endif
    const bf16 *a[2] = {a0, a1}, *b[2] = {b0, b1};
    for (long r = 0; r < 2; r++)
        for (long n = 0; n < 2; n++) {
            float *sums = c + (2 * r + n) * SUMS;
            if (a[r] && b[n]) {
                memset(sums, 0, SUMS * sizeof(float));
                few_lanes(steps, a[r], lda, next, b[n], sums);
            }
            for (long i = 0; i < counts[2 * r + n]; i++, items++) few_lanes(1, items->a, items->lda, 32, items->b, sums);
        }
}

// n (<= 16) tokens of K numbers, K a multiple of 32 -> K / 32 tiles of pairs
static void lay_tokens(const bf16 *x, long ld, long n, long K, bf16 *out) {
    for (long k = 0; k < K; k += 32, out += TILE) {
        __m512i r[16];
        for (long e = 0; e < 16; e++) r[e] = e < n ? _mm512_loadu_si512(x + e * ld + k) : _mm512_setzero_si512();
        transpose16(r);
        for (long e = 0; e < 16; e++) _mm512_storeu_si512(out + 32 * e, r[e]);
    }
}

// 16 rows of a weight from row n on -> tiles, one behind the other
static void lay_rows(const Step *s, const Linear *w, long n, long K, bf16 *out) {
    __m512 code = w->kind == 1 ? _mm512_loadu_ps(s->code) : _mm512_setzero_ps();
    Values values = {0};
    for (long r = 0, block = -1; r < 16; r++)
        for (long k = 0; k < K; k += 32) {
            long at = (n + r) * K + k;
            bf16 *to = out + k / 32 * TILE + r * 32;
            if (w->kind == 0) _mm512_storeu_si512(to, _mm512_loadu_si512((const bf16 *)w->at[0] + at));
            else if (w->kind == 1) {
                if (at / NF4_BLOCK != block) {
                    block = at / NF4_BLOCK;
                    values = nf4_values(code, nf4_scale(w->at[1], w->at[2], s->levels, w->at[3], w->at[4], block));
                }
                __m256i found[2];
                nf4_look_up(values, nibbles(_mm_loadu_si128((const void *)((const uint8_t *)w->at[0] + at / 2))), found);
                _mm256_storeu_si256((void *)to, found[0]);
                _mm256_storeu_si256((void *)(to + 16), found[1]);
            } else {
                __m512 scale = _mm512_set1_ps(((const float *)w->at[1])[n + r]), share = _mm512_set1_ps(INT8_SHARE);
                for (long e = 0; e < 32; e += 16) {
                    __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)((const int8_t *)w->at[0] + at + e))));
                    _mm256_storeu_si256((void *)(to + e), nearest(_mm512_mul_ps(_mm512_mul_ps(q, scale), share)));
                }
            }
        }
}

// In the order of blocks; those of block n are first[n] to first[n + 1].
static long find_entries(const Step *s, Entry *out, long *first) {
    long count = 0, blocks = parts(s->tokens, 16);
    for (long n = 0; n <= blocks; n++) first[n] = 0;
    for (long e = 0; e < s->adapters; e++)
        for (long t = s->starts[2 * e]; t < s->starts[2 * e + 1];) {
            long block = t / 16, end = least(s->starts[2 * e + 1], 16 * block + 16);
            out[count++] = (Entry){e, block, t - 16 * block, end - 16 * block};
            first[block + 1]++;
            t = end;
        }
    for (long n = 0; n < blocks; n++) first[n + 1] += first[n];
    return count;
}

static bf16 *thin_of(const Job *j, long entry, long linear) { return j->s->thin + (entry * 3 + linear) * j->deep * TILE; }

// h of one adapter's tokens in a block, as steps of 32 ranks; what is beyond its ranks and its lanes is zero.
static void make_thin(const Job *j, const Entry *entry, long index, long linear, Own *own) {
    const Pair *pair = j->pairs + entry->adapter * j->stride + linear;
    static const long none[4] = {0};
    bf16 *out = thin_of(j, index, linear);
    __mmask16 lanes = lanes_left(entry->end) & ~((1u << entry->first) - 1);
    const bf16 *b = j->s->packed + entry->block * (j->K / 32) * TILE;
    for (long r = 0; r < pair->rank; r += 16) {
        const bf16 *a = pair->a + r * j->K;
        multiply_rows(j->s, j->K / 32, a, 0, j->K, 32, b, 0, 0, none, own->c, 0);
        for (long i = 0; i < 16; i += 2) {
            __m512 r0 = _mm512_maskz_loadu_ps(lanes, own->c + i * 16), r1 = _mm512_maskz_loadu_ps(lanes, own->c + i * 16 + 16);
            __m512i low = _mm512_cvtepu16_epi32(narrow(r0)), high = _mm512_cvtepu16_epi32(narrow(r1));
            _mm512_storeu_si512(out + (r + i) / 2 * 32, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
        }
    }
    if (pair->rank % 32) memset(out + pair->rank * 16, 0, 16 * 16 * sizeof(bf16));
}

// A row tile's items: for all entries of a block, rows n.. of B
static long list_items(const Job *j, const Entry *entries, const long *first, long block, long linear, long n, Item *out) {
    long found = 0;
    for (long e = first[block]; e < first[block + 1]; e++) {
        const Pair *pair = j->pairs + entries[e].adapter * j->stride + linear;
        for (long r = 0; r < pair->rank; r += 32)
            out[found++] = (Item){pair->b + n * pair->rank + r, pair->rank, thin_of(j, e, linear) + r / 32 * TILE};
    }
    return found;
}

INLINE void transpose_sums(const float *c, __m512i r[16]) {
    for (long e = 0; e < 16; e++) r[e] = _mm512_loadu_si512(c + 16 * e);
    transpose16(r);
}

typedef enum { STORED, ADDED, GATED } Finish;

// 16 rows (of gate and of up where gated) of a block's results -> columns n.. of its tokens
static void finish(const Step *s, Finish how, const float *c, const float *up, const Linear *w, const Linear *of_up, long n, long column,
                   long token, bf16 *y, long sy) {
    __m512i r[16], u[16];
    __m512 bias = w->bias ? load(w->bias + n) : _mm512_setzero_ps(), other = _mm512_setzero_ps();
    transpose_sums(c, r);
    if (how == GATED) {
        transpose_sums(up, u);
        if (of_up->bias) other = load(of_up->bias + n);
    }
    for (long t = 0; t < 16 && token + t < s->tokens; t++) {
        bf16 *to = y + (token + t) * sy + column;
        __m512 v = _mm512_add_ps(_mm512_castsi512_ps(r[t]), bias);
        if (how == ADDED) v = _mm512_add_ps(v, load(to));
        if (how == GATED) v = _mm512_mul_ps(_mm512_mul_ps(v, sigmoid(v)), _mm512_add_ps(_mm512_castsi512_ps(u[t]), other));
        store(to, v);
    }
}

static long units_of(const Product *p, Finish how) {
    if (how == GATED) return p->linear[0].rows / 16;
    long units = 0;
    for (long l = 0; l < p->count; l++) units += parts(p->linear[l].rows, 32);
    return units;
}

typedef struct { long linear[2], row[2], column; } Unit; // two row tiles; row -1: there is no second
static Unit unit_of(const Product *p, Finish how, long index) {
    if (how == GATED) return (Unit){{0, 1}, {16 * index, 16 * index}, 16 * index};
    long column = 0;
    for (long l = 0; l < p->count; l++) {
        long here = parts(p->linear[l].rows, 32), row = 32 * index;
        if (index < here) return (Unit){{l, l}, {row, row + 16 < p->linear[l].rows ? row + 16 : -1}, column + row};
        index -= here;
        column += p->linear[l].rows;
    }
    return (Unit){{0, 0}, {0, -1}, 0};
}

static const bf16 *where(const Linear *w, long row, long K) { return (const bf16 *)w->at[0] + row * K; }

static void run_unit(const Job *j, Finish how, long index, long last, const Entry *entries, const long *begin, bf16 *y, long sy, Own *own) {
    const Step *s = j->s;
    const Product *p = j->product;
    Unit unit = unit_of(p, how, index);
    long K = j->K, steps = K / 32, blocks = parts(s->tokens, 16);
    const Linear *w[2] = {p->linear + unit.linear[0], p->linear + unit.linear[1]};
    const bf16 *a[2] = {0, 0};
    const char *ahead[2] = {0, 0};
    int lies = w[0]->kind == 0 && w[1]->kind == 0 && s->tokens <= FEW; // gate and up need not be of one kind
    for (long r = 0; r < 2 && unit.row[r] >= 0; r++) {
        a[r] = lies ? where(w[r], unit.row[r], K) : own->panel + r * steps * TILE;
        if (!lies) lay_rows(s, w[r], unit.row[r], K, own->panel + r * steps * TILE);
    }
    if (lies && index + 1 < last) {
        Unit next = unit_of(p, how, index + 1);
        for (long r = 0; r < 2; r++) {
            long e = next.row[r] < 0 ? 0 : r;
            ahead[r] = (const char *)where(p->linear + next.linear[e], next.row[e], K);
        }
    }
    for (long n = 0; n < blocks; n += 2) {
        int two = n + 1 < blocks;
        const bf16 *b = s->packed + n * steps * TILE;
        long counts[4] = {0}, items = 0;
        for (long r = 0; r < 2; r++)
            for (long e = 0; e < 1 + two && a[r]; e++)
                items += counts[2 * r + e] = list_items(j, entries, begin, n + e, unit.linear[r], unit.row[r], own->items + items);
        multiply_rows(s, steps, a[0], a[1], lies ? K : 32, lies ? 32 : TILE, b, two ? b + steps * TILE : 0, own->items, counts, own->c,
                      n || !ahead[0] ? 0 : ahead);
        for (long e = 0; e < 1 + two; e++) {
            const float *c = own->c + e * SUMS;
            finish(s, how, c, c + 2 * SUMS, w[0], w[1], unit.row[0], unit.column, 16 * (n + e), y, sy);
            if (how != GATED && a[1]) finish(s, how, c + 2 * SUMS, 0, w[1], 0, unit.row[1], unit.column + 16, 16 * (n + e), y, sy);
        }
    }
}

// One product with its pairs, by all threads of the region that calls it.
static void run_product(const Job *j, Finish how, const Entry *entries, long count, const long *begin, bf16 *y, long sy, Own *own) {
    const Step *s = j->s;
    long blocks = parts(s->tokens, 16), steps = j->K / 32, units = units_of(j->product, how);
#pragma omp for schedule(static)
    for (long n = 0; n < blocks; n++) {
        bf16 *rows = own->panel; // 16 rows after their norm
        long here = least(16, s->tokens - 16 * n);
        const bf16 *x = j->x + 16 * n * j->sx;
        if (j->norm)
            for (long t = 0; t < here; t++) norm_row(x + t * j->sx, j->norm, rows + t * j->K, j->K, (float)s->epsilon);
        lay_tokens(j->norm ? rows : x, j->norm ? j->K : j->sx, here, j->K, s->packed + n * steps * TILE);
    }
    if (count) {
#pragma omp for schedule(static) collapse(2)
        for (long e = 0; e < count; e++)
            for (long l = 0; l < 3; l++)
                if (l < j->product->count) make_thin(j, entries + e, e, l, own);
    }
    long threads = omp_get_num_threads(), me = omp_get_thread_num();
    long first = units * me / threads, last = units * (me + 1) / threads;
    for (long u = first; u < last; u++) run_unit(j, how, u, last, entries, begin, y, sy, own);
#pragma omp barrier
}

// Norms of heads, rotation, and what the cache gets of one token.
static void place_token(const Step *s, const Layer *layer, const Cache *cache, long t) {
    long D = s->head, width = (s->queries + 2 * s->key_heads) * D;
    bf16 *q = s->qkv + t * width, *k = q + s->queries * D, *v = k + s->key_heads * D;
    if (layer->q_norm) {
        for (long h = 0; h < s->queries; h++) norm_row(q + h * D, layer->q_norm, q + h * D, D, (float)s->epsilon);
        for (long h = 0; h < s->key_heads; h++) norm_row(k + h * D, layer->k_norm, k + h * D, D, (float)s->epsilon);
    }
    rotate_heads(q, s->cosine + t * D, s->sine + t * D, s->queries + s->key_heads, D, 0);
    for (long h = 0; h < s->key_heads; h++) {
        long at = ((s->slots[t] * s->key_heads + h) * s->columns + s->positions[t]) * D;
        memcpy(cache->keys + at, k + h * D, D * sizeof(bf16));
        memcpy(cache->values + at, v + h * D, D * sizeof(bf16));
    }
}

// One token's query heads that share a key head, `heads` of them, against the keys that it sees.
static void attend(const Step *s, long window, const Cache *cache, const Decode *d, long key_head, long first, long heads, float *scores) {
    long D = s->head, width = (s->queries + 2 * s->key_heads) * D, end = d->seen;
    long begin = window && end > window ? end - window : 0, n = end - begin, room = parts(n, 16) * 16;
    const bf16 *q = s->qkv + d->token * width + first * D;
    long at = ((d->slot * s->key_heads + key_head) * s->columns + begin) * D;
    const bf16 *k = cache->keys + at, *v = cache->values + at;
    bf16 *out = s->attended + (d->token * s->queries + first) * D;
    for (long j = 0; j < n; j++)
        for (long h = 0; h < heads; h++) {
            __m512 sum = _mm512_setzero_ps();
            for (long c = 0; c < D; c += 32)
                sum = add_pairs(sum, _mm512_loadu_si512(q + h * D + c), _mm512_loadu_si512(k + j * D + c));
            scores[h * room + j] = _mm512_reduce_add_ps(sum) * (float)s->scale;
        }
    float total[MOST_HEADS];
    for (long h = 0; h < heads; h++) {
        float *row = scores + h * room;
        __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
        EACH(j, n) top = _mm512_mask_max_ps(top, lanes_left(n - j), top, _mm512_loadu_ps(row + j));
        top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
        EACH(j, n) {
            __m512 p = _mm512_maskz_mov_ps(lanes_left(n - j), exp512(_mm512_sub_ps(_mm512_loadu_ps(row + j), top)));
            sum = _mm512_add_ps(sum, p);
            _mm512_storeu_ps(row + j, p);
        }
        total[h] = _mm512_reduce_add_ps(sum);
    }
    for (long c = 0; c < D; c += 32) {
        __m512 low[MOST_HEADS], high[MOST_HEADS];
        for (long h = 0; h < heads; h++) low[h] = high[h] = _mm512_setzero_ps();
        for (long j = 0; j < n; j++) {
            __m512 v0 = load(v + j * D + c), v1 = load(v + j * D + c + 16);
            for (long h = 0; h < heads; h++) {
                __m512 p = _mm512_set1_ps(scores[h * room + j]);
                low[h] = _mm512_fmadd_ps(p, v0, low[h]);
                high[h] = _mm512_fmadd_ps(p, v1, high[h]);
            }
        }
        for (long h = 0; h < heads; h++) {
            __m512 share = _mm512_set1_ps(1.0f / total[h]);
            store(out + h * D + c, _mm512_mul_ps(low[h], share));
            store(out + h * D + c + 16, _mm512_mul_ps(high[h], share));
        }
    }
}

static void attend_all(const Step *s, long window, const Cache *cache, Own *own) {
    long group = s->queries / s->key_heads, pieces = parts(group, MOST_HEADS);
#pragma omp for schedule(static)
    for (long u = 0; u < s->decodes * s->key_heads * pieces; u++) {
        long piece = u % pieces, key_head = u / pieces % s->key_heads;
        long first = key_head * group + piece * MOST_HEADS;
        attend(s, window, cache, s->decoding + u / pieces / s->key_heads, key_head, first, least(MOST_HEADS, group - piece * MOST_HEADS), own->scores);
    }
}

static long deepest(const Step *s, const Pair *pairs, long count) { // steps of 32 ranks of the deepest pair
    long rank = 16;
    for (long i = 0; i < count * 7 * s->adapters; i++) rank = most(rank, pairs[i].rank);
    return parts(rank, 32);
}
static long widest(const Step *s) { return most(most(s->width, s->queries * s->head), s->ffn); }
static long entries_at_most(const Step *s) { return parts(s->tokens, 16) + s->adapters; }

// Bytes that a thread needs for itself: a panel of weights, sums, items, scores.
static long own_room(Own *own, char *base, const Step *s, long deep) {
    long at = 0;
    own->panel = (bf16 *)(base + at); at += parts(widest(s) * 32 * 2, 64) * 64;
    own->c = (float *)(base + at); at += 4 * SUMS * 4;
    own->items = (Item *)(base + at); at += parts(4 * deep * most(1, least(s->adapters, 16)) * sizeof(Item), 64) * 64;
    own->scores = (float *)(base + at); at += MOST_HEADS * (s->columns + 16) * 4;
    return parts(at, 4096) * 4096 + 64; // threads' rooms must not share their places in the cache
}

// Bytes for each thread, numbers of `packed` and of `thin`.
int budwood_step_sizes(const Step *s, int64_t *sizes, long layers) {
    Own own;
    long deep = deepest(s, s->pairs, layers);
    sizes[0] = own_room(&own, 0, s, deep);
    sizes[1] = parts(s->tokens, 16) * parts(widest(s), 32) * TILE;
    sizes[2] = entries_at_most(s) * 3 * deep * TILE;
    return 0;
}

// from, to: 0 norm, q, k, v, cache; 1 attention of the decoding tokens; 2 output and all that follows; `to` is one past the last.
#ifdef HAS_TILES
TILED
#endif
int budwood_step_layer(const Step *s, long index, long from, long to) {
    const Layer *layer = s->layers + index;
    const Cache *cache = s->caches + index;
    const Pair *pairs = s->pairs + index * s->adapters * 7;
    long deep = deepest(s, pairs, 1), d = s->width, heads = s->queries * s->head, joint = heads + 2 * s->key_heads * s->head;
    Job qkv = {s, &layer->qkv, pairs, 7, d, deep, layer->before, s->x, d};
    Job output = {s, &layer->output, pairs + 3, 7, heads, deep, 0, s->attended, heads};
    Job gate_up = {s, &layer->gate_up, pairs + 4, 7, d, deep, layer->between, s->x, d};
    Job down = {s, &layer->down, pairs + 6, 7, s->ffn, deep, 0, s->gated, s->ffn};
    Entry entries[entries_at_most(s) + 1];
    long begin[parts(s->tokens, 16) + 1], count = find_entries(s, entries, begin);
#pragma omp parallel
    {
        Own own;
        own_room(&own, s->own + s->own_bytes * omp_get_thread_num(), s, deep);
        if (s->tiles) begin_tiles();
        if (from == 0) {
            run_product(&qkv, STORED, entries, count, begin, s->qkv, joint, &own);
#pragma omp for schedule(static)
            for (long t = 0; t < s->tokens; t++) place_token(s, layer, cache, t);
        }
        if (from <= 1 && to > 1) attend_all(s, layer->window, cache, &own);
        if (to > 2) {
            run_product(&output, ADDED, entries, count, begin, s->x, d, &own);
            run_product(&gate_up, GATED, entries, count, begin, s->gated, s->ffn, &own);
            run_product(&down, ADDED, entries, count, begin, s->x, d, &own);
        }
        if (s->tiles) end_tiles();
    }
    return 0;
}

// All layers in one call: whoever calls from Python lets go of its lock once instead of once a layer.
int budwood_step_layers(const Step *s, long layers) {
    for (long index = 0; index < layers; index++) budwood_step_layer(s, index, 0, 3);
    return 0;
}
