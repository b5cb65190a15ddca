// From quantised weights to numbers in a buffer: NF4 with plain or quantised scales, and int8 by rows. Every step rounds as the
// torch form does (products and sums apart, one cast at the end), so the bits are the same; values are finite.

#include "lanes.h"

#define BLOCK 64
#define NESTED 256

// To the nearest bfloat16, ties to even: the processor's own instruction would drop the smallest numbers.
INLINE __m256i nearest(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

INLINE void put(void *out, long at, __m512 x, long wide, __mmask16 m) {
    if (wide) _mm512_mask_storeu_ps((float *)out + at, m, x);
    else _mm256_mask_storeu_epi16((bf16 *)out + at, m, nearest(x));
}

// 16 bytes -> 32 indices, the high nibble first
INLINE __m256i nibbles(__m128i bytes) {
    __m256i wide = _mm256_cvtepu8_epi16(bytes);
    __m256i high = _mm256_srli_epi16(wide, 4), low = _mm256_and_si256(wide, _mm256_set1_epi16(15));
    return _mm256_or_si256(high, _mm256_slli_epi16(low, 8));
}

// n weights. Scales of 64 each: `plain`, or levels[bytes[b]] * nested[b / 256] + offset. wide: out is float32, else bfloat16.
int budwood_nf4_expand(const uint8_t *packed, const float *code, const float *plain, const uint8_t *bytes, const float *levels,
                       const float *nested, const float *offset, void *out, long n, long wide) {
    __m512 table = _mm512_loadu_ps(code);
    long blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
    for (long b = 0; b < blocks; b++) {
        float scale = plain ? plain[b] : levels[bytes[b]] * nested[b / NESTED] + *offset;
        __m512 s = _mm512_set1_ps(scale);
        long left = n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK;
        for (long half = 0; half < left; half += 32) {
            long count = left - half < 32 ? left - half : 32;
            __mmask16 some = lanes_left((count + 1) / 2);
            __m256i found = nibbles(_mm_maskz_loadu_epi8(some, packed + (b * BLOCK + half) / 2));
            __m512i first = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(found));
            __m512i second = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(found, 1));
            long at = b * BLOCK + half;
            put(out, at, _mm512_mul_ps(_mm512_permutexvar_ps(first, table), s), wide, lanes_left(count));
            if (count > 16) put(out, at + 16, _mm512_mul_ps(_mm512_permutexvar_ps(second, table), s), wide, lanes_left(count - 16));
        }
    }
    return 0;
}

// q (rows, columns) times scale[row] times 1 / 127
int budwood_int8_expand(const int8_t *q, const float *scale, void *out, long rows, long columns, long wide) {
#pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) {
        __m512 s = _mm512_set1_ps(scale[r]), share = _mm512_set1_ps(7.874015718698502e-3f);
        for (long c = 0; c < columns; c += 16) {
            __mmask16 m = lanes_left(columns - c);
            __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, q + r * columns + c)));
            put(out, r * columns + c, _mm512_mul_ps(_mm512_mul_ps(x, s), share), wide, m);
        }
    }
    return 0;
}
