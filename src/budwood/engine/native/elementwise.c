// What stands between a decoder layer's products, in bfloat16 with float32 inside, forward and backward: RMS norm, rotation of
// queries and keys, the gated SiLU, and softmax cross-entropy over a piece of the logits. Each reads its operands once and
// rounds once. A token belongs to one thread, so the same input gives the same bytes with any number of threads. Every function gives 0.

#include "rows.h"

// Rows of D numbers: `heads` of them a token, one behind the other; sx, so: numbers from one token to the next.
// out = x * rstd * w, rstd (T, heads) kept for the way back.
int budwood_rms_norm(const bf16 *x, const bf16 *w, bf16 *out, float *rstd, long T, long heads, long D, long sx, long so,
                      float eps) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < T; t++)
        for (long h = 0; h < heads; h++)
            rstd[t * heads + h] = norm_row(x + t * sx + h * D, w, out + t * so + h * D, D, eps);
    return 0;
}

// From g, the gradient of the norm's result: dx = rest + rstd * (w g - n mean(w g n)), with n = x * rstd; rest may be null, and
// dx may be g. Writes w n again where `again` is given: the result itself was not kept.
int budwood_rms_norm_back(const bf16 *x, const bf16 *w, const float *rstd, const bf16 *g, const bf16 *rest, bf16 *dx,
                           bf16 *again, long T, long heads, long D, long sx, long sg, long sdx) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < T; t++)
        for (long h = 0; h < heads; h++) {
            const bf16 *row = x + t * sx + h * D, *slope = g + t * sg + h * D;
            long at = t * sdx + h * D;
            __m512 rr = _mm512_set1_ps(rstd[t * heads + h]), dot = _mm512_setzero_ps();
            EACH(d, D) {
                __mmask16 m = lanes_left(D - d);
                __m512 wg = _mm512_mul_ps(load_some(w + d, m), load_some(slope + d, m));
                dot = _mm512_fmadd_ps(wg, load_some(row + d, m), dot);
            }
            __m512 mean = _mm512_mul_ps(rr, _mm512_set1_ps(_mm512_reduce_add_ps(dot) / (float)D));
            EACH(d, D) {
                __mmask16 m = lanes_left(D - d);
                __m512 n = _mm512_mul_ps(load_some(row + d, m), rr), weight = load_some(w + d, m);
                __m512 wg = _mm512_mul_ps(weight, load_some(slope + d, m));
                __m512 v = _mm512_mul_ps(rr, _mm512_fnmadd_ps(n, mean, wg));
                if (rest) v = _mm512_add_ps(v, load_some(rest + at + d, m));
                if (again) store_some(again + at + d, m, _mm512_mul_ps(n, weight));
                store_some(dx + at + d, m, v);
            }
        }
    return 0;
}

// Rotate pairs (i, i + D/2) of every head in place: D even; cos and sin (T, D). `back`: the transpose.
int budwood_rotate(bf16 *x, const bf16 *cosine, const bf16 *sine, long T, long heads, long D, long sx, long back) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < T; t++) rotate_heads(x + t * sx, cosine + t * D, sine + t * D, heads, D, back);
    return 0;
}

// both (T, 2 F): gate, then up. out (T, F) = silu(gate) * up.
int budwood_gated_silu(const bf16 *both, bf16 *out, long T, long F) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < T; t++)
        EACH(f, F) {
            __mmask16 m = lanes_left(F - f);
            const bf16 *gate = both + t * 2 * F + f;
            __m512 a = load_some(gate, m), b = load_some(gate + F, m);
            store_some(out + t * F + f, m, _mm512_mul_ps(_mm512_mul_ps(a, sigmoid(a)), b));
        }
    return 0;
}

// g (T, F): gradient of the result, replaced by the result itself; both (T, 2 F): replaced by its gradient.
int budwood_gated_silu_back(bf16 *both, bf16 *g, long T, long F) {
#pragma omp parallel for schedule(static)
    for (long t = 0; t < T; t++)
        EACH(f, F) {
            __mmask16 m = lanes_left(F - f);
            bf16 *gate = both + t * 2 * F + f;
            __m512 a = load_some(gate, m), b = load_some(gate + F, m), slope = load_some(g + t * F + f, m);
            __m512 s = sigmoid(a), silu = _mm512_mul_ps(a, s);
            // d silu / da = s (1 + a (1 - s)) = s + silu (1 - s)
            __m512 bend = _mm512_fmadd_ps(silu, _mm512_sub_ps(_mm512_set1_ps(1.0f), s), s);
            store_some(gate, m, _mm512_mul_ps(_mm512_mul_ps(slope, b), bend));
            store_some(gate + F, m, _mm512_mul_ps(slope, silu));
            store_some(g + t * F + f, m, _mm512_mul_ps(silu, b));
        }
    return 0;
}

// logits (N, V), replaced by the gradient softmax - onehot; loss (N): -log softmax at the target, in nats.
int budwood_cross_entropy(bf16 *logits, const int64_t *targets, float *loss, long N, long V) {
#pragma omp parallel for schedule(static)
    for (long n = 0; n < N; n++) {
        bf16 *row = logits + n * V;
        __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
        EACH(v, V) {
            __mmask16 m = lanes_left(V - v);
            top = _mm512_mask_max_ps(top, m, top, load_some(row + v, m));
        }
        __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(top));
        EACH(v, V) {
            __mmask16 m = lanes_left(V - v);
            sum = _mm512_mask_add_ps(sum, m, sum, exp512(_mm512_sub_ps(load_some(row + v, m), most)));
        }
        float norm = _mm512_cvtss_f32(most) + logf(_mm512_reduce_add_ps(sum));
        union { uint32_t bits; float value; } wanted = {(uint32_t)row[targets[n]] << 16};
        loss[n] = norm - wanted.value;
        __m512 all = _mm512_set1_ps(norm);
        EACH(v, V) {
            __mmask16 m = lanes_left(V - v);
            store_some(row + v, m, exp512(_mm512_sub_ps(load_some(row + v, m), all)));
        }
        __m512 right = _mm512_set1_ps(expf(wanted.value - norm) - 1.0f);
        store_some(row + targets[n], 1, right);
    }
    return 0;
}
