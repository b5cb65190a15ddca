"""Two snapshots compared: hand-made cases, and a slow plain way to the same answer."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budwood.data.diff import KINDS, Diff, compare
from budwood.errors import StoreError
from budwood.events import Event
from budwood.identity import Digest, digest_bytes
from budwood.store import Store, open_store

from .conftest import Bench, put

SPLITS = ("train", "validation", "test")
PLACES = (*SPLITS, "rejected")
ORDINARY = {"name": "support", "onto": "", "settings": {}, "sources": [], "rules": [], "counts": {}}


@dataclass(frozen=True)
class Line:
    """A row of a made-up snapshot; `rule` for rejected ones, `raw` for those that could not be read."""

    number: int
    prompt: str = "Why?"
    answer: str = "So."
    place: str = "train"
    file: str = "a.jsonl"
    rule: str = "leak"
    raw: str = ""
    column: str = ""
    learnt: bool = True

    @property
    def said(self) -> tuple[str, ...]:
        return (self.raw,) if self.is_raw else (self.prompt, self.answer)

    @property
    def asked(self) -> tuple[str, ...]:
        return (self.raw,) if self.is_raw else (self.prompt, "", "")

    @property
    def is_raw(self) -> bool:
        return bool(self.raw) and self.place == "rejected"

    def as_json(self) -> dict[str, Any]:
        flag = {} if self.learnt or self.place == "rejected" else {"train": False}
        messages = [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer, **flag}]
        source = {"file": self.file, "sha256": digest_bytes(self.file.encode()), "line": self.number + 1}
        line = {"row_id": f"{self.number:016x}", "source": source}
        if self.place == "rejected":
            return line | {"rule": self.rule, "reason": "because"} | ({"raw": self.raw} if self.raw else {"messages": messages})
        return line | {"messages": messages, "group": "g", "split": self.place, "slices": {"c": self.column}, "weight": 1.0}


def store_lines(store: Store, lines: Sequence[Line], **body: Any) -> Digest:
    with store.draft("snapshot") as draft:
        for place in PLACES:
            text = "".join(json.dumps(line.as_json()) + "\n" for line in lines if line.place == place)
            (draft.folder / f"{place}.jsonl").write_text(text)
        return draft.commit(parents=[], body=ORDINARY | body)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, open_store(Path(folder) / "store") as opened:
        yield opened


def found(diff: Diff) -> dict[str, int]:
    return {name: kind.count for name, kind in diff.kinds.items() if kind.count}


PAIRED: list[tuple[dict[str, Any], dict[str, Any], dict[str, int]]] = [
    ({}, {}, {"unchanged": 1}),
    ({}, {"place": "test"}, {"moved": 1}),
    ({}, {"answer": "No."}, {"changed": 1}),
    ({}, {"prompt": "Who?", "place": "test"}, {"changed": 1, "moved": 1}),
    ({}, {"column": "x"}, {"changed_beside": 1}),
    ({}, {"learnt": False}, {"changed_beside": 1}),
    ({}, {"place": "rejected"}, {"newly_rejected": 1}),
    ({"place": "rejected"}, {"answer": "No."}, {"restored": 1}),
    ({"place": "rejected"}, {"place": "rejected", "rule": "conflict"}, {"other_rule": 1}),
    ({"place": "rejected"}, {"place": "rejected", "answer": "No."}, {"unchanged": 1}),
    ({}, {"number": 7}, {"unchanged": 1}),
    ({}, {"number": 7, "file": "b.jsonl"}, {"unchanged": 1}),
    ({}, {"number": 7, "answer": "No."}, {"changed": 1}),
    ({}, {"number": 7, "answer": "No.", "file": "b.jsonl"}, {"added": 1, "removed": 1}),
    ({}, {"number": 7, "prompt": "Who?"}, {"added": 1, "removed": 1}),
    ({"place": "rejected", "raw": "{"}, {"place": "rejected", "raw": "{", "number": 7}, {"unchanged": 1}),
    ({"place": "rejected", "raw": "{"}, {"place": "rejected", "number": 7}, {"added_rejected": 1, "removed_rejected": 1}),
]


@pytest.mark.parametrize(("before", "after", "kinds"), PAIRED)
def test_one_row_of_each_kind(store: Store, before: dict[str, Any], after: dict[str, Any], kinds: dict[str, int]) -> None:
    ends = [store_lines(store, [Line(**({"number": 1} | side))]) for side in (before, after)]
    assert found(compare(store, *ends)) == kinds


def test_rows_are_named_with_both_places(store: Store) -> None:
    before = store_lines(store, [Line(1), Line(2, prompt="Who?"), Line(3, prompt="Where?", place="test")])
    after = store_lines(store, [Line(1, place="rejected", rule="conflict"), Line(2, prompt="Who?", place="test")])
    diff = compare(store, before, after, rows=2)
    (gone,) = diff.kinds["newly_rejected"].rows
    assert gone["before"] == {"row_id": f"{1:016x}", "place": "train", "file": "a.jsonl", "line": 2}
    assert gone["after"] == {"row_id": f"{1:016x}", "place": "rejected", "file": "a.jsonl", "line": 2, "rule": "conflict"}
    assert dict(diff.kinds["newly_rejected"].by_rule) == {"conflict": 1}
    assert dict(diff.kinds["newly_rejected"].by_place) == {"train → rejected": 1}
    assert dict(diff.kinds["moved"].by_place) == {"train → test": 1}
    assert [list(row) for row in diff.kinds["removed"].rows] == [["before"]]
    assert json.loads(json.dumps(diff.as_dict())) == diff.as_dict()


def test_a_grown_file_whose_rows_are_all_renamed_shows_what_is_new(bench: Bench) -> None:
    rows = [{"prompt": f"{letter * 9} is what?", "completion": letter} for letter in "abcdefghij"]
    before = bench.prepare(bench.write("rows.jsonl", rows))
    corrected = [*rows[:4], rows[4] | {"completion": "other"}, *rows[5:]]
    added = {"prompt": "zzzzzzzz is what?", "completion": "z"}
    after = bench.prepare(bench.write("rows.jsonl", [added, *corrected]), onto=before.digest, pii="flag")
    diff = compare(bench.store, before.digest, after.digest, rows=9)
    assert found(diff) == {"added": 1, "changed": 1, "unchanged": 9}
    assert [row["after"]["line"] for row in diff.kinds["added"].rows] == [1]
    assert [(row["before"]["line"], row["after"]["line"]) for row in diff.kinds["changed"].rows] == [(5, 6)]
    declared = {change.what: (change.before, change.after) for change in diff.declared.settings}
    assert declared == {"onto": ("", before.digest), "pii": ("redact", "flag")}
    assert [change.what for change in diff.declared.rules] == ["pii options.action"]
    assert {change.what for change in diff.declared.sources} == {f"rows.jsonl {key}" for key in ("sha256", "size", "rows")}


def test_sources_and_rules_that_came_and_went_are_said(store: Store) -> None:
    def source(path: str, **more: Any) -> dict[str, Any]:
        return {"path": path, "sha256": digest_bytes(path.encode()), "rows": 1, "licence": ""} | more

    def rule(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "version": 1, "options": {}, "changed": 0, "dropped": 0, "flagged": 0} | more

    before = store_lines(store, [], sources=[source("a"), source("b")], rules=[rule("x"), rule("y"), rule("z", version=2)])
    after = store_lines(
        store, [], sources=[source("b", licence="MIT"), source("c")], rules=[rule("z", dropped=3), rule("x", options={"n": 1})]
    )
    declared = compare(store, before, after).declared
    assert [(one.what, one.before is None, one.after is None) for one in declared.sources] == [
        ("a", False, True),
        ("b licence", False, False),
        ("c", True, False),
    ]
    assert {one.what for one in declared.rules} == {"x options.n", "y", "z version", "order"}
    assert [(one.what, one.after["dropped"]) for one in declared.effects] == [("z", 3)]


def test_only_snapshots_are_compared(store: Store) -> None:
    run = put(store, "run", parents=[], method="lora")
    with pytest.raises(StoreError, match="is a run, not a snapshot"):
        compare(store, store_lines(store, []), run)


def test_progress_is_told_for_both(store: Store) -> None:
    events: list[Event] = []
    compare(store, store_lines(store, [Line(1)]), store_lines(store, [Line(2)]), report=events.append)
    assert [(event.stage, event.done) for event in events] == [("data", 1), ("data", 1)]


LINE = st.builds(
    Line,
    number=st.integers(0, 9),
    prompt=st.sampled_from(["Why?", "Who?", "Wo?"]),
    answer=st.sampled_from(["So.", "No."]),
    place=st.sampled_from(PLACES),
    file=st.sampled_from(["a.jsonl", "b.jsonl"]),
    rule=st.sampled_from(["leak", "conflict"]),
    raw=st.sampled_from(["", "", "{"]),
    column=st.sampled_from(["", "x"]),
    learnt=st.booleans(),
)
LINES = st.lists(LINE, max_size=10, unique_by=lambda line: line.number)


@given(LINES, LINES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_plain_way_counts_the_same(store: Store, before: list[Line], after: list[Line]) -> None:
    diff = compare(store, store_lines(store, before), store_lines(store, after), rows=99)
    kinds, by = plainly(before, after)
    assert found(diff) == dict(kinds)
    for name, kind in diff.kinds.items():
        assert dict(kind.by_source) == dict(by[name, "source"])
        assert dict(kind.by_rule) == dict(by[name, "rule"])
        assert dict(kind.by_place) == dict(by[name, "place"])
        assert len(kind.rows) == (0 if name == "unchanged" else kind.count)
    kept = [sum(line.place != "rejected" for line in lines) for lines in (before, after)]
    lost, won = (sum(kinds[name] for name in names) for names in (("removed", "newly_rejected"), ("added", "restored")))
    assert kept[0] - lost + won == kept[1]


def plainly(before: Sequence[Line], after: Sequence[Line]) -> tuple[Counter[str], Mapping[tuple[str, str], Counter[str]]]:
    """Pair rows by trying every one against every other, and sort them into kinds one by one."""
    left, right = (sorted(lines, key=lambda line: PLACES.index(line.place)) for lines in (before, after))
    pairs: list[tuple[Line | None, Line | None]] = []
    for same in (_same_id, _same_text, _same_prompt):
        for one in list(left):
            twin = next((line for line in right if same(one, line)), None)
            if twin is not None:
                left.remove(one)
                right.remove(twin)
                pairs.append((one, twin))
    pairs += [*((line, None) for line in left), *((None, line) for line in right)]
    kinds: Counter[str] = Counter()
    by: dict[tuple[str, str], Counter[str]] = {
        (kind, what): Counter() for kind in KINDS for what in ("source", "rule", "place")
    }
    for before_it, after_it in pairs:
        sides = [line for line in (before_it, after_it) if line is not None]
        for kind in _kinds(before_it, after_it):
            kinds[kind] += 1
            by[kind, "source"][sides[-1].file] += 1
            by[kind, "place"][_change([line.place for line in sides])] += 1
            rules = _change([line.rule for line in sides if line.place == "rejected"])
            if rules:
                by[kind, "rule"][rules] += 1
    return kinds, by


def _same_id(one: Line, other: Line) -> bool:
    return one.number == other.number


def _same_text(one: Line, other: Line) -> bool:
    return one.said == other.said


def _same_prompt(one: Line, other: Line) -> bool:
    return one.asked == other.asked and one.file == other.file


def _change(values: Sequence[str]) -> str:
    return " → ".join(dict.fromkeys(values))


def _kinds(one: Line | None, other: Line | None) -> list[str]:
    if one is None or other is None:
        line = one or other
        assert line is not None
        return [("removed" if one else "added") + ("_rejected" if line.place == "rejected" else "")]
    if "rejected" in (one.place, other.place):
        if one.place != other.place:
            return ["newly_rejected" if one.place != "rejected" else "restored"]
        return ["unchanged" if one.rule == other.rule else "other_rule"]
    changes = ["moved"] if one.place != other.place else []
    if one.said != other.said:
        changes.append("changed")
    elif (one.column, one.learnt) != (other.column, other.learnt):
        changes.append("changed_beside")
    return changes or ["unchanged"]
