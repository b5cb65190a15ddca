// What the kernels use of AVX512, on a processor with AVX2 and FMA: each register of 512 bits is two of 256. So every kernel is
// written once. Masks are the 16 bits that they are in AVX512; moves under a mask of memory that holds 16-bit numbers take its lowest bits only,
// all of them side by side, which is how the kernels use them.

#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct { __m256 low, high; } Floats;
typedef struct { __m256i low, high; } Ints;
#define __m512 Floats
#define __m512i Ints
#define EMULATED static inline __attribute__((always_inline))

#define BOTH(NAME, OF) EMULATED Floats two_##NAME(Floats a, Floats b) { return (Floats){OF(a.low, b.low), OF(a.high, b.high)}; }
#define THREE(NAME, OF) \
    EMULATED Floats two_##NAME(Floats a, Floats b, Floats c) { return (Floats){OF(a.low, b.low, c.low), OF(a.high, b.high, c.high)}; }
#define WHOLE(NAME, OF) EMULATED Ints two_##NAME(Ints a, Ints b) { return (Ints){OF(a.low, b.low), OF(a.high, b.high)}; }
BOTH(add_ps, _mm256_add_ps) BOTH(sub_ps, _mm256_sub_ps) BOTH(mul_ps, _mm256_mul_ps) BOTH(div_ps, _mm256_div_ps)
BOTH(max_ps, _mm256_max_ps) BOTH(min_ps, _mm256_min_ps)
THREE(fmadd_ps, _mm256_fmadd_ps) THREE(fnmadd_ps, _mm256_fnmadd_ps) THREE(fmsub_ps, _mm256_fmsub_ps)
WHOLE(add_epi32, _mm256_add_epi32) WHOLE(and_si512, _mm256_and_si256) WHOLE(or_si512, _mm256_or_si256)
WHOLE(unpacklo_epi32, _mm256_unpacklo_epi32) WHOLE(unpackhi_epi32, _mm256_unpackhi_epi32)
WHOLE(unpacklo_epi64, _mm256_unpacklo_epi64) WHOLE(unpackhi_epi64, _mm256_unpackhi_epi64)

