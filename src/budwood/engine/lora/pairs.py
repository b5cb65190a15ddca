"""Pairs at work beside a frozen product, forward and backward, without autograd: what every node that has pairs calls.

A pair may add to some rows (a run of tokens) and to some columns (one of several layers whose results lie side by side).
Pairs that read the same rows without dropout are put one below the other, so that their inner products are one. What the way
back needs is x Aᵀ, which is r / d_in of x and dearer to make again than to keep, and the factors in the compute dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from budwood.engine.native.products import multiplies, multiply, pair_gradient


@dataclass(frozen=True)
class RunPair:
    """The pair that a run of tokens uses in this layer.

    Args:
        start: first token.
        end: one past the last; None: to the end.
        a: (r, d_in).
        b: (d_out, r).
        scaling: of the pair.
        mask: dropout on the run's x: (n, d_in), True = kept. None: no dropout.
        keep: share that is kept, whose inverse scales what is left.
        columns: of the result that it adds to, where the results of several layers lie side by side.
    """

    start: int
    end: int | None
    a: Tensor
    b: Tensor
    scaling: float
    mask: Tensor | None = None
    keep: float = 1.0
    columns: slice = field(default_factory=lambda: slice(None))  # unhashable before Python 3.12


@dataclass(frozen=True)
class Bundle:
    """Pairs that read the same input, and what was made of it.

    Args:
        places: of the pairs in the list that they came in.
        pairs: of R ranks together.
        a: (R, d_in) in the compute dtype.
        bs: of each pair: (d_out, r) in the compute dtype.
        inner: (n, R), the input times aᵀ.
        b: (d_out, R): all bs times their scaling in one, zeros where a pair does not add; None where they are apart.
    """

    places: tuple[int, ...]
    pairs: tuple[RunPair, ...]
    a: Tensor
    bs: tuple[Tensor, ...]
    inner: Tensor
    b: Tensor | None = None

    @property
    def rows(self) -> slice:
        return slice(self.pairs[0].start, self.pairs[0].end)

    def split(self, joint: Tensor, dim: int) -> tuple[Tensor, ...]:
        """Cut what was made for all ranks together into each pair's."""
        return torch.split(joint, [pair.a.shape[0] for pair in self.pairs], dim)


def read_pairs(x: Tensor, pairs: Sequence[RunPair]) -> list[Bundle]:
    """Make every pair's inner product with x (T, d_in)."""
    bundles = []
    for places in _together(pairs):
        chosen = tuple(pairs[place] for place in places)
        a = torch.cat([pair.a for pair in chosen]).to(x.dtype)
        bs = tuple(pair.b.to(x.dtype) for pair in chosen)
        bundles.append(Bundle(places, chosen, a, bs, multiply(_input(x, chosen[0]), a)))
    return bundles


def join_pairs(x: Tensor, pairs: Sequence[RunPair], width: int) -> Bundle | None:
    """Lay pairs that all read all of x (T, d_in) into one for a result of `width` columns; its inner product is not made yet.

    None: there are no such pairs, or others beside them.
    """
    if not pairs or any(pair.start or pair.end is not None or pair.mask is not None for pair in pairs):
        return None
    a = torch.cat([pair.a for pair in pairs]).to(x.dtype)
    b = x.new_zeros(width, len(a))
    start = 0
    for pair in pairs:
        end = start + len(pair.a)
        b[pair.columns, start:end] = pair.b * pair.scaling
        start = end
    return Bundle(tuple(range(len(pairs))), tuple(pairs), a, (), x.new_empty(len(x), len(a)), b)


def add_pairs(y: Tensor, bundles: Sequence[Bundle]) -> None:
    """Add every pair's share to y (T, d_out) in place."""
    for bundle in bundles:
        for pair, b, inner in zip(bundle.pairs, bundle.bs, bundle.split(bundle.inner, 1), strict=True):
            y[pair.start : pair.end, pair.columns].addmm_(inner, b.T, alpha=pair.scaling)


def back_to_input(dx: Tensor | None, gradient: Tensor, bundles: Sequence[Bundle]) -> list[Tensor]:
    """Add the pairs' part of the input's gradient to dx (T, d_in) in place; give scaling · g B (n, R) of every bundle."""
    outer: list[Tensor] = []
    for bundle in bundles:
        g = gradient[bundle.rows]
        gb = torch.empty_like(bundle.inner)
        for pair, b, part in zip(bundle.pairs, bundle.bs, bundle.split(gb, 1), strict=True):
            torch.mm(g[:, pair.columns], b, out=part)
            part.mul_(pair.scaling)
        if dx is not None:
            _add_back(dx[bundle.rows], gb, bundle.a, bundle.pairs[0])
        outer.append(gb)
    return outer


def back_to_pairs(x: Tensor, gradient: Tensor, bundles: Sequence[Bundle], outer: Sequence[Tensor]) -> list[Tensor | None]:
    """Give the gradients of A and B of every pair in the order they came in, in their own dtype; None where none is wanted."""
    grads: list[Tensor | None] = [None] * (2 * sum(len(bundle.pairs) for bundle in bundles))
    for bundle, gb in zip(bundles, outer, strict=True):
        if bundle.b is not None and multiplies(x, gradient):
            _back_to_joint(x, gradient, bundle, gb, grads)
            continue
        if any(pair.a.requires_grad for pair in bundle.pairs):
            das = bundle.split(gb.T @ _input(x, bundle.pairs[0]), 0)
            for place, pair, da in zip(bundle.places, bundle.pairs, das, strict=True):
                grads[2 * place] = da.to(pair.a.dtype) if pair.a.requires_grad else None
        for place, pair, inner in zip(bundle.places, bundle.pairs, bundle.split(bundle.inner, 1), strict=True):
            if pair.b.requires_grad:
                # hᵀ g, not gᵀ h: up to 1.6 times as fast with a narrow h.
                db = inner.T @ gradient[bundle.rows, pair.columns]
                grads[2 * place + 1] = db.to(pair.b.dtype).mul_(pair.scaling).T.contiguous()
    return grads


def _back_to_joint(x: Tensor, gradient: Tensor, bundle: Bundle, gb: Tensor, grads: list[Tensor | None]) -> None:
    das, dbs = pair_gradient(gb, x), pair_gradient(bundle.inner, gradient, transposed=True)
    parts = zip(bundle.places, bundle.pairs, bundle.split(das, 0), bundle.split(dbs, 1), strict=True)
    for place, pair, da, db in parts:
        if pair.a.requires_grad:
            grads[2 * place] = da.to(pair.a.dtype)
        if pair.b.requires_grad:
            grads[2 * place + 1] = db[pair.columns].mul(pair.scaling).to(pair.b.dtype)


def _together(pairs: Sequence[RunPair]) -> list[tuple[int, ...]]:
    """Places of pairs that read the same rows and have no mask of their own."""
    shared: dict[tuple[int, int | None], list[int]] = {}
    alone: list[tuple[int, ...]] = []
    for place, pair in enumerate(pairs):
        if pair.mask is None:
            shared.setdefault((pair.start, pair.end), []).append(place)
        else:
            alone.append((place,))
    return [*map(tuple, shared.values()), *alone]


def _input(x: Tensor, pair: RunPair) -> Tensor:
    rows = x[pair.start : pair.end]
    return rows if pair.mask is None else (rows * pair.mask).mul_(1 / pair.keep)


def _add_back(dx: Tensor, gb: Tensor, a: Tensor, pair: RunPair) -> None:
    if pair.mask is None:
        dx.addmm_(gb, a)
    else:
        dx.add_((gb @ a).mul_(pair.mask).mul_(1 / pair.keep))
