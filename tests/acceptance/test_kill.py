"""`kill -9` at any moment of `budwood run`: nothing half-written is visible, and running again reaches the same adapter."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from acceptance_tools import Run, adapter_of, environment


@pytest.fixture(scope="module")
def uninterrupted(small_job: Path, budwood: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """Adapter of a run that nobody disturbed, and the seconds that the run took."""
    store = tmp_path_factory.mktemp("whole") / ".budwood"
    started = time.monotonic()
    assert budwood("run", "recipe.toml", "--store", store, cwd=small_job).returncode in (0, 1, 2)
    seconds = time.monotonic() - started
    return adapter_of(budwood, small_job, store), seconds


@pytest.mark.parametrize("share", [0.55, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.3, 0.85))])
def test_a_killed_run_reaches_the_same_adapter(
    small_job: Path, budwood: Run, uninterrupted: tuple[str, float], tmp_path: Path, share: float
) -> None:
    kill_and_run_again(small_job, budwood, uninterrupted, tmp_path, share=share)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_a_run_killed_at_random_reaches_the_same_adapter(
    small_job: Path, budwood: Run, uninterrupted: tuple[str, float], tmp_path: Path, moment: int
) -> None:
    kill_and_run_again(small_job, budwood, uninterrupted, tmp_path, share=random.Random(moment).uniform(0.02, 0.98))


def kill_and_run_again(folder: Path, budwood: Run, whole: tuple[str, float], tmp_path: Path, *, share: float) -> None:
    adapter, seconds = whole
    store = tmp_path / ".budwood"
    command = [sys.executable, "-m", "budwood", "run", "recipe.toml", "--store", str(store)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        process.wait(timeout=share * seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    verified = budwood("verify", "--store", store, cwd=folder)
    assert verified.returncode == 0, verified.stdout
    again = budwood("run", "recipe.toml", "--store", store, cwd=folder)
    assert again.returncode in (0, 1, 2), again.stderr
    assert adapter_of(budwood, folder, store) == adapter
    assert budwood("verify", "--store", store, cwd=folder).returncode == 0
