"""Each row's loss in a shared pass is what transformers' own model gives it alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.tiny import CASES, VOCAB, Case, tiny_model

from budwood.engine import loss
from budwood.engine.attention import NAME, register_attention
from budwood.engine.lora import AdapterBank
from budwood.engine.packed import Encoded
from budwood.engine.row_losses import row_losses

FAMILIES = [case for case in CASES if case.name in ("llama", "gemma2", "gpt2", "mistral window", "phi3")]


def rows() -> list[Encoded]:
    draw = torch.Generator().manual_seed(0)
    found = []
    for length, first in ((5, 2), (17, 0), (30, 29), (9, 9), (1, 0)):
        ids = torch.randint(3, VOCAB, (length,), generator=draw).tolist()
        found.append(Encoded(tuple(ids), tuple(place >= first for place in range(length))))
    return found


def alone(model: Any, row: Encoded) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([row.ids])).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
    return float(losses[torch.tensor(row.supervised[1:], dtype=torch.bool)].double().sum())


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_a_row_has_the_loss_that_it_has_alone(case: Case) -> None:
    register_attention()
    wanted = [alone(tiny_model(case, "eager"), row) if len(row.ids) > 1 else 0.0 for row in rows()]
    assert row_losses(tiny_model(case, NAME), rows()) == pytest.approx(wanted, rel=1e-5)
    assert wanted[3] == 0.0 < wanted[1], "a row of which nothing is learnt adds nothing"


def test_pieces_of_positions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    register_attention()
    model = tiny_model(CASES[0], NAME)
    whole = row_losses(model, rows())
    monkeypatch.setattr(loss, "WORKSPACE", 3 * VOCAB)
    assert row_losses(model, rows()) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_losses_of_positions_add_up_to_the_loss_that_training_sees(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    hidden, head = (torch.randn(size, 16, generator=draw).to(dtype) for size in (23, 50))
    targets = torch.randint(50, (23,), generator=draw)
    rows = (torch.tensor([3, 8]), torch.randn(2, 16, generator=draw))
    for swapped in (None, rows):
        found = loss.position_losses(hidden, head, targets, rows=swapped, chunk=7)
        wanted = loss.supervised_loss(hidden, head, targets, rows=swapped, chunk=7)
        assert float(found.double().sum()) == pytest.approx(float(wanted), rel=1e-5)


def test_rows_of_which_nothing_is_learnt(tmp_path: Path) -> None:
    register_attention()
    assert row_losses(tiny_model(CASES[0], NAME), [Encoded((4, 5), (False, False))]) == [0.0]


def test_what_the_bank_has_in_use_counts() -> None:
    from budwood.engine.lora import LoraConfig, new_adapter, target_paths

    register_attention()
    model = tiny_model(CASES[0], NAME)
    plain = row_losses(model, rows())
    adapter = new_adapter(model, LoraConfig(rank=2, alpha=4, targets=target_paths(model, "all-linear")), seed=0)
    for pair in adapter.pairs.values():
        pair.b.fill_(0.1)
    bank = AdapterBank.attach(model)
    slot = bank.add("a", adapter)
    with bank.use(slot):
        changed = row_losses(model, rows())
    with bank.use(None):
        assert row_losses(model, rows()) == pytest.approx(plain, rel=1e-6)
    assert changed[:3] != pytest.approx(plain[:3], rel=1e-3)
