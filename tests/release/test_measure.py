"""Golden probes of real models: what they let pass, and every wrong model that they must stop."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from budwood.engine.base import BaseRef, load_base, resolve_base
from budwood.engine.generate import score
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, new_adapter, target_paths
from budwood.engine.probes import ProbeSet, replay
from budwood.errors import ReleaseError
from budwood.events import Event
from budwood.release.measure import make_probes, measure

PROMPTS = [list(range(start, start + 9)) for start in range(20, 500, 20)]


@pytest.fixture(scope="module")
def ref() -> BaseRef:
    return resolve_base("seedling")


def trained(ref: BaseRef, *, size: float = 0.05, seed: int = 0) -> Adapter:
    """An adapter that says something else than the base; `size` 0: one that never learned anything."""
    model = load_base(ref).model
    fresh = new_adapter(model, LoraConfig(rank=4, alpha=8, targets=target_paths(model, "all-linear")), seed=seed)
    draw = torch.Generator().manual_seed(seed)
    pairs = {path: replace(pair, b=torch.randn(pair.b.shape, generator=draw) * size) for path, pair in fresh.pairs.items()}
    return replace(fresh, pairs=pairs)


@pytest.fixture(scope="module")
def adapter(ref: BaseRef) -> Adapter:
    return trained(ref)


@pytest.fixture(scope="module")
def probes(ref: BaseRef, adapter: Adapter) -> ProbeSet:
    return make_probes(ref, PROMPTS, adapter=adapter, count=2, max_new_tokens=6, stop_ids=())


def result_of(
    ref: BaseRef, adapter: Adapter | None, probes: ProbeSet, *, dtype: torch.dtype = torch.float32, spoil: bool = False
) -> bool:
    """Load a server's model and replay."""
    base = load_base(ref, dtype=dtype)
    if spoil:
        with torch.no_grad():
            next(base.model.parameters()).mul_(1.05)
    bank = AdapterBank.attach(base.model)
    slot = -1 if adapter is None else bank.add("release", adapter)

    def again(prompt: Sequence[int], tokens: Sequence[int]) -> Sequence[float]:
        return score(base, bank, slot, prompt, tokens)

    return replay(probes, again, precision="float32" if dtype is torch.float32 else None).ok


def scaled(adapter: Adapter, factor: float) -> Adapter:
    pairs = {path: replace(pair, scaling=pair.scaling * factor) for path, pair in adapter.pairs.items()}
    return replace(adapter, pairs=pairs)


def test_the_release_itself_passes_in_both_precisions(ref: BaseRef, adapter: Adapter, probes: ProbeSet) -> None:
    assert set(probes.tolerances) == {"float32", "bfloat16"}
    assert set(probes.spreads) == {"bfloat16", "mixed batch", "merged"}
    assert result_of(ref, adapter, probes)
    assert result_of(ref, adapter, probes, dtype=torch.bfloat16)


def test_every_wrong_model_is_stopped(ref: BaseRef, adapter: Adapter, probes: ProbeSet) -> None:
    assert not result_of(ref, None, probes)
    assert not result_of(ref, scaled(adapter, 0.5), probes)
    assert not result_of(ref, scaled(adapter, 2.0), probes)
    assert not result_of(ref, trained(ref, seed=1), probes)
    assert not result_of(ref, adapter, probes, spoil=True)
    one_missing = dict(list(adapter.pairs.items())[1:])
    assert not result_of(ref, replace(adapter, pairs=one_missing), probes)


def test_distances_are_those_that_a_plain_loop_finds(ref: BaseRef, adapter: Adapter, probes: ProbeSet) -> None:
    base = load_base(ref)
    bank = AdapterBank.attach(base.model)
    half = bank.add("half", scaled(adapter, 0.5))
    for probe in probes.probes:
        for slot, distance in ((-1, probe.distance_to_base), (half, probe.distance_to_half)):
            other = score(base, bank, slot, probe.prompt_ids, probe.token_ids)
            assert distance == pytest.approx(max(abs(a - b) for a, b in zip(probe.logprobs, other, strict=True)), abs=1e-5)
            assert distance is not None
            assert distance >= 10 * probes.spread


def test_an_adapter_that_changes_nothing_is_refused(ref: BaseRef) -> None:
    with pytest.raises(ReleaseError, match="No golden probe tells this release from a wrong one"):
        make_probes(ref, PROMPTS[:1], adapter=trained(ref, size=0.0), count=1, max_new_tokens=3, stop_ids=())


def test_a_plain_base_gets_probes_without_distances(ref: BaseRef) -> None:
    events: list[Event] = []
    found = make_probes(ref, PROMPTS[:2], adapter=None, count=2, max_new_tokens=3, stop_ids=(), report=events.append)
    assert [probe.distance_to_base for probe in found.probes] == [None, None]
    assert result_of(ref, None, found)
    assert events[-1].message.startswith("2 golden probes, tolerance ")


def test_a_full_model_is_told_from_the_base_that_it_was_trained_from(ref: BaseRef, tmp_path: Path) -> None:
    base = load_base(ref)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    base.model.save_pretrained(tmp_path / "full")  # type: ignore[operator]  # transformers' models have it
    base.tokenizer.save_pretrained(tmp_path / "full")
    full = resolve_base(str(tmp_path / "full"))
    found = make_probes(full, PROMPTS[:2], adapter=None, original=ref, count=1, max_new_tokens=4, stop_ids=())
    assert found.probes[0].distance_to_base is not None
    assert found.probes[0].distance_to_half is None
    assert result_of(full, None, found)
    assert not result_of(ref, None, found)


def test_the_closing_stop_token_is_part_of_a_probe(ref: BaseRef, adapter: Adapter) -> None:
    open_end = measure(ref, PROMPTS[:1], adapter=adapter, original=None, quantization="none", max_new_tokens=6, stop_ids=())[0]
    stop = open_end.token_ids[2]
    closed = measure(ref, PROMPTS[:1], adapter=adapter, original=None, quantization="none", max_new_tokens=6, stop_ids=(stop,))[
        0
    ]
    assert closed.token_ids == open_end.token_ids[: open_end.token_ids.index(stop) + 1]


def test_a_quantised_base_is_measured_as_it_is_served(ref: BaseRef, adapter: Adapter) -> None:
    found = measure(ref, PROMPTS[:1], adapter=adapter, original=None, quantization="nf4", max_new_tokens=3, stop_ids=())[0]
    assert set(found.correct) == {"bfloat16", "mixed batch"}
    plain = measure(ref, PROMPTS[:1], adapter=adapter, original=None, quantization="none", max_new_tokens=3, stop_ids=())[0]
    assert found.logprobs != plain.logprobs