EMULATED Floats two_set1_ps(float x) { return (Floats){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
EMULATED Floats two_setzero_ps(void) { return (Floats){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
EMULATED Ints two_set1_epi32(int32_t x) { return (Ints){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
EMULATED Ints two_setzero_si512(void) { return (Ints){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
EMULATED Floats two_loadu_ps(const void *x) { return (Floats){_mm256_loadu_ps(x), _mm256_loadu_ps((const float *)x + 8)}; }
EMULATED void two_storeu_ps(void *x, Floats v) { _mm256_storeu_ps(x, v.low), _mm256_storeu_ps((float *)x + 8, v.high); }
EMULATED Ints two_loadu_si512(const void *x) {
    return (Ints){_mm256_loadu_si256(x), _mm256_loadu_si256((const __m256i *)x + 1)};
}
EMULATED void two_storeu_si512(void *x, Ints v) { _mm256_storeu_si256(x, v.low), _mm256_storeu_si256((__m256i *)x + 1, v.high); }
EMULATED Floats two_castsi512_ps(Ints x) { return (Floats){_mm256_castsi256_ps(x.low), _mm256_castsi256_ps(x.high)}; }
EMULATED Ints two_castps_si512(Floats x) { return (Ints){_mm256_castps_si256(x.low), _mm256_castps_si256(x.high)}; }
EMULATED float two_cvtss_f32(Floats x) { return _mm256_cvtss_f32(x.low); }
EMULATED Ints two_slli_epi32(Ints x, int n) { return (Ints){_mm256_slli_epi32(x.low, n), _mm256_slli_epi32(x.high, n)}; }
EMULATED Ints two_srli_epi32(Ints x, int n) { return (Ints){_mm256_srli_epi32(x.low, n), _mm256_srli_epi32(x.high, n)}; }
EMULATED Floats two_abs_ps(Floats x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (Floats){_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
}

EMULATED Ints two_cvtepu16_epi32(__m256i x) {
    return (Ints){_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1))};
}
EMULATED Ints two_cvtepu8_epi32(__m128i x) { return (Ints){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))}; }
EMULATED Ints two_cvtepi8_epi32(__m128i x) { return (Ints){_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))}; }
EMULATED Floats two_cvtepi32_ps(Ints x) { return (Floats){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
EMULATED __m256i two_cvtepi32_epi16(Ints x) { // of numbers below 65,536
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(x.low, x.high), 0xd8);
}

// The nearest whole number, as the only use asks; x 2^n for whole n from -126 to 127.
EMULATED Floats two_roundscale_ps(Floats x, int mode) {
    (void)mode;
    return (Floats){_mm256_round_ps(x.low, 0), _mm256_round_ps(x.high, 0)};
}
EMULATED __m256 scaled(__m256 x, __m256 n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
BOTH(scalef_ps, scaled)

// Bits as lanes that are all ones or all zeros.
EMULATED Floats lanes_of(__mmask16 m) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i low = _mm256_and_si256(_mm256_set1_epi32(m), bits), high = _mm256_and_si256(_mm256_set1_epi32(m >> 8), bits);
    return (Floats){_mm256_castsi256_ps(_mm256_cmpeq_epi32(low, bits)), _mm256_castsi256_ps(_mm256_cmpeq_epi32(high, bits))};
}
EMULATED __mmask16 bits_of(Floats x) { return (__mmask16)(_mm256_movemask_ps(x.low) | _mm256_movemask_ps(x.high) << 8); }
#define two_cmp_ps_mask(A, B, HOW) bits_of((Floats){_mm256_cmp_ps((A).low, (B).low, HOW), _mm256_cmp_ps((A).high, (B).high, HOW)})
EMULATED __mmask16 two_cmplt_epi32_mask(Ints a, Ints b) {
    return bits_of(two_castsi512_ps((Ints){_mm256_cmpgt_epi32(b.low, a.low), _mm256_cmpgt_epi32(b.high, a.high)}));
}
EMULATED __mmask16 two_cmpge_epi32_mask(Ints a, Ints b) { return (__mmask16)~two_cmplt_epi32_mask(a, b); }
EMULATED Floats two_mask_mov_ps(Floats other, __mmask16 m, Floats x) {
    Floats lanes = lanes_of(m);
    return (Floats){_mm256_blendv_ps(other.low, x.low, lanes.low), _mm256_blendv_ps(other.high, x.high, lanes.high)};
}
EMULATED Floats two_maskz_mov_ps(__mmask16 m, Floats x) {
    Floats lanes = lanes_of(m);
    return (Floats){_mm256_and_ps(x.low, lanes.low), _mm256_and_ps(x.high, lanes.high)};
}
EMULATED Floats two_mask_max_ps(Floats other, __mmask16 m, Floats a, Floats b) { return two_mask_mov_ps(other, m, two_max_ps(a, b)); }
EMULATED Floats two_mask_add_ps(Floats other, __mmask16 m, Floats a, Floats b) { return two_mask_mov_ps(other, m, two_add_ps(a, b)); }
EMULATED Floats two_maskz_loadu_ps(__mmask16 m, const float *x) {
    Ints lanes = two_castps_si512(lanes_of(m));
    return (Floats){_mm256_maskload_ps(x, lanes.low), _mm256_maskload_ps(x + 8, lanes.high)};
}
EMULATED void two_mask_storeu_ps(float *x, __mmask16 m, Floats v) {
    Ints lanes = two_castps_si512(lanes_of(m));
    _mm256_maskstore_ps(x, lanes.low, v.low), _mm256_maskstore_ps(x + 8, lanes.high, v.high);
}
EMULATED __m256i two_maskz_loadu_epi16(__mmask16 m, const void *x) {
    if (m == 0xffff) return _mm256_loadu_si256(x);
    uint16_t some[16] = {0};
    memcpy(some, x, 2 * (size_t)__builtin_popcount(m));
    return _mm256_loadu_si256((const void *)some);
}
EMULATED void two_mask_storeu_epi16(void *x, __mmask16 m, __m256i v) {
    if (m == 0xffff) {
        _mm256_storeu_si256(x, v);
        return;
    }
    uint16_t some[16];
    _mm256_storeu_si256((void *)some, v);
    memcpy(x, some, 2 * (size_t)__builtin_popcount(m));
}
EMULATED __m128i two_maskz_loadu_epi8(__mmask16 m, const void *x) {
    if (m == 0xffff) return _mm_loadu_si128(x);
    uint8_t some[16] = {0};
    memcpy(some, x, (size_t)__builtin_popcount(m));
    return _mm_loadu_si128((const void *)some);
}

EMULATED float two_reduce_add_ps(Floats x) {
    __m256 four = _mm256_add_ps(x.low, x.high);
    __m128 two = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1));
    two = _mm_add_ps(two, _mm_movehl_ps(two, two));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
EMULATED float two_reduce_max_ps(Floats x) {
    __m256 four = _mm256_max_ps(x.low, x.high);
    __m128 two = _mm_max_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1));
    two = _mm_max_ps(two, _mm_movehl_ps(two, two));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// table[index], 16 of each
EMULATED __m256 looked_up(__m256i index, Floats table) {
    __m256 low = _mm256_permutevar8x32_ps(table.low, index), high = _mm256_permutevar8x32_ps(table.high, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
EMULATED Floats two_permutexvar_ps(Ints index, Floats table) { return (Floats){looked_up(index.low, table), looked_up(index.high, table)}; }

// Quarters of a, then of b: the first two, the last two, the even ones, the odd ones.
EMULATED Ints two_shuffle_i32x4(Ints a, Ints b, int which) {
    if (which == 0x44) return (Ints){a.low, b.low};
    if (which == 0xee) return (Ints){a.high, b.high};
    if (which == 0x88) return (Ints){_mm256_permute2x128_si256(a.low, a.high, 0x20), _mm256_permute2x128_si256(b.low, b.high, 0x20)};
    return (Ints){_mm256_permute2x128_si256(a.low, a.high, 0x31), _mm256_permute2x128_si256(b.low, b.high, 0x31)};
}

// The names under which the kernels call them.
#define _mm512_abs_ps two_abs_ps
#define _mm512_add_epi32 two_add_epi32
#define _mm512_add_ps two_add_ps
#define _mm512_and_si512 two_and_si512
#define _mm512_castps_si512 two_castps_si512
#define _mm512_castsi512_ps two_castsi512_ps
#define _mm512_cmp_ps_mask two_cmp_ps_mask
#define _mm512_cmpge_epi32_mask two_cmpge_epi32_mask
#define _mm512_cmplt_epi32_mask two_cmplt_epi32_mask
#define _mm512_cvtepi32_epi16 two_cvtepi32_epi16
#define _mm512_cvtepi32_ps two_cvtepi32_ps
#define _mm512_cvtepi8_epi32 two_cvtepi8_epi32
#define _mm512_cvtepu16_epi32 two_cvtepu16_epi32
#define _mm512_cvtepu8_epi32 two_cvtepu8_epi32
#define _mm512_cvtss_f32 two_cvtss_f32
#define _mm512_div_ps two_div_ps
#define _mm512_fmadd_ps two_fmadd_ps
#define _mm512_fmsub_ps two_fmsub_ps
#define _mm512_fnmadd_ps two_fnmadd_ps
#define _mm512_loadu_ps two_loadu_ps
#define _mm512_loadu_si512 two_loadu_si512
#define _mm512_mask_add_ps two_mask_add_ps
#define _mm512_mask_max_ps two_mask_max_ps
#define _mm512_mask_mov_ps two_mask_mov_ps
#define _mm256_mask_storeu_epi16 two_mask_storeu_epi16
#define _mm512_mask_storeu_ps two_mask_storeu_ps
#define _mm256_maskz_loadu_epi16 two_maskz_loadu_epi16
#define _mm_maskz_loadu_epi8 two_maskz_loadu_epi8
#define _mm512_maskz_loadu_ps two_maskz_loadu_ps
#define _mm512_maskz_mov_ps two_maskz_mov_ps
#define _mm512_max_ps two_max_ps
#define _mm512_min_ps two_min_ps
#define _mm512_mul_ps two_mul_ps
#define _mm512_or_si512 two_or_si512
#define _mm512_permutexvar_ps two_permutexvar_ps
#define _mm512_reduce_add_ps two_reduce_add_ps
#define _mm512_reduce_max_ps two_reduce_max_ps
#define _mm512_roundscale_ps two_roundscale_ps
#define _mm512_scalef_ps two_scalef_ps
#define _mm512_set1_epi32 two_set1_epi32
#define _mm512_set1_ps two_set1_ps
#define _mm512_setzero_ps two_setzero_ps
#define _mm512_setzero_si512 two_setzero_si512
#define _mm512_shuffle_i32x4 two_shuffle_i32x4
#define _mm512_slli_epi32 two_slli_epi32
#define _mm512_srli_epi32 two_srli_epi32
#define _mm512_storeu_ps two_storeu_ps
#define _mm512_storeu_si512 two_storeu_si512
#define _mm512_sub_ps two_sub_ps
#define _mm512_unpackhi_epi32 two_unpackhi_epi32
#define _mm512_unpackhi_epi64 two_unpackhi_epi64
#define _mm512_unpacklo_epi32 two_unpacklo_epi32
#define _mm512_unpacklo_epi64 two_unpacklo_epi64
