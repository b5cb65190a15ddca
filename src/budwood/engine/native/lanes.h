// Sixteen bfloat16 numbers at a time, as float32 in a register of AVX512, or in two of AVX2.

#pragma once
#include <immintrin.h>
#include <stdint.h>

#ifndef __AVX512BF16__
#include "avx2.h"
#endif

typedef uint16_t bf16;
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16") // early enough for sums in an array to stay in registers

INLINE __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
INLINE __m512 load(const bf16 *x) { return widen(_mm256_loadu_si256((const void *)x)); }
INLINE __m512 load_some(const bf16 *x, __mmask16 m) { return widen(_mm256_maskz_loadu_epi16(m, x)); }

// To the nearest bfloat16, ties to even, in whole numbers: the processor's own instruction would drop the smallest. For finite numbers.
INLINE __m256i nearest(__m512 x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}
// To the nearest bfloat16, where a NaN stays one; and sum + a b, of both numbers of each pair.
#ifdef __AVX512BF16__
INLINE __m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
INLINE __m512 add_pairs(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
#else
INLINE __m256i narrow(__m512 x) {
    __m512 none = lanes_of(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
    __m256i lost = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(none), 16));
    return _mm256_or_si256(_mm256_andnot_si256(lost, nearest(x)), _mm256_and_si256(lost, _mm256_set1_epi16(0x7fc0)));
}
INLINE __m512 even_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
INLINE __m512 odd_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000u))); }
INLINE __m512 add_pairs(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(odd_of(a), odd_of(b), _mm512_fmadd_ps(even_of(a), even_of(b), sum));
}
#endif
INLINE void store(bf16 *x, __m512 v) { _mm256_storeu_si256((void *)x, narrow(v)); }
INLINE void store_some(bf16 *x, __mmask16 m, __m512 v) { _mm256_mask_storeu_epi16(x, m, narrow(v)); }
INLINE __mmask16 lanes_left(long n) { return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1); }
INLINE uint32_t bits(long n) { return n <= 0 ? 0 : n >= 32 ? 0xffffffffu : (1u << n) - 1; } // the lowest n

// e^x for x <= 0. Of two operands one of which is no number, the instructions for max and min give the second: so a NaN stays.
INLINE __m512 exp512(__m512 x) {
    const __m512 log2e = _mm512_set1_ps(1.44269504088896341f);
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);
    __m512 t = _mm512_mul_ps(x, log2e);
    __m512 n = _mm512_roundscale_ps(t, 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.428606765330187e-06f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

// 16 x 16 numbers of 32 bits: what was row i is column i afterwards.
INLINE void transpose16(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int e = 0; e < 2; e++) {
            r[i + 2 * e] = _mm512_unpacklo_epi64(t[i + e], t[i + 2 + e]);
            r[i + 2 * e + 1] = _mm512_unpackhi_epi64(t[i + e], t[i + 2 + e]);
        }
    // r[4 a + b], lane c: column 4 c + b of rows 4 a to 4 a + 3
    for (int b = 0; b < 4; b++) {
        __m512i low0 = _mm512_shuffle_i32x4(r[b], r[4 + b], 0x44), high0 = _mm512_shuffle_i32x4(r[b], r[4 + b], 0xee);
        __m512i low1 = _mm512_shuffle_i32x4(r[8 + b], r[12 + b], 0x44), high1 = _mm512_shuffle_i32x4(r[8 + b], r[12 + b], 0xee);
        t[b] = _mm512_shuffle_i32x4(low0, low1, 0x88);
        t[4 + b] = _mm512_shuffle_i32x4(low0, low1, 0xdd);
        t[8 + b] = _mm512_shuffle_i32x4(high0, high1, 0x88);
        t[12 + b] = _mm512_shuffle_i32x4(high0, high1, 0xdd);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}
