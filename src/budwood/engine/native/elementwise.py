"""What stands between a decoder layer's products, in C: bfloat16 on a CPU, every operand read once, every result rounded once.

Each function fills buffers that it is given; nothing here is an autograd node. Held to float64 by tests/engine/native.
"""

from torch import Tensor

from budwood.engine.native.build import call


def rms_norm(x: Tensor, weight: Tensor, out: Tensor, rstd: Tensor, *, epsilon: float) -> None:
    """Fill `out` with x · rstd · weight, and `rstd`.

    Args:
        x: (T, heads, D) bfloat16; a token's heads lie side by side.
        weight: (D,) bfloat16.
        out: as x.
        rstd: (T, heads) float32.
        epsilon: added to the mean square.
    """
    tokens, heads, width = x.shape
    call("budwood_rms_norm", x, weight, out, rstd, tokens, heads, width, x.stride(0), out.stride(0), float(epsilon))


def rms_norm_back(
    x: Tensor,
    weight: Tensor,
    rstd: Tensor,
    grad: Tensor,
    dx: Tensor,
    *,
    rest: Tensor | None = None,
    again: Tensor | None = None,
) -> None:
    """Fill `dx` with `rest` + the gradient of x, and `again` with the norm's result, which need not have been kept.

    Args:
        x: (T, heads, D) bfloat16.
        weight: (D,) bfloat16.
        rstd: (T, heads) float32.
        grad: of the result, as x.
        dx: as x; may be `grad`.
        rest: laid out as dx: what came around the norm.
        again: laid out as dx.
    """
    tokens, heads, width = x.shape
    strides = [x.stride(0), grad.stride(0), dx.stride(0)]
    call("budwood_rms_norm_back", x, weight, rstd, grad, rest, dx, again, tokens, heads, width, *strides)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, *, back: bool = False) -> None:
    """Rotate every head in place; `back`: with the transposed matrix, which takes the gradient through.

    Args:
        x: (T, heads, D) bfloat16.
        cosine: (T, D) bfloat16, contiguous.
        sine: as cosine.
        back: backward.
    """
    tokens, heads, width = x.shape
    call("budwood_rotate", x, cosine, sine, tokens, heads, width, x.stride(0), int(back))


def gated_silu(both: Tensor, out: Tensor) -> None:
    """Fill `out` (T, F) with silu(gate) · up of `both` (T, 2 F): gate, then up. bfloat16, contiguous."""
    call("budwood_gated_silu", both, out, *out.shape)


def gated_silu_back(both: Tensor, grad: Tensor) -> None:
    """Put the gradient in the place of `both` (T, 2 F), and the result in that of `grad` (T, F), its gradient."""
    call("budwood_gated_silu_back", both, grad, *grad.shape)


def cross_entropy(logits: Tensor, targets: Tensor, loss: Tensor) -> None:
    """Put softmax - onehot in the place of `logits`, and each position's loss in nats into `loss`.

    Args:
        logits: (N, V) bfloat16, contiguous.
        targets: (N,) int64, inside the vocabulary.
        loss: (N,) float32.
    """
    call("budwood_cross_entropy", logits, targets, loss, *logits.shape)
