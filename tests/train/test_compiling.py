"""[train] compile: when layers are compiled, and what a compiler that fails becomes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from budwood.engine.base import BaseRef
from budwood.errors import TrainingError
from budwood.events import Event
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.store import Store
from budwood.train.compiling import compiler_faults, compiles
from budwood.train.ranks import Ranks
from budwood.train.run import train
from budwood.train.settings import TrainSettings
from budwood.train.together import train_together

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FAULT = "CppCompileError: C++ compile error"


@pytest.mark.parametrize(
    ("setting", "device", "expected"),
    [("auto", CPU, False), ("auto", GPU, True), ("on", CPU, True), ("off", GPU, False), ("on", GPU, True), ("off", CPU, False)],
)
def test_auto_compiles_on_a_gpu_alone(setting: Any, device: torch.device, expected: bool) -> None:
    assert compiles(setting, device) == expected


def test_the_setting_is_no_part_of_what_the_result_depends_on(settings: TrainSettings) -> None:
    bodies = [replace(settings, compile=setting).as_body() for setting in ("auto", "on", "off")]
    assert bodies[0] == bodies[1] == bodies[2]
    assert "compile" not in bodies[0]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that fails on trial, on a device that would compile."""
    monkeypatch.setattr("budwood.train.trainable.complaint", lambda work: FAULT)


Train = Callable[..., Digest]


@pytest.fixture
def trained(recipe: Recipe, store: Store, snapshot: Digest, base_ref: BaseRef, settings: TrainSettings) -> Train:
    def run(report: Callable[[Event], None], **change: Any) -> Digest:
        chosen = replace(settings, epochs=0.2, **change)
        return train(recipe, store, snapshot, base_ref, settings=chosen, report=report, threads=1)

    return run


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_where_it_was_left_to_us_training_goes_on_without_and_says_so(
    trained: Train, store: Store, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budwood.train.run.compiles", lambda setting, device: True)
    said: list[str] = []
    run = trained(lambda event: said.append(event.message), method=method)
    assert f"Layers are not compiled, which is slower: {FAULT}" in said
    noted = store.attestations(run)[-1]
    assert noted["uncompiled"] == FAULT
    assert noted["way"] == "torch"


@pytest.mark.usefixtures("failing")
def test_where_it_was_asked_for_training_is_refused(trained: Train) -> None:
    with pytest.raises(TrainingError) as caught:
        trained(lambda event: None, compile="on")
    assert str(caught.value) == (
        "The layers cannot be compiled here: CppCompileError: C++ compile error. In [train] compile.\n"
        '    Mend or install the compiler, or set compile = "auto": it goes on without.'
    )


def test_by_default_nothing_is_compiled_on_a_cpu(trained: Train, store: Store) -> None:
    run = trained(lambda event: None)
    assert store.attestations(run)[-1]["uncompiled"] is None
    assert store.attestations(run)[-1]["way"] == "torch"


def test_a_compiler_that_fails_in_the_middle_is_a_sentence() -> None:
    from torch._dynamo.exc import InternalTorchDynamoError

    said = r"failed in the middle of training: InternalTorchDynamoError: no more disk\."
    with pytest.raises(TrainingError, match=said), compiler_faults():
        raise InternalTorchDynamoError("no more disk\nand a long tale")
    with pytest.raises(KeyError), compiler_faults():
        raise KeyError("another's fault")


def test_each_process_of_several_has_a_gpu_of_its_own() -> None:
    assert [Ranks(rank, 2).place("cuda") for rank in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert Ranks().place("cuda") == torch.device("cuda")
    assert Ranks(1, 2).place("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("there", "mend"), [(1, "Leave --processes out."), (2, "Use --processes 2.")])
def test_more_processes_than_gpus_are_refused_before_any_is_started(
    there: int, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(TrainingError, match=f"3 processes want a GPU each, and there (is|are) {there}") as caught:
        train_together({"device": "cuda"}, processes=3, report=lambda event: None)
    assert caught.value.mend == mend
