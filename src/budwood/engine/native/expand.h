// Quantised weights as bfloat16 or float32.

#pragma once
#include "lanes.h"

#define NF4_BLOCK 64
#define NF4_NESTED 256
#define INT8_SHARE 7.874015718698502e-3f // 1 / 127

// 16 bytes -> 32 indices, the high nibble first
INLINE __m256i nibbles(__m128i bytes) {
    __m256i wide = _mm256_cvtepu8_epi16(bytes);
    __m256i high = _mm256_srli_epi16(wide, 4), low = _mm256_and_si256(wide, _mm256_set1_epi16(15));
    return _mm256_or_si256(high, _mm256_slli_epi16(low, 8));
}
// A block's 16 possible weights, rounded to bfloat16; and 32 weights looked up by their indices.
#ifdef __AVX512BF16__
typedef __m512i Values;
INLINE Values nf4_values(__m512 code, float scale) {
    return _mm512_castsi256_si512(nearest(_mm512_mul_ps(code, _mm512_set1_ps(scale))));
}
INLINE void nf4_look_up(Values values, __m256i indices, __m256i found[2]) {
    __m512i all = _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(indices), values);
    found[0] = _mm512_castsi512_si256(all);
    found[1] = _mm512_extracti64x4_epi64(all, 1);
}
#else // by their lower and their upper bytes
typedef struct { __m256i lower, upper; } Values;
INLINE __m256i bytes_of(__m256i x) { // 16 numbers below 256 as bytes, twice
    return _mm256_broadcastsi128_si256(_mm_packus_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}
INLINE Values nf4_values(__m512 code, float scale) {
    __m256i all = nearest(_mm512_mul_ps(code, _mm512_set1_ps(scale)));
    return (Values){bytes_of(_mm256_and_si256(all, _mm256_set1_epi16(0xff))), bytes_of(_mm256_srli_epi16(all, 8))};
}
INLINE void nf4_look_up(Values values, __m256i indices, __m256i found[2]) {
    __m256i lower = _mm256_shuffle_epi8(values.lower, indices), upper = _mm256_shuffle_epi8(values.upper, indices);
    __m256i first = _mm256_unpacklo_epi8(lower, upper), last = _mm256_unpackhi_epi8(lower, upper); // 0-7 and 16-23, 8-15 and 24-31
    found[0] = _mm256_permute2x128_si256(first, last, 0x20);
    found[1] = _mm256_permute2x128_si256(first, last, 0x31);
}
#endif
// The scale of block b: `plain`, or levels[bytes[b]] * nested[b / 256] + offset.
INLINE float nf4_scale(const float *plain, const uint8_t *bytes, const float *levels, const float *nested, const float *offset, long b) {
    return plain ? plain[b] : levels[bytes[b]] * nested[b / NF4_NESTED] + *offset;
}
