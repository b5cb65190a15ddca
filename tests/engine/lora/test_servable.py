"""What vLLM would refuse is known before training; what can be made plain LoRA is, and what that loses is measured."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from budwood.engine.lora import Adapter, LoraConfig, Pair
from budwood.engine.lora.plain_form import plain_form
from budwood.engine.servable import AdapterForm, Backend, servable

VLLM = Backend("vllm", 16)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (AdapterForm(8, dora=True), "DoRA"),
        (AdapterForm(8, token_rows=True), "rows of tokens"),
        (AdapterForm(32), "rank 32, vLLM takes 16"),
        (AdapterForm(8, quantization="int8"), "8 bits"),
    ],
)
def test_what_vllm_refuses_is_named(form: AdapterForm, words: str) -> None:
    (problem,) = servable(form, VLLM)
    assert problem.refused
    assert words in problem.what
    assert servable(form, Backend("embedded")) == []


def test_what_only_some_servers_do_wrong_is_told() -> None:
    problems = servable(AdapterForm(16, patterns=True, quantization="nf4"), VLLM)
    assert [problem.refused for problem in problems] == [False, False]
    assert servable(AdapterForm(16), VLLM) == []


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(12, 10, bias=False)


def _adapter(rank: int, scaling: float) -> Adapter:
    generator = torch.Generator().manual_seed(rank)
    pair = Pair(torch.randn(rank, 12, generator=generator), torch.randn(10, rank, generator=generator), scaling)
    return Adapter(LoraConfig(rank, 16.0, targets=("q",)), {"q": pair})


@pytest.fixture
def model() -> _Model:
    torch.manual_seed(0)
    return _Model()


@pytest.mark.parametrize(("rank", "wanted"), [(2, 8), (4, 4)])
def test_with_rank_enough_nothing_is_lost(model: _Model, rank: int, wanted: int) -> None:
    adapter = _adapter(rank, 0.7)
    plain, lost = plain_form(model, adapter, wanted)
    torch.testing.assert_close(plain.pairs["q"].delta(), adapter.pairs["q"].delta(), rtol=1e-5, atol=1e-6)
    assert lost == {"q": 0.0}
    assert (plain.config.rank, plain.config.scaling, plain.pairs["q"].a.shape[0]) == (wanted, 1.0, wanted)


def test_what_is_cut_is_the_smallest_and_is_measured(model: _Model) -> None:
    adapter = _adapter(8, 0.7)
    plain, lost = plain_form(model, adapter, 3)
    delta = adapter.pairs["q"].delta()
    u, values, v = torch.linalg.svd(delta)
    best = u[:, :3] * values[:3] @ v[:3]
    torch.testing.assert_close(plain.pairs["q"].delta(), best, rtol=1e-4, atol=1e-5)
    assert lost["q"] == pytest.approx(float((delta - best).norm() / delta.norm()), rel=1e-4)


def test_doras_change_is_the_whole_weights(model: _Model) -> None:
    adapter = _adapter(2, 0.7)
    pair = replace(adapter.pairs["q"], magnitude=torch.rand(10) + 0.5)
    plain, lost = plain_form(model, Adapter(replace(adapter.config, dora=True), {"q": pair}), 10)
    weight = model.q.weight.detach()
    whole = weight + pair.delta()
    assert pair.magnitude is not None
    wanted = whole * (pair.magnitude / whole.norm(dim=1))[:, None]
    torch.testing.assert_close(weight + plain.pairs["q"].delta(), wanted, rtol=1e-4, atol=1e-5)
    assert lost["q"] < 1e-6
    assert not plain.config.dora
