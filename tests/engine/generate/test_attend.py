"""Attention of a step against a float64 loop over tokens, heads and positions."""

import math

import pytest
import torch
from torch import Tensor

from budwood.engine.generate import attend
from budwood.engine.generate.attend import Piece, StepAttention
from budwood.engine.generate.cache import SlotCache

HEADS, KV_HEADS, WIDTH = 4, 2, 8


class History:
    """What each slot's keys and values are, kept beside the cache in float64."""

    def __init__(self) -> None:
        self.keys: dict[int, list[Tensor]] = {}
        self.values: dict[int, list[Tensor]] = {}

    def expected(
        self, q: Tensor, k: Tensor, v: Tensor, pieces: list[Piece], scaling: float, softcap: float | None, window: int | None
    ) -> Tensor:
        out = torch.zeros(q.shape, dtype=torch.float64)
        for piece in pieces:
            for token in range(piece.start, piece.start + piece.count):
                keys = self.keys.setdefault(piece.slot, [])
                values = self.values.setdefault(piece.slot, [])
                keys.append(k[token].double())
                values.append(v[token].double())
                for head in range(HEADS):
                    shared = head // (HEADS // KV_HEADS)
                    seen = range(max(0, len(keys) - window) if window else 0, len(keys))
                    scores = [float(q[token, head].double() @ keys[j][shared]) * scaling for j in seen]
                    if softcap:
                        scores = [softcap * math.tanh(score / softcap) for score in scores]
                    weights = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
                    out[token, head] = sum(w * values[j][shared] for w, j in zip(weights, seen, strict=True))
        return out


def step(cache: SlotCache, history: History, sizes: list[tuple[int, int]], past: dict[int, int], **options: object) -> None:
    """One step of two layers with `sizes` = (slot, tokens), compared with the loop."""
    pieces, start = [], 0
    for slot, count in sizes:
        pieces.append(Piece(start, count, slot, past.get(slot, 0)))
        past[slot] = past.get(slot, 0) + count
        start += count
    attention = StepAttention(cache, pieces, torch.device("cpu"))
    q, k, v = (torch.randn(start, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS))
    expected = history.expected(q, k, v, pieces, 0.3, options.get("softcap"), options.get("window"))  # type: ignore[arg-type]
    found = attention.attend(0, q, k, v, scaling=0.3, **options)  # type: ignore[arg-type]
    # float32 sums of at most 40 terms of order 1.
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("row_cost", [0, 10_000])
def test_steps_equal_a_loop_over_tokens(
    monkeypatch: pytest.MonkeyPatch, softcap: float | None, window: int | None, row_cost: int
) -> None:
    # row_cost 0: every decoding row but the shortest goes alone; 10,000: all in one padded product.
    monkeypatch.setattr(attend, "ROW_COST", row_cost)
    torch.manual_seed(0)
    cache, history = SlotCache(max_rows=8, max_columns=64, budget=512), History()
    past: dict[int, int] = {}
    assert cache.reserve(4, 40)
    for sizes in (
        [(0, 5), (1, 1)],
        [(0, 1), (1, 1), (2, 9)],
        [(2, 4), (0, 1), (3, 2)],
        [(3, 1), (2, 1), (1, 1), (0, 1)],
        [(1, 1), (3, 1)],
        [(0, 7), (1, 6), (2, 1), (3, 1)],
    ):
        step(cache, history, sizes, past, softcap=softcap, window=window)


def test_a_cleared_slot_hands_no_nan_to_its_next_owner() -> None:
    torch.manual_seed(0)
    cache = SlotCache(max_rows=4, max_columns=64, budget=256)
    assert cache.reserve(2, 16)
    broken = torch.full((12, KV_HEADS, WIDTH), float("nan"))
    q = torch.randn(12, HEADS, WIDTH)
    StepAttention(cache, [Piece(0, 12, 0, 0)], torch.device("cpu")).attend(0, q, broken, broken, scaling=1.0)
    cache.clear(0, 12)
    history, past = History(), {1: 0}
    for sizes in ([(0, 2), (1, 9)], [(0, 1), (1, 1)], [(0, 1), (1, 1)]):
        step(cache, history, sizes, past)
