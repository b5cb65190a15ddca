// Products of bfloat16 tiles in float32 sums on a processor with AMX_BF16.
//
// A tile is 16 rows of 64 bytes, laid end to end: 1 KB. C (16 x 16 floats) += A (16 x 32) B (32 x 16): rows of A as they are read,
// B in pairs along its rows (16 pairs of rows x 16 columns x 2), as the processor's instruction takes them.
// HAS_TILES: the compiler knows the instructions. Whoever runs them has asked `budwood_tiles_granted` first.

#pragma once
#include "lanes.h"

#if defined(__has_include) && defined(__linux__) && defined(__AVX512BF16__)
#if __has_include(<amxbf16intrin.h>)
#define HAS_TILES 1
#define TILED __attribute__((target("amx-tile,amx-bf16")))

#define NUMBERS 512 // bfloat16 numbers in a tile
#define FLOATS 256

// The compiler does not know what memory the instructions read and write.
#define SETTLE() __asm__ volatile("" ::: "memory")

typedef struct { uint8_t palette, start, none[14]; uint16_t bytes[16]; uint8_t rows[16]; } TileShapes;

TILED INLINE void begin_tiles(void) {
    TileShapes shapes __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) shapes.bytes[t] = 64, shapes.rows[t] = 16;
    SETTLE();
    _tile_loadconfig(&shapes);
}
TILED INLINE void end_tiles(void) { _tile_release(); }

// two rows of 32 -> pairs (row0, row1) of the first 16 columns, of the last 16
INLINE void pair_up(__m512i r0, __m512i r1, __m512i *first, __m512i *last) {
    const __m512i low = _mm512_set_epi32(0x2f000f, 0x2e000e, 0x2d000d, 0x2c000c, 0x2b000b, 0x2a000a, 0x290009, 0x280008,
                                         0x270007, 0x260006, 0x250005, 0x240004, 0x230003, 0x220002, 0x210001, 0x200000);
    *first = _mm512_permutex2var_epi16(r0, low, r1);
    *last = _mm512_permutex2var_epi16(r0, _mm512_add_epi32(low, _mm512_set1_epi32(0x100010)), r1);
}
// `left` rows of w, `cols` numbers of each -> panels of 32 columns, `apart` from one to the next: pairs along the rows, for every 32 of them
// two tiles. Row by row, as they lie in memory.
static inline void lay_paired(const bf16 *w, long ld, long cols, long left, bf16 *out, long apart) {
    for (long k = 0; k < left; k += 32)
        for (long e = 0; e < 16; e++) {
            const bf16 *row = w + (k + 2 * e) * ld;
            bf16 *to = out + k / 32 * 2 * NUMBERS + 32 * e;
            for (long c = 0; c < cols; c += 32, to += apart) {
                __m512i r0 = _mm512_setzero_si512(), r1 = r0, first, last;
                if (k + 2 * e < left) r0 = _mm512_maskz_loadu_epi16(bits(cols - c), row + c);
                if (k + 2 * e + 1 < left) r1 = _mm512_maskz_loadu_epi16(bits(cols - c), row + ld + c);
                pair_up(r0, r1, &first, &last);
                _mm512_store_si512(to, first);
                _mm512_store_si512(to + NUMBERS, last);
            }
        }
}

// c: four tiles, C of the upper rows left and right, then of the lower. a0, a1: first tiles of the upper and lower rows; b0, b1: of
// the left and right columns; sa, sb: numbers from one of the `steps` to the next. `add`: to what c holds.
TILED INLINE void multiply(long steps, const bf16 *a0, const bf16 *a1, long sa, const bf16 *b0, const bf16 *b1, long sb, float *c,
                           int add) {
    SETTLE();
    if (add) {
        _tile_loadd(0, c, 64); _tile_loadd(1, c + FLOATS, 64); _tile_loadd(2, c + 2 * FLOATS, 64); _tile_loadd(3, c + 3 * FLOATS, 64);
    } else {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    }
    for (long k = 0; k < steps; k++) {
        _tile_loadd(4, a0 + k * sa, 64);
        _tile_loadd(6, b0 + k * sb, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k * sb, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + k * sa, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 64); _tile_stored(1, c + FLOATS, 64); _tile_stored(2, c + 2 * FLOATS, 64); _tile_stored(3, c + 3 * FLOATS, 64);
    SETTLE();
}

// What is asked for from far memory during a product: `rows` rows of x, 64 bytes of each a step; and in 32 rows of y, a line each.
typedef struct { const char *x; long sx, rows; char *y; long sy; } Ahead;

// C, four tiles as in `multiply`, of two products, the first over `steps` and the second over `more`; all four operands have two tiles
// a step, which lie together.
TILED INLINE void multiply_two(long steps, const bf16 *a, long sa, const bf16 *b, long more, const bf16 *a2, const bf16 *b2, float *c, int add,
                               Ahead ahead) {
    SETTLE();
    if (add) {
        _tile_loadd(0, c, 64); _tile_loadd(1, c + FLOATS, 64); _tile_loadd(2, c + 2 * FLOATS, 64); _tile_loadd(3, c + 3 * FLOATS, 64);
    } else {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    }
    long lines = ahead.y ? (31 + steps) / steps : 0, left = 32;
    for (int turn = 0; turn < 2; turn++) {
        for (long k = 0; k < steps; k++, a += sa, b += 2 * NUMBERS) {
            _tile_loadd(4, a, 64);
            _tile_loadd(6, b, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, b + NUMBERS, 64);
            for (long i = 0; i < ahead.rows; i++) _mm_prefetch(ahead.x + i * ahead.sx, _MM_HINT_T1);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, a + NUMBERS, 64);
            for (long i = 0; i < lines && left; i++, left--, ahead.y += ahead.sy) __builtin_prefetch(ahead.y, 1);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            ahead.x += 64;
        }
        steps = more; a = a2; b = b2; ahead.rows = lines = 0;
    }
    _tile_stored(0, c, 64); _tile_stored(1, c + FLOATS, 64); _tile_stored(2, c + 2 * FLOATS, 64); _tile_stored(3, c + 3 * FLOATS, 64);
    SETTLE();
}
#endif
#endif
