// Sixteen quantised weights as float32, and float32 as the nearest bfloat16.

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
// The scale of block b: `plain`, or levels[bytes[b]] * nested[b / 256] + offset.
INLINE float nf4_scale(const float *plain, const uint8_t *bytes, const float *levels, const float *nested, const float *offset, long b) {
    return plain ? plain[b] : levels[bytes[b]] * nested[b / NF4_NESTED] + *offset;
}
