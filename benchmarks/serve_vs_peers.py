"""Serving against vLLM on a CPU and against transformers' generate with PEFT.

    python benchmarks/serve_vs_peers.py [--vllm VENV] [--shapes 135m 0.5b] [--in-flight 1 16 64] [--adapters 0 1 4 16]
        [--skew even zipf] [--sides ...] [--rounds 1] [--folder DIR] [--json FILE] [--page docs/performance.md]

Same base (random weights, bfloat16), same rank-16 adapters on all linear layers, same prompts of 100 tokens that are all
different, 64 new tokens, nothing ends an answer early; every server a process of its own, the sides in turn, each warmed up
with one round of requests. Reported: new tokens a second, seconds to the first token and for each later one (p50, p95) as a
client sees them, and the most memory that the server's processes had. `zipf`: the adapters' shares are 1, 1/2, 1/3 … instead
of equal. Asserts nothing. With `--json FILE` a later call goes on from what FILE holds, and tries again what failed.

`--vllm` names a virtual environment with vLLM (`make test-vllm` makes one); it is started once with as many adapters as are
asked for, and without LoRA for 0. `transformers serve` takes no adapter by request, so its side is `generate` behind a small
server (peers/with_peft.py); install PEFT with `pip install -e '.[bench]'`.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any, Literal, get_args

from peers.garden import make_garden
from peers.load import Served, send_all, summary
from peers.shapes import SHAPES
from peers.table import put_into_page

Side = Literal["budwood", "vllm", "transformers"]
PROMPT, NEW = 100, 64
START_S = 300.0
REQUESTS = {1: 4}
"""How many are timed at so many in flight; else three rounds."""


@dataclass(frozen=True)
class Trial:
    """One load on one side."""

    side: Side
    shape: str
    in_flight: int
    adapters: int
    skew: str
    round: int = 0


@dataclass(frozen=True)
class Cell:
    trial: Trial
    found: Served | None
    fault: str = ""

    def line(self) -> str:
        trial = self.trial
        what = f"{trial.shape}, {trial.in_flight} in flight, {trial.adapters} adapters {trial.skew}, {trial.side}"
        if self.found is None:
            return f"{what}: {self.fault}"
        first, each = self.found.first_s[1], self.found.per_token_s[1]
        return f"{what}: {self.found.tokens_per_s:.1f} tokens/s, p95 first {first:.2f} s, later {each * 1e3:.0f} ms"


def main() -> None:
    options = _options()
    if options.serve:
        _child(json.loads(options.serve))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
    cells = _kept(options.json)
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        for number, shape, adapters, side in product(range(options.rounds), options.shapes, options.adapters, options.sides):
            skews = options.skew if adapters > 1 else ["even"]
            trials = [Trial(side, shape, flight, adapters, skew, number) for skew in skews for flight in options.in_flight]
            trials = [trial for trial in trials if not any(cell.trial == trial and cell.found for cell in cells)]
            if not trials:
                continue
            garden = Path(folder) / f"{shape}-{max(16, *options.adapters)}"
            if not (garden / "store").exists():
                _in_child({"garden": shape, "adapters": max(options.adapters), "folder": str(garden)})
            for cell in _measure(trials, garden, options):
                cells = [*(other for other in cells if other.trial != cell.trial), cell]
                print(cell.line(), file=sys.stderr, flush=True)
                if options.json:
                    _keep(options.json, cells)
    page = markdown(cells)
    print(page)
    if options.page:
        put_into_page(options.page, page, mark="served")


def _measure(trials: list[Trial], garden: Path, options: argparse.Namespace) -> list[Cell]:
    """Start one side's server, put every load on it, end it."""
    try:
        server, url, model = _start(trials[0], garden, options)
    except RuntimeError as error:
        return [Cell(trial, None, str(error)) for trial in trials]
    cells = []
    try:
        for trial in trials:
            try:
                cells.append(Cell(trial, _load(trial, url, model, server.pid)))
            except (RuntimeError, OSError, IndexError) as error:
                cells.append(Cell(trial, None, f"{type(error).__name__}: {error}"[:300]))
    finally:
        _end(server)
    return cells


def _load(trial: Trial, url: str, base: str, pid: int) -> Served:
    count = REQUESTS.get(trial.in_flight, 3 * trial.in_flight)
    draw = random.Random(f"{trial}")
    names = _names(trial, base, trial.in_flight + count, draw)
    vocab = SHAPES[trial.shape].vocab
    ending = {"ignore_eos": True} if trial.side == "vllm" else {}
    bodies = [
        {
            "model": name,
            "prompt": [draw.randrange(4, vocab) for _ in range(PROMPT)],
            "max_tokens": NEW,
            "temperature": 0,
            **ending,
        }
        for name in names
    ]
    send_all(url, bodies[: trial.in_flight], trial.in_flight)
    timings, seconds = send_all(url, bodies[trial.in_flight :], trial.in_flight)
    return summary(timings, seconds, _peak_bytes(pid))


def _names(trial: Trial, base: str, count: int, draw: random.Random) -> list[str]:
    if not trial.adapters:
        return [base] * count
    names = [f"a{number}" for number in range(trial.adapters)]
    if trial.skew == "even":
        return [names[place % len(names)] for place in range(count)]
    return draw.choices(names, [1 / (place + 1) for place in range(len(names))], k=count)


