"""Several processes on one machine train together: started with torchrun, followed through what the first one says."""

import ctypes
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from budwood import errors
from budwood.errors import BudwoodError, TrainingError
from budwood.events import Event, Reporter
from budwood.identity import Digest

PR_SET_PDEATHSIG = 1


def train_together(task: Mapping[str, Any], *, processes: int, report: Reporter) -> Digest:
    """Start the processes and wait for the run.

    Args:
        task: what `worker` reads.
        processes: how many.
        report: gets the first one's events.

    Raises:
        BudwoodError: what the first process ran into.
        TrainingError: one of them died, and the others were ended; or there are fewer GPUs than processes.
    """
    if task["device"] == "cuda":
        _check_gpus(processes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task))
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, "-m", "budwood.train.worker", str(path)]
        said = Path(folder) / "said"
        with said.open("w") as errors_file:
            started = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors_file, text=True, preexec_fn=_end_with_the_one_that_started_it
            )
            run = _follow(started, report)
        if not run:
            raise TrainingError(
                f"One of {processes} processes ended with exit code {started.returncode}; the others were ended. "
                f"{_last(said.read_text())}",
                mend="Run the same command again: training goes on from its last checkpoint.",
            )
    return Digest(run)


def _check_gpus(processes: int) -> None:
    import torch

    there = torch.cuda.device_count()
    if there < processes:
        raise TrainingError(
            f"{processes} processes want a GPU each, and there {'is' if there == 1 else 'are'} {there}.",
            where="--processes",
            mend=f"Use --processes {there}." if there > 1 else "Leave --processes out.",
        )


def _follow(started: "subprocess.Popen[str]", report: Reporter) -> str:
    """Hand on the first process's events; give the run, or nothing."""
    run = ""
    fault: BudwoodError | None = None
    assert started.stdout is not None
    try:
        for line in started.stdout:
            message = _read(line)
            if "event" in message:
                report(Event(**message["event"]))
            elif "run" in message:
                run = message["run"]
            elif "error" in message:
                fault = _fault(message["error"])
        started.wait()
    finally:
        # Whatever ends this ends them: left alone they would train on, unseen.
        started.terminate()
        started.wait()
        started.stdout.close()
    if fault is not None:
        raise fault
    return run


def _end_with_the_one_that_started_it() -> None:
    """On Linux, also when that one is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _read(line: str) -> dict[str, Any]:
    """Libraries may print, too; only whole objects are ours."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _fault(told: Mapping[str, str]) -> BudwoodError:
    kind: type[BudwoodError] = getattr(errors, told["kind"], TrainingError)
    return kind(told["what"], where=told["where"], mend=told["mend"])


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and "Error" in line]
    return lines[-1][:300] if lines else ""
