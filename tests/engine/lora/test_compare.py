"""How far two adapters are apart, module by module, held against deltas that are multiplied out."""

from pathlib import Path

import pytest
import torch

from budwood.engine.lora import Adapter, LoraConfig, Pair, save_adapter
from budwood.engine.lora.compare import adapter_distances


def _adapter(seed: int, rank: int, paths: tuple[str, ...]) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        path: Pair(torch.randn(rank, 12, generator=generator), torch.randn(9, rank, generator=generator), 16.0 / rank)
        for path in paths
    }
    return Adapter(LoraConfig(rank, 16.0, targets=paths), pairs)


def test_norms_are_those_of_the_deltas(tmp_path: Path) -> None:
    one, other = _adapter(1, 4, ("m.0.q", "m.1.q")), _adapter(2, 3, ("m.0.q", "m.2.q"))
    save_adapter(one, tmp_path / "one", base_id="b", revision=None)
    save_adapter(other, tmp_path / "other", base_id="b", revision=None)
    found = {module.path: module for module in adapter_distances(tmp_path / "one", tmp_path / "other")}
    both = found["m.0.q"]
    deltas = one.pairs["m.0.q"].delta(), other.pairs["m.0.q"].delta()
    assert both.before == pytest.approx(float(deltas[0].norm()), rel=1e-5)
    assert both.after == pytest.approx(float(deltas[1].norm()), rel=1e-5)
    assert both.difference == pytest.approx(float((deltas[0] - deltas[1]).norm()), rel=1e-5)
    assert (found["m.1.q"].after, found["m.2.q"].before) == (0.0, 0.0)
    assert found["m.2.q"].difference == pytest.approx(float(other.pairs["m.2.q"].delta().norm()), rel=1e-5)


def test_the_same_delta_in_other_factors_is_no_difference(tmp_path: Path) -> None:
    one = _adapter(1, 4, ("m.0.q",))
    pair = one.pairs["m.0.q"]
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    other = Adapter(one.config, {"m.0.q": Pair(turn @ pair.a, pair.b @ turn.T, pair.scaling)})
    save_adapter(one, tmp_path / "one", base_id="b", revision=None)
    save_adapter(other, tmp_path / "other", base_id="b", revision=None)
    (module,) = adapter_distances(tmp_path / "one", tmp_path / "other")
    assert module.difference < 1e-5 * module.before
