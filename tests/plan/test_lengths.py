import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budwood.plan.lengths import Lengths, read_lengths


@dataclass(frozen=True)
class Row:
    ids: tuple[int, ...]
    supervised: tuple[bool, ...]


def encode(messages: Any, tools: Any = ()) -> Row:
    length = len(messages[0]["content"])
    return Row(tuple(range(length)), tuple(index >= length - 2 for index in range(length)))


def write(path: Path, lengths: list[int]) -> None:
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": "x" * n}]}) + "\n" for n in lengths))


def test_figures_of_a_histogram() -> None:
    lengths = Lengths.of([2, 2, 3, 9], supervised_tokens=4)
    assert lengths.histogram == ((2, 2), (3, 1), (9, 1))
    assert (lengths.rows, lengths.tokens, lengths.squares, lengths.longest) == (4, 16, 4 + 4 + 9 + 81, 9)
    assert lengths.supervised == 0.25
    assert (lengths.at(0.5), lengths.at(0.75), lengths.at(1.0)) == (2, 3, 9)


def test_no_rows_are_no_error() -> None:
    empty = Lengths.of([], supervised_tokens=0)
    assert (empty.rows, empty.tokens, empty.longest, empty.at(0.9)) == (0, 0, 0, 0)


def test_all_rows_of_a_small_snapshot_are_measured(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [4, 6, 10])
    write(tmp_path / "validation.jsonl", [5, 5])
    assert read_lengths(tmp_path, encode) == Lengths(((4, 1), (6, 1), (10, 1)), 6 / 20, 10)


def test_tools_are_measured_with_their_rows(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "x"}], "tools": ["y" * 9]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    write(tmp_path / "validation.jsonl", [])
    lengths = read_lengths(tmp_path, lambda messages, tools: encode([{"content": messages[0]["content"] + tools[0]}]))
    assert lengths.tokens == 10


def test_a_large_snapshot_is_sampled_and_counted_in_full(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [4, 8] * 50)
    write(tmp_path / "validation.jsonl", [])
    lengths = read_lengths(tmp_path, encode, most=10)
    assert (lengths.rows, lengths.validation_tokens) == (100, 0)
