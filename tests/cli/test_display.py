"""Events become lines that a log can hold."""

import pytest

from budwood.cli.display import display, figures
from budwood.events import Event


def test_lines_are_spaced_in_time_and_the_last_is_always_there(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 1.0, 3.0, 3.5])
    with display(quiet_s=2.0, clock=lambda: next(seconds)) as report:
        for done in (1, 2, 3, 4):
            report(Event("train", "Training", done, 4, "steps", {"loss": 1.5}))
    assert capsys.readouterr().err.splitlines() == [
        "train     Training 1/4 steps · loss 1.5",
        "train     Training 3/4 steps · loss 1.5",
        "train     Training 4/4 steps · loss 1.5",
    ]


def test_messages_are_never_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    with display(clock=lambda: 0.0) as report:
        report(Event("plan", "One"))
        report(Event("plan", "Two"))
    assert capsys.readouterr().err == "plan      One\nplan      Two\n"


def test_figures_read_like_a_person_writes_them() -> None:
    event = Event("train", "", fields={"loss": 1.31234, "tokens/s": 2800.4, "left": "2 min"})
    assert figures(event) == "loss 1.312 · 2,800 tokens/s · left 2 min"
