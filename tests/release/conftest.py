"""A store with everything that a release is made of, made up but whole."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from budwood.engine.probes import Probe, ProbeSet
from budwood.identity import Digest, digest_bytes
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.release.make import Decoding, Parts, ResultRef, make_release
from budwood.release.report import Case, Report
from budwood.release.verdict import Decision, Verdict
from budwood.store import Kind, Store, open_store

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
PROBES = ProbeSet(0.01, 0.003, (Probe((1, 2), (3, 4), (-0.1, -0.2), 1.0, 0.5, 0.4),), {"bfloat16": 0.003})


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, 14, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests fsync a lot, and a busy disk would make them slow."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with open_store(tmp_path / ".budwood", clock=clock) as opened:
        yield opened


def put(store: Store, kind: Kind, files: Mapping[str, str] | None = None, **parts: Any) -> Digest:
    with store.draft(kind) as draft:
        for name, text in (files or {}).items():
            (draft.folder / name).write_text(text)
        return draft.commit(**parts)


def case(case_id: str, *, exact: float | None = 1.0, **values: Any) -> Case:
    given: dict[str, Any] = {"group": case_id, "style": False, "policy": False, "schema_ok": None} | values
    return Case(case_id, scores={"exact": exact}, **given)


def report_of(cases: Sequence[Case], *, name: str = "candidate", **values: Any) -> Report:
    """A report in memory; its digest is that of its name."""
    given: dict[str, Any] = {
        "suite": "d11c" * 16,
        "scorers": {"exact": 1},
        "decoding": {"temperature": 0.0, "max_new_tokens": 16},
        "subject": digest_bytes(f"subject of {name}".encode()),
        "latency": {"seconds_per_token_median": 0.01},
    }
    return Report(digest=digest_bytes(name.encode()), cases={item.case_id: item for item in cases}, **(given | values))


def verdict_of(report: Digest, decision: Decision = "PROMOTE", *, champion_subject: Digest | None = None) -> Verdict:
    return Verdict(
        verdict=decision,
        reasons=("quality against the baseline: superior.",),
        checks=(),
        policy_digest=digest_bytes(b"policy"),
        candidate=report,
        baseline=digest_bytes(b"baseline"),
        champion=digest_bytes(b"champion") if champion_subject else None,
        champion_subject=champion_subject,
        suite="d11c" * 16,
        seed=0,
    )


@dataclass
class Made:
    digest: Digest
    version: int
    base: Digest
    adapter: Digest
    snapshot: Digest
    run: Digest
    report: Digest


Releaser = Callable[..., Made]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return recipe_from_mapping({"name": "support", "source": [{"path": "rows.jsonl"}]}, folder=tmp_path)


IDENTITY: dict[str, Any] = {
    "id": "seedling",
    "revision": None,
    "weights_digest": digest_bytes(b"weights"),
    "tokenizer_digest": digest_bytes(b"tokenizer"),
    "template_digest": digest_bytes(b"template"),
}


def row(number: int) -> str:
    value = {
        "row_id": digest_bytes(str(number).encode()),
        "messages": [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": "answer"}],
        "source": {"file": "rows.jsonl", "sha256": digest_bytes(b"rows"), "line": number + 1},
        "group": str(number),
        "split": "train",
        "slices": {},
        "weight": 1.0,
        "touched": [{"rule": "whitespace", "kind": "changed", "reason": "trimmed"}],
    }
    return json.dumps(value) + "\n"


@pytest.fixture
def release(store: Store, recipe: Recipe) -> Releaser:
    """Make release number n: its adapter, run and report are its own; base and snapshot are shared."""

    def make(number: int = 1, decision: Decision | None = "PROMOTE", *, champion: Made | None = None, **changes: Any) -> Made:
        base = put(store, "base", body=dict(IDENTITY))
        files = {"train.jsonl": row(0) + row(1), "validation.jsonl": row(2), "test.jsonl": row(3)}
        snapshot = put(store, "snapshot", files, body={"name": "support", "counts": {"read": 5, "kept": 4}})
        adapter = put(store, "adapter", {"a.safetensors": str(number)}, parents=[base], body={"rank": 8})
        run = put(store, "run", parents=[snapshot, base, adapter], body={"method": "lora", "steps": 40})
        report = put(store, "report", parents=[snapshot, adapter], body={"suite": "d11c" * 16})
        verdict = verdict_of(report, decision, champion_subject=champion.adapter if champion else None) if decision else None
        parts: dict[str, Any] = {
            "base_identity": IDENTITY,
            "base_object": base,
            "result": ResultRef("adapter", adapter),
            "run": run,
            "snapshot": snapshot,
            "report": report,
            "verdict": verdict,
            "quantization": "none",
            "precision": "float32",
            "template_source": TEMPLATE,
            "system": "",
            "decoding": Decoding(0.0, 64, (2,)),
            "probes": PROBES,
            "parent": champion.digest if champion else None,
        }
        digest, version = make_release(recipe, store, Parts(**(parts | changes)), who="anna", reason=f"release {number}")
        return Made(digest, version, base, adapter, snapshot, run, report)

    return make
