"""Requests as fast as they go while releases are promoted, rolled back, evicted and loaded again: is every answer right?

    python benchmarks/serve_soak.py [--requests 10000] [--moves 200] [--releases 8] [--room 6] [--in-flight 32] [--prompts 64]
        [--prompt 60] [--new 30] [--precision bfloat16] [--threads 1]

On the built-in base `seedling`, with random adapters that are loud; the server has a process of its own on a loopback port.
Requests name the alias, a version or a digest; every answer names the release that made it, and its tokens are compared with
what that release gives alone: one request at a time, in a generator of its own, in the precision that is served. Where they
differ, the first token that differs is looked at: if the two best lay closer than rounding there, it is a tie, counted and
shown. Prompts are drawn from some dozens, so that this comparison ends: it makes each answer once for each prompt and release.
Memory for adapters holds `--room` of them, so that the others are evicted and loaded again all the while.

Moves are promotions and rollbacks by turns, by the functions behind `budwood promote --wait` and `budwood rollback`: the server
is asked to have a release ready before it is promoted. A thread of the load's process times each move until a look at
`/v1/models/NAME` shows the new release: from the moment at which it is asked for (so that a load and its golden probes count),
and from the return of the function that moves the alias, when the move is committed. From the moment at which it is seen until
the next move is asked for, every answer to the alias has to be of that release; one that is not counts as stale, and as a
failure. Asserts nothing; exits with 1 if a request failed, an answer was wrong or one was stale.
"""

import argparse
import asyncio
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import httpx

from peers.garden import loud_adapter, make_releases
from peers.load import exchange
from peers.served import served

if TYPE_CHECKING:
    from budwood.engine.lora import Adapter
    from budwood.store import ReleaseRow, Store

NAME = "soak"
TIES = {"float32": 1e-3, "bfloat16": 0.15}
"""How far apart two log-probabilities may lie for rounding to choose between them."""
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Soak:
    """How long and how hard; lengths in tokens. `room`: adapters that the server's memory holds; `threads`: of its process."""

    requests: int = 10_000
    moves: int = 200
    releases: int = 8
    room: int = 6
    in_flight: int = 32
    prompts: int = 64
    prompt: int = 60
    new: int = 30
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    threads: int = 1


@dataclass(frozen=True)
class Answered:
    """One answer: what was asked and when, the release that it names, and its tokens as text."""

    model: str
    began: float
    prompt: tuple[int, ...]
    release: str
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """One move: its moments by `time.perf_counter`."""

    to: str
    called: float
    committed: float
    visible: float


@dataclass
class Outcome:
    """What came of a soak: every answer is equal, a tie, wrong, or failed."""

    answers: list[Answered] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    seconds: float = 0.0
    unloaded: int = 0
    demand_loads: int = 0

    @property
    def stale(self) -> list[Answered]:
        """Answers to the alias by another release than the one that had become visible before they were asked for."""
        ends = [after.called for _, after in pairwise(self.moves)] + [float("inf")]
        spans = [(move.visible, end, move.to) for move, end in zip(self.moves, ends, strict=True)]
        asked = [answer for answer in self.answers if answer.model == NAME]
        return [one for one in asked if any(a <= one.began < b and one.release != to for a, b, to in spans)]

    def lines(self) -> list[str]:
        since_commit = [move.visible - move.committed for move in self.moves]
        since_call = [move.visible - move.called for move in self.moves]
        return [
            f"{len(self.answers):,} answers in {self.seconds:.0f} s, {len(self.failed)} failed, {len(self.wrong)} wrong, "
            f"{len(self.stale)} stale, {len(self.ties)} ties within rounding",
            f"{len(self.moves)} moves of the alias, visible after the commit: {marks(since_commit)}; after the asking: "
            f"{marks(since_call)}",
            f"{self.unloaded} releases unloaded, {self.demand_loads} loaded because a request named them",
            *(f"tie: {text}" for text in self.ties[:10]),
            *(f"WRONG: {text}" for text in self.wrong[:10]),
            *(f"FAILED: {text}" for text in self.failed[:10]),
        ]


