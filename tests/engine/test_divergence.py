"""What two models are apart, against the formulas written out, and what a model said when it is gone."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from budwood.engine.divergence import PIECE, Logits, divergence, recorded

ROWS = [((3, 4, 5, 6), 2), (tuple(range(40)), 3 * PIECE + 1)]


def speaker(seed: int) -> Logits:
    """A model that says something of its own for each row."""

    def of(ids: Sequence[int], count: int) -> Tensor:
        generator = torch.Generator().manual_seed(100 * seed + len(ids))
        return torch.randn(len(ids), 11, generator=generator)[-count:] * 3

    return of


def test_the_figures_are_the_formulas() -> None:
    one, other = speaker(1), speaker(2)
    kls, apart, changed = [], [], 0
    for ids, count in ROWS:
        for wanted, found in zip(one(ids, count).double().tolist(), other(ids, count).double().tolist(), strict=True):
            p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (wanted, found))
            kls.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            shift = (sum(wanted) - sum(found)) / len(wanted)
            apart += [abs(a - b - shift) for a, b in zip(wanted, found, strict=True)]
            changed += wanted.index(max(wanted)) != found.index(max(found))
    said = divergence(one, other, ROWS)
    assert said.tokens == len(kls) == 3 * PIECE + 3
    assert said.mean_kl == pytest.approx(sum(kls) / len(kls), rel=1e-12)
    assert said.most_kl == pytest.approx(max(kls), rel=1e-12)
    assert said.most_logit == pytest.approx(max(apart), rel=1e-12)
    assert said.other_choice == changed / len(kls)


def test_what_was_said_is_there_when_the_model_is_gone(tmp_path: Path) -> None:
    kept = recorded(speaker(1), ROWS, tmp_path)
    assert all(torch.equal(kept(ids, count), speaker(1)(ids, count)) for ids, count in ROWS)
    assert divergence(kept, speaker(2), ROWS) == divergence(speaker(1), speaker(2), ROWS)
