"""Requests as fast as they go while releases are promoted, rolled back, evicted and loaded again: is every answer right?

    python benchmarks/serve_soak.py [--requests 10000] [--moves 200] [--releases 8] [--in-flight 32] [--prompt 60] [--new 30]
        [--precision bfloat16]

On the built-in base `seedling`, with random adapters that are loud, in one process with a server on a loopback port. Requests
name the alias, a version or a digest; every answer names the release that made it, and its tokens are compared with what that
release gives alone: one request at a time, in a generator of its own, in the precision that is served. Where they differ, the
first token that differs is looked at: if the two best lay closer than rounding there, it is a tie, counted and shown. Each move
of the alias is timed until the server shows the new release. Memory for adapters does not hold all of them, so they are evicted
and loaded again all the while. Asserts nothing; exits with 1 if a request failed or an answer was wrong.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from peers.garden import loud_adapter, make_releases
from peers.load import exchange

if TYPE_CHECKING:
    from budwood.engine.lora import Adapter
    from budwood.store import ReleaseRow, Store

NAME = "soak"
TIES = {"float32": 1e-3, "bfloat16": 0.15}
"""How far apart two log-probabilities may lie for rounding to choose between them."""
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Soak:
    """How long and how hard; lengths in tokens."""

    requests: int = 10_000
    moves: int = 200
    releases: int = 8
    in_flight: int = 32
    prompt: int = 60
    new: int = 30
    precision: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class Answered:
    """One answer: the release that it names, and its tokens as text."""

    prompt: tuple[int, ...]
    release: str
    tokens: tuple[str, ...]


@dataclass
class Outcome:
    """What came of a soak: every answer is equal, a tie, wrong, or failed."""

    answers: list[Answered] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    flips_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    unloaded: int = 0
    demand_loads: int = 0

    def flip_s(self, share: float) -> float:
        ordered = sorted(self.flips_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def lines(self) -> list[str]:
        return [
            f"{len(self.answers):,} answers in {self.seconds:.0f} s, {len(self.failed)} failed, {len(self.wrong)} wrong, "
            f"{len(self.ties)} ties within rounding",
            f"{len(self.flips_s)} moves of the alias: seen after {1e3 * self.flip_s(0.5):.1f} ms (median), "
            f"{1e3 * self.flip_s(0.99):.1f} ms (p99), {1e3 * self.flip_s(1.0):.1f} ms (most)",
            f"{self.unloaded} releases unloaded, {self.demand_loads} loaded because a request named them",
            *(f"tie: {text}" for text in self.ties[:10]),
            *(f"WRONG: {text}" for text in self.wrong[:10]),
            *(f"FAILED: {text}" for text in self.failed[:10]),
        ]


def soak(settings: Soak, folder: Path) -> Outcome:
    """Make a store in `folder`, serve it, put everything on it at once, and judge every answer."""
    from budwood.engine.base import load_base, resolve_base
    from budwood.recipe import ServeSection
    from budwood.serve.run import Server
    from budwood.store import open_store

    outcome = Outcome()
    with open_store(folder / "store") as store:
        base = load_base(resolve_base("seedling"), dtype=_dtype(settings))
        adapters = [loud_adapter(base.model, number) for number in range(settings.releases)]
        rows = make_releases(store, base, [(NAME, adapter) for adapter in adapters], precision=settings.precision)
        store.move_alias(NAME, "production", rows[0].digest, who="soak", reason="start")
        room_mb = max(1, settings.releases * 2 * _file_bytes(store, rows[0]) * 3 // 4 >> 20)
        section = ServeSection(port=0, precision=settings.precision, poll_s=0.005, adapter_memory_mb=room_mb)
        with Server(store, section) as server:
            assert server.synced.wait(PATIENCE_S)
            began = time.perf_counter()
            asyncio.run(_run(settings, store, rows, server.url, outcome, base.identity.vocab))
            outcome.seconds = time.perf_counter() - began
            figures = httpx.get(f"{server.url}/metrics").text
    outcome.unloaded = _figure(figures, "budwood_releases_unloaded_total ")
    outcome.demand_loads = _figure(figures, 'budwood_demand_loads_total{result="loaded"} ')
    _judge(settings, adapters, rows, outcome)
    return outcome


async def _run(settings: Soak, store: "Store", rows: "Sequence[ReleaseRow]", url: str, outcome: Outcome, vocab: int) -> None:
    moving = asyncio.create_task(_move(settings, store, rows, url, outcome))
    draw, left = random.Random(0), iter(range(settings.requests))
    names = [NAME, *(f"{NAME}@{row.version}" for row in rows), *(f"{NAME}@{row.digest[:12]}" for row in rows)]
    # A third names the alias; versions and digests by Zipf's law.
    shares = [sum(1 / place for place in range(1, len(rows) + 1)), *([1 / place for place in range(1, len(rows) + 1)] * 2)]

    async def worker() -> None:
        for _ in left:
            prompt = tuple(draw.randrange(4, vocab) for _ in range(settings.prompt))
            await _ask(url, draw.choices(names, shares)[0], prompt, settings.new, outcome)

    await asyncio.gather(*(worker() for _ in range(settings.in_flight)))
    await moving


async def _ask(url: str, model: str, prompt: tuple[int, ...], new: int, outcome: Outcome) -> None:
    body = {"model": model, "prompt": list(prompt), "max_tokens": new, "temperature": 0, "logprobs": 0}
    try:
        status, reply = await exchange("POST", f"{url}/v1/completions", body)
    except (OSError, ValueError, IndexError) as error:
        outcome.failed.append(f"{model}: {type(error).__name__}: {error}")
        return
    if status == 200:
        tokens = tuple(reply["choices"][0]["logprobs"]["tokens"])
        outcome.answers.append(Answered(prompt, reply["system_fingerprint"], tokens))
    else:
        outcome.failed.append(f"{model}: {status} {reply}"[:300])


async def _move(settings: Soak, store: "Store", rows: "Sequence[ReleaseRow]", url: str, outcome: Outcome) -> None:
    """Promote a release that has just answered, then roll back, again and again, spread over the requests."""
    draw, at, before = random.Random(1), rows[0], rows[0]
    for number in range(settings.moves):
        back = number % 2 == 1
        to = before if back else draw.choice([row for row in rows if row.digest != at.digest])
        await _ask(url, f"{NAME}@{to.version}", (5, 6, 7), 1, Outcome())
        kind: Any = "rolled_back" if back else "promoted"
        moved = time.perf_counter()
        await asyncio.to_thread(
            store.move_alias, NAME, "production", to.digest, expect=at.digest, who="soak", reason="soak", kind=kind
        )
        moved_at = time.perf_counter()
        while await _shown(url) != to.digest:
            if time.perf_counter() - moved > PATIENCE_S:
                outcome.failed.append(f"the move to version {to.version} was never seen")
                return
        outcome.flips_s.append(time.perf_counter() - moved_at)
        before, at = at, to
        while len(outcome.answers) + len(outcome.failed) < settings.requests * (number + 1) // (settings.moves + 1):
            await asyncio.sleep(0.002)


async def _shown(url: str) -> str:
    """The release that the next request for the name gets."""
    _, reply = await exchange("GET", f"{url}/v1/models/{NAME}")
    return str(reply.get("release", ""))


def _judge(settings: Soak, adapters: "Sequence[Adapter]", rows: "Sequence[ReleaseRow]", outcome: Outcome) -> None:
    """Make every answer again, alone, and compare."""
    from budwood.engine.base import load_base, resolve_base
    from budwood.engine.generate import Generator, Request, generate
    from budwood.engine.lora import AdapterBank
    from budwood.serve.texts import Texts

    base = load_base(resolve_base("seedling"), dtype=_dtype(settings))
    bank = AdapterBank.attach(base.model)
    slots = {str(row.digest): bank.add(row.digest, adapter) for row, adapter in zip(rows, adapters, strict=True)}
    generator = Generator(base, bank, max_batch=1, prefix_bytes=0)
    texts = Texts(base.tokenizer, vocab=base.identity.vocab)
    for answered in outcome.answers:
        request = Request(answered.prompt, slots[answered.release], max_new_tokens=settings.new, logprobs=2)
        alone = generate(generator, [request])[0]
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
    sys.exit(1 if outcome.wrong or outcome.failed else 0)


if __name__ == "__main__":
    main()
