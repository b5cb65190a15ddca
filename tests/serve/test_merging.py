"""A release as one model: both merges that people mean, each with its measured distance from what is served."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Nursery
from torch import nn
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.engine.base import LoadedBase, load_base, resolve_base
from budwood.errors import AdapterError, ReleaseError
from budwood.events import silent
from budwood.pipeline.merging import merge_release


def test_a_plain_base_has_one_merge_and_it_is_what_is_served(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    merged = merge_release(nursery.store, row.digest, tmp_path / "out", "original", report=silent)
    (found,) = merged.divergences.values()
    assert found.mean_kl < 1e-6
    assert (found.other_choice, found.tokens) == (0.0, 12)
    assert load_base(resolve_base(str(tmp_path / "out"))).identity.parameters == nursery.soil.base.identity.parameters
    with pytest.raises(ReleaseError, match="not quantised"):
        merge_release(nursery.store, row.digest, tmp_path / "more", "dequantized", report=silent)
    with pytest.raises(AdapterError, match="holds something already"):
        merge_release(nursery.store, row.digest, tmp_path / "out", "original", report=silent)


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_on_a_quantised_base_the_expanded_weights_are_what_the_adapter_knows(
    form: str, nursery: Nursery, tmp_path: Path
) -> None:
    row = nursery.release("support", 0, changes={"quantization": form})
    merged = merge_release(nursery.store, row.digest, tmp_path / "out", "dequantized", report=silent)
    onto = merged.divergences
    assert onto["dequantized"].mean_kl < 1e-5
    assert onto["original"].mean_kl > 20 * onto["dequantized"].mean_kl
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".budwood") == ["out"]


def test_one_model_is_in_memory_at_a_time(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = nursery.release("support", 0, changes={"quantization": "nf4"})
    models: list[weakref.ref[nn.Module]] = []

    def loaded(*given: Any, **named: Any) -> LoadedBase:
        gc.collect()
        assert [model() for model in models] == [None] * len(models)
        base = load_base(*given, **named)
        models.append(weakref.ref(base.model))
        return base

    monkeypatch.setattr("budwood.engine.base.load_base", loaded)
    merge_release(nursery.store, row.digest, tmp_path / "out", "original", report=silent)
    assert len(models) == 3


def test_nothing_is_left_when_it_cannot_be_measured(nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = nursery.release("support", 0)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("budwood.pipeline.merging.divergence", broken)
    with pytest.raises(AdapterError, match=r"No space left on device\. Its weights take"):
        merge_release(nursery.store, row.digest, tmp_path / "out", "original", report=silent)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".budwood"] == []


def test_there_is_nothing_to_merge_into_a_release_of_the_base_alone(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("plain", None)
    with pytest.raises(ReleaseError, match="nothing to merge"):
        merge_release(nursery.store, row.digest, tmp_path / "out", "original", report=silent)


def test_the_command_says_which_was_written_and_how_far_each_is(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0, changes={"quantization": "nf4"})
    nursery.promote(row)
    given = ["merge", "support@production", "--out", str(tmp_path / "out"), "--store", str(nursery.store.root)]
    said = CliRunner().invoke(build_app(), given)
    assert said.exit_code == 0, said.output
    assert "* original" in said.output
    assert "  dequantized" in said.output
    assert f"vllm serve {tmp_path / 'out'}" in said.output
    again = CliRunner().invoke(build_app(), [*given[:3], str(tmp_path / "two"), *given[4:], "--onto", "dequantized", "--json"])
    told = json.loads(again.stdout)
    assert (told["onto"], set(told["divergences"])) == ("dequantized", {"original", "dequantized"})
