"""A thousand releases registered, few of them in memory: how fast does a cold one answer, and does memory stay in its bounds?

    python benchmarks/serve_many.py [--releases 1000] [--room 32] [--requests 1000] [--in-flight 4] [--cold 100] [--names 10]
        [--precision float32] [--threads 1]

On the built-in base `seedling`, with random adapters under some names, one alias for each name; the server has a process of its
own. Cold: releases that were not asked for yet, one request of one token after the other on an otherwise idle server, from the
request to the whole answer: files hashed, adapter read, golden probes replayed. Then requests by version, Zipf over all
releases, so many in flight; each says whether the server had to load for it only by how long it took. Resident memory of the
server is shown before, between and after, beside what it says that its adapters take and what it may take. Also: seconds from
start to following the catalog, of `/v1/models`, and of two looks at the store by the command line. Asserts nothing; exits with
1 if a request failed.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from peers.garden import loud_adapter, make_releases
from peers.load import exchange
from peers.served import Served, served

if TYPE_CHECKING:
    from budwood.engine.base import LoadedBase
    from budwood.store import ReleaseRow, Store

KINDS = 8
"""Adapters that differ by more than one number."""


@dataclass(frozen=True)
class Crowd:
    """How many of what. `room`: adapters that the server's memory holds; `cold`: first requests to releases, one by one."""

    releases: int = 1_000
    room: int = 32
    requests: int = 1_000
    in_flight: int = 4
    cold: int = 100
    names: int = 10
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1


@dataclass
class Found:
    """Seconds of answers, and what failed."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.seconds) or [0.0]
        marks = [1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99, 1.0)]
        words = "{:.0f} ms (median), {:.0f} ms (p99), {:.0f} ms (most)".format(*marks)
        return f"{len(self.seconds):,} answers after {words}; {len(self.failed)} failed"


def crowd(settings: Crowd, folder: Path) -> bool:
    """Make the store, serve it, ask, and print what is found; False: something failed."""
    import torch

    from budwood.engine.base import load_base, resolve_base
    from budwood.recipe import ServeSection
    from budwood.store import open_store

    with open_store(folder / "store") as store:
        base = load_base(resolve_base("seedling"), dtype=getattr(torch, settings.precision))
        rows = _register(settings, store, base)
        for row in rows[: settings.names]:
            store.move_alias(row.name, "production", row.digest, who="crowd", reason="start")
        copies = 1 if settings.precision == "float32" else 2
        room_mb = -(-settings.room * copies * _file_bytes(store, rows[0]) >> 20)
        section = ServeSection(port=0, precision=settings.precision, adapter_memory_mb=room_mb, on_demand="any")
        with served(folder / "store", section, threads=settings.threads) as server:
            print(
                f"{len(rows):,} releases of {settings.names} names; the server follows after {server.start_s:.1f} s", flush=True
            )
            _show_memory(server, "at the start", room_mb)
            before = server.processor_s
            cold = asyncio.run(_ask_cold(settings, server.url, rows))
            used = (server.processor_s - before) / max(1, settings.cold)
            print(f"cold, one at a time: {cold}; {1e3 * used:.0f} ms of processor time each", flush=True)
            _show_memory(server, "after them", room_mb)
            mixed = [asyncio.run(_ask_zipf(settings, server, rows, part)) for part in range(4)]
            for part in mixed:
                print(f"Zipf, {settings.in_flight} in flight: {part}", flush=True)
            _show_memory(server, "at the end", room_mb)
            began = time.perf_counter()
            listed = len(httpx.get(f"{server.url}/v1/models").json()["data"])
            print(f"/v1/models: {listed} names in {1e3 * (time.perf_counter() - began):.0f} ms")
            for words in (["status"], ["history", rows[0].name]):
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "budwood", *words, "--store", str(folder / "store")], check=True, capture_output=True
                )
                print(f"budwood {' '.join(words)}: {time.perf_counter() - began:.1f} s")
    failed = [text for found in (cold, *mixed) for text in found.failed]
    print(*(f"FAILED: {text}" for text in failed[:10]), sep="\n")
    return not failed


def _register(settings: Crowd, store: "Store", base: "LoadedBase") -> "list[ReleaseRow]":
    """Register the same few adapters again and again with one number changed, so that each has a digest of its own."""
    made = [loud_adapter(base.model, number, rank=4, loudness=0.2) for number in range(KINDS)]
    named = []
    for number in range(settings.releases):
        adapter = made[number % KINDS]
        path, pair = next(iter(adapter.pairs.items()))
        b = pair.b.clone()
        b[0, 0] += 1e-4 * (1 + number // KINDS)
        pairs = {**adapter.pairs, path: replace(pair, b=b)}
        named.append((f"tenant{number % settings.names}", replace(adapter, pairs=pairs)))
    return make_releases(store, base, named, precision=settings.precision, new_tokens=16, kinds=KINDS)


async def _ask_cold(settings: Crowd, url: str, rows: "Sequence[ReleaseRow]") -> Found:
    found = Found()
    for row in rows[-settings.cold :]:
        await _ask(url, row, 1, found)
    return found


async def _ask_zipf(settings: Crowd, server: Served, rows: "Sequence[ReleaseRow]", part: int) -> Found:
    found, draw, left = Found(), random.Random(part), iter(range(settings.requests // 4))
    shares = [1 / place for place in range(1, len(rows) + 1)]

    async def worker() -> None:
        for _ in left:
            await _ask(server.url, draw.choices(rows, shares)[0], 8, found)

    await asyncio.gather(*(worker() for _ in range(settings.in_flight)))
    return found


async def _ask(url: str, row: "ReleaseRow", new: int, found: Found) -> None:
    model = f"{row.name}@{row.version}"
    body: dict[str, Any] = {"model": model, "prompt": [5, 6, 7, 8], "max_tokens": new, "temperature": 0}
    began = time.perf_counter()
    status, reply = await exchange("POST", f"{url}/v1/completions", body)
    if status == 200 and reply["system_fingerprint"] == row.digest:
        found.seconds.append(time.perf_counter() - began)
    else:
        found.failed.append(f"{model}: {status} {reply}"[:300])


def _show_memory(server: Served, when: str, room_mb: int) -> None:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    adapters = next(float(line.split()[1]) for line in lines if line.startswith("budwood_adapter_bytes "))
    resident = server.resident_bytes / (1 << 20)
    print(f"memory {when}: {resident:,.0f} MiB resident, adapters {adapters / (1 << 20):,.0f} of {room_mb} MiB", flush=True)


def _file_bytes(store: "Store", row: "ReleaseRow") -> int:
    result = str(store.manifest(row.digest).body["result"]["digest"])
    return sum(file.size for file in store.manifest(result).files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in fields(Crowd):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=type(one.default), default=one.default)
    with tempfile.TemporaryDirectory() as folder:
        whole = crowd(Crowd(**vars(parser.parse_args())), Path(folder))
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