def marks(seconds: Sequence[float]) -> str:
    """Median, p99 and the longest, in words."""
    ordered = sorted(seconds) or [0.0]
    found = [1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99, 1.0)]
    return "{:.1f} ms (median), {:.1f} ms (p99), {:.1f} ms (most)".format(*found)


def soak(settings: Soak, folder: Path) -> Outcome:
    """Make a store in `folder`, serve it, put everything on it at once, and judge every answer."""
    from budwood.engine.base import load_base, resolve_base
    from budwood.recipe import ServeSection
    from budwood.store import open_store

    outcome = Outcome()
    with open_store(folder / "store") as store:
        base = load_base(resolve_base("seedling"), dtype=_dtype(settings))
        adapters = [loud_adapter(base.model, number) for number in range(settings.releases)]
        rows = make_releases(store, base, [(NAME, adapter) for adapter in adapters], precision=settings.precision)
        store.move_alias(NAME, "production", rows[0].digest, who="soak", reason="start")
        # In float32 an adapter takes its file's size, in another precision a copy in that beside it.
        copies = 1 if settings.precision == "float32" else 2
        room_mb = -(-settings.room * copies * _file_bytes(store, rows[0]) >> 20)
        section = ServeSection(port=0, precision=settings.precision, adapter_memory_mb=room_mb, on_demand="any")
        with served(folder / "store", section, threads=settings.threads) as server:
            began = time.perf_counter()
            asyncio.run(_run(settings, store, rows, server.url, outcome, base.identity.vocab))
            outcome.seconds = time.perf_counter() - began
            figures = httpx.get(f"{server.url}/metrics").text
    outcome.unloaded = _figure(figures, "budwood_releases_unloaded_total ")
    outcome.demand_loads = _figure(figures, 'budwood_demand_loads_total{result="loaded"} ')
    _judge(settings, adapters, rows, outcome)
    return outcome


async def _run(settings: Soak, store: "Store", rows: "Sequence[ReleaseRow]", url: str, outcome: Outcome, vocab: int) -> None:
    mover = threading.Thread(target=_move, args=(settings, store, rows, url, outcome))
    mover.start()
    draw, left = random.Random(0), iter(range(settings.requests))
    prompts = [tuple(draw.randrange(4, vocab) for _ in range(settings.prompt)) for _ in range(settings.prompts)]
    names = [NAME, *(f"{NAME}@{row.version}" for row in rows), *(f"{NAME}@{row.digest[:12]}" for row in rows)]
    # A third names the alias; versions and digests by Zipf's law.
    shares = [sum(1 / place for place in range(1, len(rows) + 1)), *([1 / place for place in range(1, len(rows) + 1)] * 2)]

    async def worker() -> None:
        for _ in left:
            await _ask(url, draw.choices(names, shares)[0], draw.choice(prompts), settings.new, outcome)

    async def tell() -> None:
        while True:
            await asyncio.sleep(10)
            done = f"{len(outcome.answers):,} answers, {len(outcome.moves)} moves, {len(outcome.failed)} failed"
            print(done, file=sys.stderr, flush=True)

    telling = asyncio.create_task(tell())
    await asyncio.gather(*(worker() for _ in range(settings.in_flight)))
    telling.cancel()
    await asyncio.to_thread(mover.join)


async def _ask(url: str, model: str, prompt: tuple[int, ...], new: int, outcome: Outcome) -> None:
    body = {"model": model, "prompt": list(prompt), "max_tokens": new, "temperature": 0, "logprobs": 0}
    began = time.perf_counter()
    try:
        status, reply = await exchange("POST", f"{url}/v1/completions", body)
    except (OSError, ValueError, IndexError) as error:
        outcome.failed.append(f"{model}: {type(error).__name__}: {error}")
        return
    if status == 200:
        tokens = tuple(reply["choices"][0]["logprobs"]["tokens"])
        outcome.answers.append(Answered(model, began, prompt, reply["system_fingerprint"], tokens))
    else:
        outcome.failed.append(f"{model}: {status} {reply}"[:300])


