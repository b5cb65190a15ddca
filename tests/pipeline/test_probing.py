"""Golden probes of a result: candidates that fit, measured once, kept whole."""

import os
from pathlib import Path
from typing import Any

import pytest

import budwood.pipeline.probing
from budwood.engine.probes import Probe, ProbeSet
from budwood.errors import ReleaseError
from budwood.evaluate.run import Subject
from budwood.identity import digest_bytes
from budwood.pipeline.probing import PROBE_CANDIDATES, probe_prompts, probes_of
from budwood.pipeline.subjects import Standing

from .conftest import Desk

PROBES = ProbeSet(0.01, 0.003, (Probe((1, 2), (3, 4), (-0.1, -0.2), 1.0, 0.5, 0.4),), {"bfloat16": 0.003})


def test_prompts_without_room_for_an_answer_are_passed_over(desk: Desk) -> None:
    """The context holds 10 tokens and a probe has up to 4."""
    snapshot = desk.snapshot(validation=[7, 6, 30, 2], train=[5])
    assert [len(prompt) for prompt in probe_prompts(desk.job, snapshot)] == [6, 2, 5]
    many = desk.snapshot(validation=[9] * 40 + [3] * 40)
    assert [len(prompt) for prompt in probe_prompts(desk.job, many)] == [3] * PROBE_CANDIDATES


@pytest.mark.parametrize(("lengths", "mend"), [([9, 8], "Lower it to 2 or less."), ([10], "Add rows with shorter prompts.")])
def test_where_no_prompt_leaves_room_it_is_said(desk: Desk, lengths: list[int], mend: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        probe_prompts(desk.job, desk.snapshot(validation=lengths))
    assert str(caught.value) == (
        f"No prompt leaves room for a golden probe: the shortest has {min(lengths)} tokens, a probe has up to 4 more, and the "
        f"base sees 10. In [release] probe_tokens.\n    {mend}"
    )


@pytest.fixture
def result(desk: Desk) -> Standing:
    ref: Any = None
    return Standing(Subject("adapter", digest_bytes(b"adapter"), "none", "float32"), ref, None)


def kept(desk: Desk) -> Path:
    (path,) = (desk.store.root / "work").glob("*/probes.json")
    return path


def test_probes_are_measured_once(desk: Desk, result: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[ProbeSet] = []

    def measure(*_: object) -> ProbeSet:
        measured.append(PROBES)
        return PROBES

    monkeypatch.setattr(budwood.pipeline.probing, "_measure", measure)
    snapshot = desk.snapshot(validation=[2])
    assert probes_of(desk.job, snapshot, result) == probes_of(desk.job, snapshot, result) == PROBES
    assert len(measured) == 1
    assert os.listdir(kept(desk).parent) == ["probes.json"]


@pytest.mark.parametrize("broken", ["", "{", '{"probes": [], "tolerance": 1, "spread": 1}'])
def test_broken_probes_are_measured_again_and_said(
    desk: Desk, result: Standing, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(budwood.pipeline.probing, "_measure", lambda *_: PROBES)
    snapshot = desk.snapshot(validation=[2])
    probes_of(desk.job, snapshot, result)
    kept(desk).write_text(broken)
    assert probes_of(desk.job, snapshot, result) == PROBES
    assert kept(desk).read_bytes() == PROBES.encode()
    (line,) = desk.said
    assert line.startswith("The golden probes")
    assert "They are measured again" in line


def test_probes_are_on_disk_before_they_are_there(desk: Desk, result: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not leave an empty file under the right name."""
    steps: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*arguments: Any, real: Any = real, name: str = name) -> Any:
            steps.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    def measure(*_: object) -> ProbeSet:
        steps.clear()
        return PROBES

    monkeypatch.setattr(budwood.pipeline.probing, "_measure", measure)
    probes_of(desk.job, desk.snapshot(validation=[2]), result)
    assert steps == ["fsync", "replace", "fsync"]
