// Sixteen bfloat16 numbers at a time, as float32 in a register of AVX512.

#pragma once
#include <immintrin.h>
#include <stdint.h>

typedef uint16_t bf16;
#define INLINE static inline __attribute__((always_inline))

INLINE __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
INLINE __m512 load(const bf16 *x) { return widen(_mm256_loadu_si256((const void *)x)); }
INLINE __m512 load_some(const bf16 *x, __mmask16 m) { return widen(_mm256_maskz_loadu_epi16(m, x)); }
INLINE void store(bf16 *x, __m512 v) { _mm256_storeu_si256((void *)x, (__m256i)_mm512_cvtneps_pbh(v)); }
INLINE void store_some(bf16 *x, __mmask16 m, __m512 v) { _mm256_mask_storeu_epi16(x, m, (__m256i)_mm512_cvtneps_pbh(v)); }
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

// 2^x for x <= 1, to 1e-7 of it; of -inf nothing is left, a NaN stays.
INLINE __m512 exp2_512(__m512 x) {
    __m512 r = _mm512_reduce_ps(x, 1); // x - floor(x)
    __m512 p = _mm512_set1_ps(1.8671299e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.0170307e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5799913e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4016444e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9315130e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, x); // times 2^floor(x)
}
// The natural logarithm of x > 0, to 1e-7; a NaN stays.
INLINE __m512 log512(__m512 x) {
    // x = 2^n (1 + r), 1 + r from 0.75 to 1.5
    __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    __m512 n = _mm512_getexp_ps(_mm512_div_ps(x, m)), r = _mm512_sub_ps(m, _mm512_set1_ps(1.0f));
    __m512 p = _mm512_set1_ps(7.0376836292e-2f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.1514610310e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.1676998740e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.2420140846e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.4249322787e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-1.6668057665e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.0000714765e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(-2.4999993993e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(3.3333331174e-1f));
    __m512 square = _mm512_mul_ps(r, r);
    __m512 low = _mm512_fmsub_ps(_mm512_mul_ps(square, r), p, _mm512_mul_ps(_mm512_set1_ps(0.5f), square));
    return _mm512_fmadd_ps(n, _mm512_set1_ps(0.69314718055994531f), _mm512_add_ps(r, low));
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