def _move(settings: Soak, store: "Store", rows: "Sequence[ReleaseRow]", url: str, outcome: Outcome) -> None:
    """Promote any other release, then roll back, again and again, spread over the requests."""
    from budwood.errors import BudwoodError
    from budwood.release.promote import promote, rollback, warm_up

    draw, at, before = random.Random(1), rows[0], rows[0]
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    for number in range(settings.moves):
        back = number % 2 == 1
        to = before if back else draw.choice([row for row in rows if row.digest != at.digest])
        called = time.perf_counter()
        try:
            if back:
                rollback(store, NAME, who="soak", reason="soak")
            else:
                warm_up(store, to, wait_s=PATIENCE_S)
                promote(store, f"{NAME}@{to.version}", who="soak", reason="soak", override="no gate here")
        except BudwoodError as error:
            outcome.failed.append(f"move {number} to version {to.version}: {error}")
            return
        committed = time.perf_counter()
        while (seen := time.perf_counter()) < committed + PATIENCE_S and _shown(connection) != to.digest:
            time.sleep(0.001)
        if seen >= committed + PATIENCE_S:
            outcome.failed.append(f"the move to version {to.version} was never seen")
            return
        outcome.moves.append(Move(to.digest, called, committed, time.perf_counter()))
        if not back:
            store.warmups.end(NAME, to.digest)
        before, at = at, to
        while len(outcome.answers) + len(outcome.failed) < settings.requests * (number + 1) // (settings.moves + 1):
            time.sleep(0.002)


def _shown(connection: http.client.HTTPConnection) -> str:
    """The release that the next request for the name gets."""
    connection.request("GET", f"/v1/models/{NAME}")
    return str(json.loads(connection.getresponse().read()).get("release", ""))


def _judge(settings: Soak, adapters: "Sequence[Adapter]", rows: "Sequence[ReleaseRow]", outcome: Outcome) -> None:
    """Make each answer again, alone, once for each prompt and release, and compare."""
    from budwood.engine.base import load_base, resolve_base
    from budwood.engine.generate import Answer, Generator, Request, generate
    from budwood.engine.lora import AdapterBank
    from budwood.serve.texts import Texts

    base = load_base(resolve_base("seedling"), dtype=_dtype(settings))
    bank = AdapterBank.attach(base.model)
    slots = {str(row.digest): bank.add(row.digest, adapter) for row, adapter in zip(rows, adapters, strict=True)}
    generator = Generator(base, bank, max_batch=1, prefix_bytes=0)
    texts = Texts(base.tokenizer, vocab=base.identity.vocab)
    known: dict[tuple[str, tuple[int, ...]], Answer] = {}
    for answered in outcome.answers:
        key = (answered.release, answered.prompt)
        if key not in known:
            request = Request(answered.prompt, slots[answered.release], max_new_tokens=settings.new, logprobs=2)
            known[key] = generate(generator, [request])[0]
        alone = known[key]
        wanted = tuple(map(texts.token_text, alone.tokens))
        if wanted == answered.tokens:
            continue
        place = next((at for at, pair in enumerate(zip(wanted, answered.tokens, strict=False)) if pair[0] != pair[1]), -1)
        gap = alone.top[place][0][1] - alone.top[place][1][1]
        text = f"release {answered.release[:12]}, token {place}: the two best are {gap:.2g} apart"
        (outcome.ties if place >= 0 and gap <= TIES[settings.precision] else outcome.wrong).append(text)
    texts.close()


def _dtype(settings: Soak) -> Any:
    import torch

    return getattr(torch, settings.precision)


def _file_bytes(store: "Store", row: "ReleaseRow") -> int:
    result = str(store.manifest(row.digest).body["result"]["digest"])
    return sum(file.size for file in store.manifest(result).files)


def _figure(text: str, name: str) -> int:
    line = next((line for line in text.splitlines() if line.startswith(name)), "0 0")
    return int(float(line.rpartition(" ")[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in fields(Soak):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(Soak(**vars(parser.parse_args())), Path(folder))
    print("\n".join(outcome.lines()))
    sys.exit(1 if outcome.wrong or outcome.failed or outcome.stale else 0)


if __name__ == "__main__":
    main()
