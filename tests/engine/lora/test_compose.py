"""Compositions mean what they say, and what peft means by the same names."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, load_adapter, save_adapter, target_paths
from budwood.engine.lora.compose import Settings, compose
from budwood.errors import AdapterError

ModelOf = Callable[[str], nn.Module]
AdapterOf = Callable[..., Adapter]
WEIGHTS = (0.7, -0.4)
IDS = torch.arange(3, 20)[None]


@pytest.fixture
def two(model_of: ModelOf, adapter_of: AdapterOf) -> list[Adapter]:
    model = model_of("llama")
    targets = target_paths(model, "all-linear")
    return [adapter_of(model, LoraConfig(4, alpha, targets=targets), seed=seed) for seed, alpha in ((1, 8), (2, 6))]


def deltas(adapter: Adapter) -> dict[str, Tensor]:
    return {path: pair.b.double() @ pair.a.double() * pair.scaling for path, pair in adapter.pairs.items()}


def wanted_sum(adapters: list[Adapter]) -> dict[str, Tensor]:
    every = [deltas(adapter) for adapter in adapters]
    paths = sorted({path for one in every for path in one})
    return {
        path: sum((w * one[path] for w, one in zip(WEIGHTS, every, strict=True) if path in one), torch.tensor(0.0))
        for path in paths
    }


def test_concatenation_is_the_weighted_sum_and_has_a_file(two: list[Adapter], model_of: ModelOf, tmp_path: Path) -> None:
    made = compose(two, Settings("concatenate", WEIGHTS)).adapter
    for path, wanted in wanted_sum(two).items():
        torch.testing.assert_close(deltas(made)[path], wanted, rtol=1e-6, atol=1e-6)
    assert (made.config.rank, made.config.scaling) == (8, 1.0)
    save_adapter(made, tmp_path, base_id="org/base", revision=None)
    model = model_of("llama")
    again = load_adapter(tmp_path, model)
    bank = AdapterBank.attach(model)
    slots = [bank.add("made", made), bank.add("again", again)]
    with torch.no_grad():
        rows = []
        for slot in slots:
            with bank.use(slot):
                rows.append(model(IDS).logits)
    assert torch.equal(rows[0], rows[1])


def test_svd_of_the_full_rank_loses_nothing_and_a_smaller_one_the_least(two: list[Adapter]) -> None:
    whole = compose(two, Settings("svd", WEIGHTS, rank=8))
    assert max(whole.lost.values()) < 1e-9
    cut = compose(two, Settings("svd", WEIGHTS, rank=3))
    for path, wanted in wanted_sum(two).items():
        torch.testing.assert_close(deltas(whole.adapter)[path], wanted, rtol=1e-5, atol=1e-6)
        values = torch.linalg.svdvals(wanted)
        best = float((values[3:].square().sum() / values.square().sum()).sqrt())
        assert cut.lost[path] == pytest.approx(best, rel=1e-6)
        missed = float((deltas(cut.adapter)[path] - wanted).norm() / wanted.norm())
        assert missed == pytest.approx(best, rel=1e-4)


def test_a_module_that_one_adapter_leaves_alone_counts_as_unchanged(two: list[Adapter]) -> None:
    path = next(iter(two[1].pairs))
    fewer = replace(two[1], pairs={name: pair for name, pair in two[1].pairs.items() if name != path})
    made = compose([two[0], fewer], Settings("concatenate", WEIGHTS)).adapter
    torch.testing.assert_close(deltas(made)[path], WEIGHTS[0] * deltas(two[0])[path], rtol=1e-6, atol=1e-6)
    assert {pair.a.shape[0] for pair in made.pairs.values()} == {8}


def test_dare_keeps_the_expected_delta_and_depends_on_the_seed_alone(two: list[Adapter]) -> None:
    def made(seed: int) -> dict[str, Tensor]:
        return deltas(compose(two, Settings("dare", WEIGHTS, rank=32, density=0.5, seed=seed)).adapter)

    path = next(iter(two[0].pairs))
    mean = sum((made(seed)[path] for seed in range(200)), torch.tensor(0.0)) / 200
    wanted = wanted_sum(two)[path]
    assert float((mean - wanted).norm() / wanted.norm()) < 0.2
    assert torch.equal(made(3)[path], made(3)[path])
    assert not torch.equal(made(3)[path], made(4)[path])


def test_one_adapter_alone_comes_out_as_itself(two: list[Adapter]) -> None:
    for method in ("linear", "concatenate", "svd"):
        made = compose(two[:1], Settings(method, (1.0,))).adapter
        for path, wanted in deltas(two[0]).items():
            torch.testing.assert_close(deltas(made)[path], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("concatenate", "cat"), ("svd", "svd"), ("ties", "ties_svd")]
)
def test_the_same_names_mean_the_same_in_peft(
    ours: str, theirs: str, two: list[Adapter], model_of: ModelOf, tmp_path: Path
) -> None:
    peft: Any = pytest.importorskip("peft", reason="the second witness")
    for name, adapter in zip("ab", two, strict=True):
        save_adapter(adapter, tmp_path / name, base_id="org/base", revision=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(model_of("llama"), tmp_path / "a", adapter_name="a")
        model.load_adapter(tmp_path / "b", adapter_name="b")
        more: dict[str, float] = {"svd_rank": 4} if theirs.endswith("svd") else {}
        more |= {"density": 0.4} if theirs == "ties_svd" else {}
        model.add_weighted_adapter(["a", "b"], list(WEIGHTS), "made", combination_type=theirs, **more)
    made = compose(two, Settings(ours, WEIGHTS, density=0.4)).adapter  # type: ignore[arg-type]
    for path, ours_delta in deltas(made).items():
        layer = model.get_submodule(f"base_model.model.{path}")
        wanted = layer.get_delta_weight("made").double()
        assert float((ours_delta - wanted).norm() / wanted.norm()) < 2e-5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Settings("svd", (1.0,)), "2 adapters have 1 weights"),
        (Settings("svd", (1.0, 0.0)), "is zero or not finite"),
        (Settings("svd", (1.0, float("nan"))), "is zero or not finite"),
        (Settings("ties", WEIGHTS, density=0.0), "density is 0.0, outside 0 to 1"),
        (Settings("svd", WEIGHTS, rank=-1), "rank is -1"),
    ],
)
def test_what_cannot_be_composed_is_refused(two: list[Adapter], settings: Settings, text: str) -> None:
    with pytest.raises(AdapterError, match=text):
        compose(two, settings)


def test_adapters_of_other_bases_and_other_ranks_are_refused(
    two: list[Adapter], adapter_of: AdapterOf, model_of: ModelOf
) -> None:
    model = model_of("llama")
    other = adapter_of(model, LoraConfig(2, 4, targets=target_paths(model, "all-linear")), seed=3)
    with pytest.raises(AdapterError, match="which linear cannot average"):
        compose([two[0], other], Settings("linear", WEIGHTS))
    path = next(iter(two[1].pairs))
    pair = two[1].pairs[path]
    odd = replace(two[1], pairs={**two[1].pairs, path: replace(pair, a=pair.a[:, :-1])})
    with pytest.raises(AdapterError, match=r"is a layer of \(32, 32\) in one adapter and of \(32, 31\) in another"):
        compose([two[0], odd], Settings("svd", WEIGHTS))
    with pytest.raises(AdapterError, match="nothing to compose"):
        compose([], Settings("svd", ()))