def _start(trial: Trial, garden: Path, options: argparse.Namespace) -> tuple["subprocess.Popen[bytes]", str, str]:
    port = _free_port()
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    ready = f"http://127.0.0.1:{port}/{'ready' if trial.side == 'budwood' else 'health'}"
    if trial.side == "vllm":
        if options.vllm is None or not (options.vllm / "bin" / "python").exists():
            raise RuntimeError("no vLLM here: --vllm names no virtual environment")
        command = _vllm_command(options.vllm, garden, trial, port)
        environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": f"0-{options.threads - 1}"}
        environment.pop("PYTHONPATH", None)
    else:
        task = {
            "serve": trial.side,
            "adapters": trial.adapters,
            "folder": str(garden),
            "port": port,
            "batch": max(options.in_flight),
        }
        command = [sys.executable, __file__, "--serve", json.dumps(task)]
    log = tempfile.TemporaryFile()  # noqa: SIM115  # read if the server does not come up, gone with the process
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0)
    try:
        return _when_ready(server, ready, log), f"http://127.0.0.1:{port}/v1", "plain"
    except BaseException:
        _end(server)
        raise


def _when_ready(server: "subprocess.Popen[bytes]", ready: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(ready, timeout=5):
                return server
        except OSError:
            time.sleep(0.5)
    log.seek(0)
    last = (log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    raise RuntimeError(f"the server did not come up: {last[:200]}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _vllm_command(venv: Path, garden: Path, trial: Trial, port: int) -> list[str]:
    lora = []
    if trial.adapters:
        modules = [f"a{number}={garden / f'adapter-{number}'}" for number in range(trial.adapters)]
        lora = ["--enable-lora", "--max-loras", str(trial.adapters), "--max-lora-rank", "16", "--lora-modules", *modules]
    return [
        *(str(venv / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(garden / "base")),
        *("--served-model-name", "plain", "--dtype", "bfloat16", "--max-model-len", "1024", "--port", str(port)),
        *("--enforce-eager", "--host", "127.0.0.1", "--max-num-seqs", "64", *lora),
    ]


def _in_child(task: dict[str, Any]) -> None:
    subprocess.run([sys.executable, __file__, "--serve", json.dumps(task)], check=True)


def _child(task: dict[str, Any]) -> None:
    folder = Path(task["folder"])
    if "garden" in task:
        make_garden(task["garden"], task["adapters"], folder)
    elif task["serve"] == "transformers":
        from peers import with_peft

        with_peft.serve(folder, task["adapters"], task["port"], task["batch"])
    else:
        from budwood.recipe import ServeSection
        from budwood.serve.run import serve
        from budwood.store import open_store

        settings = ServeSection(port=task["port"], precision="bfloat16", max_batch=64)
        with open_store(folder / "store") as store:
            serve(store, settings)


def _peak_bytes(pid: int) -> int:
    """The most resident memory of a process group's processes, added up."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(status.parent.name)) != pid:
                continue
            lines = status.read_text().splitlines()
        except (OSError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def markdown(cells: list[Cell]) -> str:
    """Write one table a shape and number in flight: sides as rows, adapters as groups."""
    parts = []
    for shape, flight in sorted({(cell.trial.shape, cell.trial.in_flight) for cell in cells}):
        group = [cell for cell in cells if (cell.trial.shape, cell.trial.in_flight) == (shape, flight)]
        parts += [f"**{shape}, {flight} in flight**\n", *_table(group), ""]
    return "\n".join(parts)


def _table(cells: list[Cell]) -> list[str]:
    rows = [
        "| adapters | | tokens/s | first token, p50 / p95 s | later tokens, p50 / p95 ms | peak GB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    order = get_args(Side)
    faults = set()
    for cell in sorted(
        cells, key=lambda one: (one.trial.adapters, one.trial.skew, order.index(one.trial.side), one.trial.round)
    ):
        trial, found = cell.trial, cell.found
        if found is None:
            faults.add(f"* {trial.side}: {cell.fault}")
            continue
        first, each = found.first_s, [1e3 * value for value in found.per_token_s]
        rows.append(
            f"| {trial.adapters} {trial.skew if trial.adapters > 1 else ''} | {trial.side} | {found.tokens_per_s:,.0f} "
            f"| {first[0]:.2f} / {first[1]:.2f} | {each[0]:.0f} / {each[1]:.0f} | {found.peak_bytes / 1e9:.2f} |"
        )
    return [*rows, "", *sorted(faults)]


def _kept(path: Path | None) -> list[Cell]:
    if path is None or not path.exists():
        return []
    bodies = json.loads(path.read_text())["cells"]
    return [Cell(Trial(**body["trial"]), body["found"] and Served(**body["found"]), body["fault"]) for body in bodies]


def _keep(path: Path, cells: list[Cell]) -> None:
    path.write_text(json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, help="virtual environment that has vLLM")
    parser.add_argument("--shapes", nargs="+", default=["135m", "0.5b"], choices=list(SHAPES))
    parser.add_argument("--in-flight", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--adapters", nargs="+", type=int, default=[0, 1, 4, 16])
    parser.add_argument("--skew", nargs="+", default=["even", "zipf"], choices=["even", "zipf"])
    parser.add_argument("--sides", nargs="+", default=list(get_args(Side)), choices=get_args(Side))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="keep bases and adapters here for later calls")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
