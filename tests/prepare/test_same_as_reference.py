"""The stream stores what the plain stage of `reference` stores, byte for byte, with any number of processes."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.prepare.reference.run import prepare as prepare_plainly

from budwood.identity import Digest
from budwood.prepare.run import prepare
from budwood.store import Store, open_store

WORDS = [f"{a}{b}{c}" for a in ("par", "ket", "mo", "sil") for b in ("cel", "tle", "na", "ver") for c in ("", "s", "ing", "é")]


def files_of(store: Store, digest: Digest) -> dict[str, str]:
    folder = store.folder(digest)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name != "manifest.json"}


def assert_same(bench: Any, tmp_path: Path, *sources: Any, processes: int = 1, onto: Any = None, **section: Any) -> Digest:
    """Prepare both ways, in two stores, and compare; gives the digest."""
    recipe = bench.recipe(*sources, **section)
    made = prepare(recipe, bench.store, token_length=None, context=0, onto=onto, processes=processes)
    with open_store(tmp_path / "plain") as store:
        if onto is not None:
            with store.draft("snapshot") as draft:
                for name, text in files_of(bench.store, onto).items():
                    (draft.folder / name).write_text(text, encoding="utf-8", newline="\n")
                assert draft.commit(body=bench.store.manifest(onto).body) == onto
        plain = prepare_plainly(recipe, store, token_length=None, context=0, onto=onto)
        assert files_of(bench.store, made) == files_of(store, plain)
        assert bench.store.manifest(made).body == store.manifest(plain).body
    assert made == plain
    return made


def dirty_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with everything in them that the stage finds: copies, near copies, conflicts, dirt, tools, unknown roles."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        text = " ".join(draw.choices(WORDS, k=draw.choice([3, 12, 60, 90])))
        row: dict[str, Any] = {
            "prompt": text,
            "completion": draw.choice("abcd"),
            "thread": draw.choice([None, "", number % 17]),
        }
        kind = draw.randrange(12)
        if rows and kind < 5:
            row = dict(draw.choice(rows))
            if kind == 0:
                row["completion"] = draw.choice("abcd")
            if kind in (1, 2):
                row["prompt"] = f"{row['prompt']} {draw.choice(WORDS)}"
            if kind == 3:
                row["prompt"] = f" {row['prompt'].upper()}\u200b\r\n"
        elif kind == 5:
            row["completion"] = draw.choice(["", "n/a", f"{text} again", None])
        elif kind == 6:
            row["prompt"] += draw.choice([" ann@example.org", " +44 20 7946 0958", " itâ€™s", " caf\u0065\u0301"])
        elif kind == 7:
            row |= {"nested": {"a": 1}, "score": draw.choice([0.1, 1e300, -3]), "flag": True}
        rows.append(row)
    return rows


def chats(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"id": {}}}}}]
    rows: list[dict[str, Any]] = []
    for number in range(count):
        ask = {"role": "user", "content": " ".join(draw.choices(WORDS, k=9))}
        answer: dict[str, Any] = {"role": "assistant", "content": draw.choice(["yes", "no", "ann@example.org"])}
        turns = [ask, answer]
        if number % 3 == 0:
            call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": {"id": draw.choice(WORDS)}}}
            called = {"role": "assistant", "content": "", "tool_calls": [call]}
            result = {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "found by ann@example.org"}
            turns = [ask, called, result, answer]
        if number % 4 == 0:
            turns = [{"role": "system", "content": draw.choice(["Be short.", "Be long."])}, *turns]
        if number % 5 == 0:
            turns = [*turns[:-1], {**answer, "weight": 0}, {"role": "user", "content": "And?"}, {**answer, "content": "So."}]
        rows.append({"messages": turns, "tools": tools} if number % 3 == 0 else {"messages": turns})
    return rows


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_everything_at_once(bench: Any, tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.prepare.files.BLOCK_BYTES", 4096)
    train = bench.write("train.jsonl", dirty_rows(400, 1))
    with (bench.folder / train).open("a", encoding="utf-8") as file:
        file.write('{"prompt": "ann@example.org"\n\n[]\n{"prompt": "a", "prompt": "b"}\n{"completion": "x"}\n')
    test = bench.write("test.jsonl", dirty_rows(40, 1))
    chat = bench.write("chat.jsonl", chats(90, 2))
    table = dirty_rows(90, 3)
    lines = ["prompt,completion,thread", *(f'"{row["prompt"]}",{row["completion"]},{row["thread"]}' for row in table), "a,b"]
    (bench.folder / "table.csv").write_text("\n".join(lines), encoding="utf-8", newline="")
    polars.DataFrame({"prompt": [row["prompt"] for row in table], "completion": "x"}).write_parquet(bench.folder / "t.parquet")
    (bench.folder / "document.json").write_text(json.dumps(dirty_rows(20, 5)))
    (bench.folder / "packed.jsonl.gz").write_bytes(gzip.compress((bench.folder / chat).read_bytes().replace(b"yes", b"aye")))
    assert_same(
        bench,
        tmp_path,
        {"path": train, "weight": 2.5},
        {"path": test, "split": "test"},
        {"path": chat, "split": "train"},
        "table.csv",
        "t.parquet",
        "document.json",
        "packed.jsonl.gz",
        processes=processes,
        group_by="thread",
        max_malformed=0.2,
        validation=0.2,
        test=0.2,
        system="Answer.",
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_onto_an_earlier_snapshot(bench: Any, tmp_path: Path, grouped: bool) -> None:
    section = {"validation": 0.3, "test": 0.3, "group_by": "thread" if grouped else ""}
    old = dirty_rows(300, 7)
    first = bench.prepare(bench.write("first.jsonl", old), **section)
    new = [*dirty_rows(150, 8), *old[40:280], {"prompt": f"{old[0]['prompt']} {old[9]['prompt']}", "completion": "b"}]
    random.Random(3).shuffle(new)
    assert_same(
        bench,
        tmp_path,
        bench.write("second.jsonl", new),
        {"path": bench.write("never.jsonl", dirty_rows(60, 7)), "split": "train"},
        onto=first.digest,
        processes=2,
        **section,
    )


TEXTS = st.lists(st.sampled_from(["pay", "ship", "kettle", "réd", "order", "now"]), min_size=1, max_size=6).map(" ".join)
RAW = st.fixed_dictionaries(
    {"prompt": TEXTS, "completion": st.sampled_from(["a", "b", ""]), "thread": st.sampled_from(["", "x", "y", 1, None])}
)


@given(
    st.lists(RAW, max_size=25),
    st.lists(RAW, max_size=5),
    st.sampled_from(["majority", "drop", "keep"]),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_rows(
    bench: Any, tmp_path: Path, raw: list[Any], published: list[Any], policy: str, threshold: float, grouped: bool
) -> None:
    # Some rows that train for certain, in a file of their own, so that there is always something to store.
    fixed = [{"prompt": f"{letter * 12} is it", "completion": "yes", "thread": letter} for letter in "abcdefghijkl"]
    sources: list[Any] = [{"path": bench.write("fixed.jsonl", fixed), "split": "train"}]
    sources += [bench.write("rows.jsonl", raw)] if raw else []
    sources += [{"path": bench.write("test.jsonl", published), "split": "test"}] if published and published != raw else []
    assert_same(
        bench,
        tmp_path,
        *sources,
        conflicts=policy,
        near_duplicate=threshold,
        group_by="thread" if grouped else "",
        validation=0.2,
        test=0.1,
    )
