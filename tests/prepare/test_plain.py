"""Plain lines that go from bytes to finished halves in C come to what they come to line by line, and all others are left."""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budwood.identity import Digest
from budwood.native.build import Missing
from budwood.prepare import work
from budwood.prepare.columns import Batch
from budwood.prepare.files import LONGEST_LINE_BYTES
from budwood.prepare.piece import Piece, SourceView
from budwood.prepare.plain import find_rows
from budwood.prepare.plain.find import kernel
from budwood.prepare.records import read_lines
from budwood.prepare.shapes import Shape
from budwood.prepare.work import Order, Work
from budwood.recipe import PrepareSection

COLUMNS = {"prompt": "text", "completion": "label"}
CHAT = '{"messages": [{"role": "user", "content": "Is it?"}, {"content": "It is so.", "role": "assistant"}], "n": 1}'
SHARED = '{"conversations": [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "It is so."}]}'


@pytest.fixture(autouse=True)
def native() -> None:
    found = kernel()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernel on this machine: {found.reason}")


def source(shape: Shape, weight: float = 1.0) -> SourceView:
    return SourceView(0, 'a %b "c".jsonl', Digest("a" * 64), "jsonl", shape, "", COLUMNS, weight, "auto")


def count(messages: list[dict[str, Any]], tools: Any = (), /) -> int:
    return sum(len(message["content"]) for message in messages)


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ("prompt", '{"prompt": "Is it?", "completion": "It is so."}'),
        (
            "prompt",
            ' {\t"completion":"It \\"is\\" so.\\n\\tand \\\\ on" , "prompt":"Is it?","x":-12,"y":null,"z":true,"w":""} \r',
        ),
        ("prompt", '{"prompt": "Is it?", "completion": "It is so.", "system": null}'),
        ("alpaca", '{"instruction": "Is it?", "input": "", "output": "It is so."}'),
        ("columns", '{"text": "Is it?", "label": "It is so.", "prompt": "x"}'),
        ("messages", CHAT),
        ("sharegpt", SHARED),
    ],
)
def test_plain_lines_are_found(shape: Shape, line: str) -> None:
    found = find_rows(line.encode(), source(shape), PrepareSection())
    assert found is not None
    assert len(found.line) == 1
    value = json.loads(line)
    held = {key: one for key, one in value.items() if key in ("x", "y", "z", "w", "n") or (shape, key) == ("columns", "prompt")}
    assert json.loads(b"{%b}" % found.slices) == held
    assert found.names() == [tuple(held)]
    (pair,) = found.pairs()
    assert pair.asked == "Is it?"
    assert pair.answered in (value.get("completion"), "It is so.")
    texts = [one for one in held.values() if isinstance(one, str)]
    assert pair.whole == "\n".join([pair.asked, pair.answered, *texts])


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ("prompt", '{"prompt": "Is it?", "completion": "caf\u00e9"}'),
        ("prompt", '{"prompt": "Is it?", "completion": "caf\\u00e9"}'),
        ("prompt", '{"prompt": "Is it?", "completion": "a\\/b"}'),
        ("prompt", '{"prompt": "Is it?", "completion": " so"}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so\\n"}'),
        ("prompt", '{"prompt": "Is it?", "completion": ""}'),
        ("prompt", '{"prompt": "Is it?"}'),
        ("prompt", '{"prompt": "Is it?", "completion": null}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so", "completion": "so"}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so", "x": 1, "x": 1}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so", "": 1}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so", "system": "Be short."}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so", "tools": "[]"}'),
        *(
            ("prompt", f'{{"prompt": "Is it?", "completion": "so", "x": {value}}}')
            for value in ("1.5", "1e3", "-0", "01", "1" * 19, "NaN", "[]", "{}", "nul", "+1", "", "1 2", '"\x7f"', '"a', "tru")
        ),
        ("prompt", '{"prompt": "Is it?", "completion": "so"}}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so",}'),
        ("prompt", '{"prompt": "Is it?", "completion": "so"'),
        ("prompt", '["prompt"]'),
        ("prompt", "{}"),
        ("prompt", ""),
        ("alpaca", '{"instruction": "Is it?", "input": "this", "output": "so"}'),
        ("alpaca", '{"instruction": "Is it?", "input": "n/a", "output": "so"}'),
        ("messages", CHAT.replace("assistant", "user")),
        ("messages", CHAT.replace('"content": "Is it?"', '"content": "Is it?", "weight": 0')),
        ("messages", CHAT.replace('"role": "user"', '"content": "user"')),
        ("messages", CHAT.replace('"n": 1', '"functions": []')),
        ("messages", CHAT.replace("]", ', {"role": "user", "content": "And?"}]')),
        ("sharegpt", SHARED.replace("human", "system")),
        ("sharegpt", SHARED.replace("}]}", '}], "system": "Be short."}')),
        ("prompt", '{"prompt": "Is it?", "completion": "so"' + "".join(f', "k{n}": 1' for n in range(40)) + "}"),
    ],
)
def test_all_others_are_left(shape: Shape, line: str) -> None:
    found = find_rows(line.encode(), source(shape), PrepareSection())
    assert found is not None
    assert len(found.line) == 0
    assert list(found.others([], 7)) == [(7, line.encode())]


