// One token's rows of numbers: RMS norm and rotation, as `elementwise.c` and `step.c` take them.

#pragma once
#include <math.h>

#include "lanes.h"

#define EACH(i, n) for (long i = 0; i < (n); i += 16)

// out (D) = x * rstd * w; gives rstd.
INLINE float norm_row(const bf16 *x, const bf16 *w, bf16 *out, long D, float eps) {
    __m512 sum = _mm512_setzero_ps();
    EACH(d, D) {
        __m512 v = load_some(x + d, lanes_left(D - d));
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    float r = 1.0f / sqrtf(_mm512_reduce_add_ps(sum) / (float)D + eps);
    __m512 rr = _mm512_set1_ps(r);
    EACH(d, D) {
        __mmask16 m = lanes_left(D - d);
        store_some(out + d, m, _mm512_mul_ps(_mm512_mul_ps(load_some(x + d, m), rr), load_some(w + d, m)));
    }
    return r;
}

// Rotate pairs (i, i + D/2) of `heads` heads of one token in place: cosine, sine (D). `back`: the transpose.
INLINE void rotate_heads(bf16 *x, const bf16 *cosine, const bf16 *sine, long heads, long D, long back) {
    long half = D / 2;
    EACH(i, half) {
        __mmask16 m = lanes_left(half - i);
        __m512 c0 = load_some(cosine + i, m), c1 = load_some(cosine + i + half, m);
        __m512 s0 = load_some(sine + i, m), s1 = load_some(sine + i + half, m);
        if (back) {
            __m512 swap = s0;
            s0 = _mm512_sub_ps(_mm512_setzero_ps(), s1);
            s1 = _mm512_sub_ps(_mm512_setzero_ps(), swap);
        }
        for (long h = 0; h < heads; h++) {
            bf16 *a = x + h * D + i, *b = a + half;
            __m512 x0 = load_some(a, m), x1 = load_some(b, m);
            store_some(a, m, _mm512_fnmadd_ps(x1, s0, _mm512_mul_ps(x0, c0)));
            store_some(b, m, _mm512_fmadd_ps(x0, s1, _mm512_mul_ps(x1, c1)));
        }
    }
}

INLINE __m512 sigmoid(__m512 x) { // through exp(-|x|), which cannot overflow
    __m512 e = exp512(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(x)));
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 top = _mm512_mask_mov_ps(one, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), e);
    return _mm512_div_ps(top, _mm512_add_ps(one, e));
}
