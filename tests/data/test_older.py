"""Snapshots that an older Budwood made: what came later to their bodies and rows is missed nowhere."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from budwood.data.forget import forget, make_wanted
from budwood.data.scores import score
from budwood.data.select import parse_top, select
from budwood.identity import Digest
from budwood.store import Store

from .conftest import Bench

SHA = "c" * 64
SPLIT_ROWS = {"train": 8, "validation": 2, "test": 1}
LENGTHS = {"total": 30, "min": 3, "p50": 6, "p90": 9, "p99": 9, "max": 9}


def rows() -> dict[str, list[dict[str, Any]]]:
    """Rows as they were first stored: without their lengths in tokens; rejected ones without columns."""
    files: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split, many in SPLIT_ROWS.items():
        files[split] = []
        for _ in range(many):
            number += 1
            said = [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": "yes " * number}]
            where = {"file": "rows.jsonl", "sha256": SHA, "line": number}
            place = {"group": f"{number:016x}", "split": split, "slices": {"who": f"c{number}"}, "weight": 1.0}
            touched = [{"rule": "pii", "kind": "changed", "reason": "1 e-mail address redacted"}] if number == 2 else []
            files[split].append(
                {"row_id": f"{number + 10**15:x}".zfill(16), "messages": said, "source": where, **place, "touched": touched}
            )
    where = {"file": "rows.jsonl", "sha256": SHA, "line": number + 1}
    said = files["train"][1]["messages"]
    files["rejected"] = [{"row_id": "e" * 16, "source": where, "rule": "exact_duplicate", "reason": "of 2", "messages": said}]
    return files


def body(*, bare: bool) -> dict[str, Any]:
    """What the first Budwood wrote; `bare`: less still."""
    options: dict[str, Mapping[str, Any]] = {
        "read": {"max_malformed": 0.01},
        "exact_duplicate": {},
        "pii": {"action": "redact", "kinds": ["SECRET", "EMAIL", "IBAN", "CARD", "IP", "PHONE"]},
        "near_duplicate": {"threshold": 0.8},
    }
    figures = {"changed": 0, "dropped": 0, "flagged": 0}
    rules = [{"name": name, "version": 1, **({} if bare else {"options": one}), **figures} for name, one in options.items()]
    facts = {"path": "rows.jsonl", "sha256": SHA, "size": 900, "rows": 12, "malformed": 0, "layout": "jsonl"}
    facts |= {"shape": "prompt", "format": "prompt", "encoding": "utf-8", "compression": "", "split": "auto", "weight": 1.0}
    facts |= {"origin": "", "licence": "CC0-1.0", "cleaning": "", "labelling": "", "slices": ["who"], "left_out": []}
    return {
        "name": "old",
        "counts": {"read": 12, "kept": 11, "rejected": 1} | SPLIT_ROWS,
        "rejected_by": {"exact_duplicate": 1},
        "rules": rules,
        "sources": [facts],
        "groups": {"count": 11, "largest": 1, "by": "", "notes": []} | SPLIT_ROWS,
        "lengths": {split: {"rows": many, **LENGTHS} for split, many in SPLIT_ROWS.items()},
        "onto": "",
        "settings": {"split_seed": 0, "validation": 0.1, "test": 0.1}
        | ({} if bare else {"labels": [], "near_duplicate": 0.8, "conflicts": "majority"}),
    }


def old(store: Store, *, bare: bool) -> Digest:
    with store.draft("snapshot") as draft:
        for name, held in rows().items():
            (draft.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
        for name in ("card.md", "croissant.json"):
            (draft.folder / name).write_text("{}\n")
        return draft.commit(parents=[], body=body(bare=bare))


@pytest.mark.parametrize("bare", [False, True])
def test_rows_of_an_older_snapshot_are_selected(bench: Bench, bare: bool) -> None:
    parent = old(bench.store, bare=bare)
    chosen = select(bench.store, parent, score(bench.store, parent, by="length"), parse_top("5"))
    made = bench.store.manifest(chosen.digest).body
    assert made["counts"] == {"read": 12, "kept": 8, "rejected": 4, "train": 5, "validation": 2, "test": 1}
    assert sum(rule["dropped"] for rule in made["rules"]) == 4
    # Of train, no row says its length; the other splits are as they were.
    assert made["lengths"] == {split: body(bare=bare)["lengths"][split] for split in ("validation", "test")}
    card = bench.store.file(chosen.digest, "card.md").read_text(encoding="utf-8")
    assert "declared: CC0-1.0; verified: not verified" in card
    assert ("Jaccard 0.8 and more" in card) is not bare
    assert ("for which kinds is not on record" in card) is bare
    assert json.loads(bench.store.file(chosen.digest, "croissant.json").read_text())["license"] == ["CC0-1.0"]


@pytest.mark.parametrize("bare", [False, True])
def test_rows_of_an_older_snapshot_are_forgotten(bench: Bench, bare: bool) -> None:
    parent = old(bench.store, bare=bare)
    done = forget(bench.store, make_wanted(columns=["who=c2"]), who="ben", reason="request 17")
    new = done.replaced[parent]
    assert new is not None
    made = bench.store.manifest(new).body
    assert made["counts"] == {"read": 12, "kept": 10, "rejected": 0, "train": 7, "validation": 2, "test": 1, "forgotten": 2}
    # The rejected row has no columns, but says what the other one says.
    assert done.found.snapshots[0].copies == 1
    assert made["histograms"]["prompt_characters"]["validation"]
    assert done.is_complete