def test_lines_keep_their_numbers_and_one_that_is_too_long_is_left() -> None:
    plain = b'{"prompt": "Is it?", "completion": "so"}'
    long = plain.replace(b"so", b"so" * (LONGEST_LINE_BYTES // 2))
    found = find_rows(b"\n".join([plain, b"", long, b"x", plain, b""]), source("prompt"), PrepareSection())
    assert found is not None
    assert found.line.tolist() == [0, 4]
    assert [number for number, _ in found.others([0], 10)] == [11, 12, 13, 14, 15]


def test_nothing_is_looked_for_where_every_row_gets_a_system_message() -> None:
    assert find_rows(b"", source("prompt"), PrepareSection(system="Be short.")) is None


@pytest.mark.parametrize("system", ["text", "label"])
def test_a_column_that_is_also_the_system_message_is_left_to_python(system: str) -> None:
    both = replace(source("columns"), columns={**COLUMNS, "system": system})
    assert find_rows(b'{"text": "Is it?", "label": "It is so."}', both, PrepareSection()) is None


TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=90),
    st.sampled_from(
        ["yes", "no", "It is so.", "n/a", "ann@example.org", "caf\u00e9", "a\nb", " a", 'say "so"', "a\\b", "\u0007"]
    ),
)
VALUES = st.one_of(TEXTS, st.integers(), st.floats(), st.none(), st.booleans(), st.just([]), st.just({"a": 1}))
EXTRA = st.dictionaries(st.sampled_from(["thread", "n", "k\u00e9y", "tools", "system", "input", "b\\"]), VALUES, max_size=3)
ROLES = st.sampled_from(["user", "assistant", "system", "human", "gpt"])


def record(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    ask, answer = {
        "prompt": ("prompt", "completion"),
        "alpaca": ("instruction", "output"),
        "columns": ("text", "label"),
    }.get(shape, ("", ""))
    if ask:
        return st.builds(lambda a, b, more: {ask: a, **more, answer: b}, VALUES | TEXTS, VALUES | TEXTS | TEXTS, EXTRA)
    key, role, content = ("messages", "role", "content") if shape == "messages" else ("conversations", "from", "value")
    turn = st.builds(lambda who, text: {role: who, content: text}, ROLES, TEXTS)
    pair = st.builds(
        lambda a, b: [
            {role: "user" if shape == "messages" else "human", content: a},
            {content: b, role: "assistant" if shape == "messages" else "gpt"},
        ],
        TEXTS,
        TEXTS,
    )
    return st.builds(lambda turns, more: {**more, key: turns}, pair | pair | st.lists(turn, max_size=3), EXTRA)


def lines(shape: Shape) -> st.SearchStrategy[bytes]:
    def written(value: Any, ascii_only: bool, spaced: bool) -> str:
        separators = (", ", ": ") if spaced else (",", ":")
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators)

    line = st.builds(written, record(shape), st.booleans(), st.booleans()) | st.sampled_from(["", "{", "[]", "null", "{} x"])
    return st.lists(line, max_size=12).map("\n".join).map(str.encode)


SECTIONS: list[dict[str, Any]] = [
    {},
    {"group_by": "thread", "supervise": "last", "split_seed": 3},
    {"language": "flag"},
    {"labels": ("yes", "no"), "rules": ("unicode", "roles", "label", "pii")},
]


def comes_to(folder: Path, name: str, section: dict[str, Any], piece: Piece, measured: bool) -> tuple[Batch, list[bytes]]:
    scratch, result = folder / f"scratch-{name}", folder / f"result-{name}"
    for place in (scratch, result):
        place.mkdir()
    for split in ("train", "validation", "test"):
        (result / f"{split}.jsonl").touch()
    order = Order(PrepareSection(**section), (), folder, count if measured else None, 100, scratch, result)
    worker = Work(order, "0")
    batch = worker.piece(piece)
    worker.close()
    return batch, [(scratch / f"{kind}-0").read_bytes() for kind in ("lines", "texts", "bands")]


def flat(value: Any) -> Iterator[Any]:
    for field in fields(value):
        one = getattr(value, field.name)
        if field.name == "near":
            yield from flat(one)
        else:
            yield field.name, (one.dtype, one.shape, one.tobytes()) if isinstance(one, numpy.ndarray) else one


@pytest.mark.parametrize("shape", ["prompt", "alpaca", "messages", "sharegpt", "columns"])
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_ways_come_to_the_same(
    shape: Shape, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = Piece(
        source(shape, data.draw(st.sampled_from([1.0, 0.25]))), data.draw(st.integers(1, 10**6)), data.draw(lines(shape))
    )
    section, measured = data.draw(st.sampled_from(SECTIONS)), data.draw(st.booleans())
    folder = tmp_path_factory.mktemp("ways")
    ours, written = comes_to(folder, "ours", section, piece, measured)
    with monkeypatch.context() as patched:
        patched.setattr(work, "find_rows", lambda *given: None)
        theirs, expected = comes_to(folder, "theirs", section, piece, measured)
    assert written == expected
    assert dict(flat(ours)) == dict(flat(theirs))


def test_most_of_a_plain_piece_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Where is order {number} of the blue kettle?", "completion": "It is on its way."} for number in range(50)
    ]
    made: list[int] = []
    read = read_lines

    def watched(others: Iterator[tuple[int, bytes]]) -> Any:
        held = list(others)
        made.extend(number for number, _ in held)
        return read(held)

    monkeypatch.setattr(work, "read_lines", watched)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    batch, _ = comes_to(tmp_path, "ours", {}, Piece(source("prompt"), 1, content), True)
    assert len(batch) == 50
    assert made == [51]
