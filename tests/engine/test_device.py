"""What a GPU is told before its first use: set once, and never over what the user has set."""

import os

import pytest
import torch

from budwood.engine.device import ALLOCATOR, OLD_ALLOCATOR, WORKSPACE, best_device, make_ready, repeats_itself


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (WORKSPACE, ALLOCATOR, OLD_ALLOCATOR):
        monkeypatch.setenv(name, "")  # so that what the test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr("sys.platform", "linux")


def test_a_cpu_is_told_nothing() -> None:
    make_ready("cpu")
    assert WORKSPACE not in os.environ
    assert ALLOCATOR not in os.environ
    assert not repeats_itself()


def test_a_gpu_is_told_to_repeat_itself_and_to_let_segments_grow() -> None:
    make_ready(torch.device("cuda", 1))
    assert os.environ[WORKSPACE] == ":4096:8"
    assert os.environ[ALLOCATOR] == "expandable_segments:True"
    assert repeats_itself()


@pytest.mark.parametrize("name", [ALLOCATOR, OLD_ALLOCATOR])
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    monkeypatch.setenv(name, "max_split_size_mb:64")
    make_ready("cuda")
    assert os.environ[WORKSPACE] == ":16:8"
    assert os.environ[name] == "max_split_size_mb:64"
    assert {ALLOCATOR, OLD_ALLOCATOR} & set(os.environ) == {name}


@pytest.mark.parametrize("there", [False, True])
def test_the_gpu_is_taken_where_there_is_one(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert best_device() == ("cuda" if there else "cpu")
    assert repeats_itself() == there
