// From quantised weights to numbers in a buffer: NF4 with plain or quantised scales, and int8 by rows. Every step rounds as the
// torch form does (products and sums apart, one cast at the end), so the bits are the same; values are finite.

#include "expand.h"

INLINE void put(void *out, long at, __m512 x, long wide, __mmask16 m) {
    if (wide) _mm512_mask_storeu_ps((float *)out + at, m, x);
    else _mm256_mask_storeu_epi16((bf16 *)out + at, m, nearest(x));
}

// n (<= 32) weights of a block as float32
INLINE void put_wide(__m256i indices, __m512 code, float scale, float *out, long n) {
    __m512 s = _mm512_set1_ps(scale);
    __m512i first = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(indices)), last = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(indices, 1));
    _mm512_mask_storeu_ps(out, lanes_left(n), _mm512_mul_ps(_mm512_permutexvar_ps(first, code), s));
    if (n > 16) _mm512_mask_storeu_ps(out + 16, lanes_left(n - 16), _mm512_mul_ps(_mm512_permutexvar_ps(last, code), s));
}

// n weights. Scales of 64 each: `plain`, or levels[bytes[b]] * nested[b / 256] + offset. wide: out is float32, else bfloat16.
int budwood_nf4_expand(const uint8_t *packed, const float *code, const float *plain, const uint8_t *bytes, const float *levels,
                       const float *nested, const float *offset, void *out, long n, long wide) {
    __m512 table = _mm512_loadu_ps(code);
    long blocks = (n + NF4_BLOCK - 1) / NF4_BLOCK;
#pragma omp parallel for schedule(static)
    for (long b = 0; b < blocks; b++) {
        float scale = nf4_scale(plain, bytes, levels, nested, offset, b);
        Values values = nf4_values(table, scale);
        long end = n < (b + 1) * NF4_BLOCK ? n : (b + 1) * NF4_BLOCK;
        for (long at = b * NF4_BLOCK; at < end; at += 32) {
            long count = end - at < 32 ? end - at : 32;
            __m256i found[2], indices = nibbles(_mm_maskz_loadu_epi8(lanes_left((count + 1) / 2), packed + at / 2));
            if (wide) {
                put_wide(indices, table, scale, (float *)out + at, count);
                continue;
            }
            nf4_look_up(values, indices, found);
            _mm256_mask_storeu_epi16((bf16 *)out + at, lanes_left(count), found[0]);
            if (count > 16) _mm256_mask_storeu_epi16((bf16 *)out + at + 16, lanes_left(count - 16), found[1]);
        }
    }
    return 0;
}

// q (rows, columns) times scale[row] times 1 / 127
int budwood_int8_expand(const int8_t *q, const float *scale, void *out, long rows, long columns, long wide) {
#pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) {
        __m512 s = _mm512_set1_ps(scale[r]), share = _mm512_set1_ps(INT8_SHARE);
        for (long c = 0; c < columns; c += 16) {
            __mmask16 m = lanes_left(columns - c);
            __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, q + r * columns + c)));
            put(out, r * columns + c, _mm512_mul_ps(_mm512_mul_ps(x, s), share), wide, m);
        }
    }
    return 0;
}
