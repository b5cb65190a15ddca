"""Rows in mapped columns: what was written is read, bit by bit, and damage is seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from budwood.engine.packed import Encoded
from budwood.errors import TrainingError
from budwood.events import Event, silent
from budwood.train.rows import TrainRow
from budwood.train.table import COLUMNS, open_table, table, write_table


def rows(count: int) -> list[TrainRow]:
    made = []
    for number in range(count):
        ids = tuple(range(number, number + 1 + number % 7))
        marks = tuple(token % 3 == 0 for token in ids)
        made.append(TrainRow(Encoded(ids, marks), f"{number:064x}", f"file {number % 3}.jsonl", number + 1, 0.5 * (number % 3)))
    return made


@pytest.mark.parametrize("count", [0, 1, 10, 9000])
def test_what_was_written_is_read(count: int, tmp_path: Path) -> None:
    written = rows(count)
    read = table(tmp_path / "train", iter(written), silent)
    assert len(read) == count
    assert [read[place] for place in range(count)] == written
    assert read.lengths.tolist() == [len(row.encoded.ids) for row in written]
    assert read.weights.tolist() == [row.weight for row in written]
    assert list(read.names) == [row.row_id for row in written]
    assert read.tokens == sum(len(row.encoded.ids) for row in written)
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_it_is_made_once(tmp_path: Path) -> None:
    first = table(tmp_path / "train", iter(rows(5)), silent)
    again = table(tmp_path / "train", iter(rows(9)), silent)
    assert (len(first), len(again)) == (5, 5)


def test_only_the_end_of_the_rows_is_out_of_reach(tmp_path: Path) -> None:
    read = table(tmp_path / "train", iter(rows(3)), silent)
    assert read[-1] == read[2]
    with pytest.raises(IndexError):
        read[3]


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_a_flipped_bit_in_any_column_is_seen_and_the_rows_are_made_again(column: str, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    write_table(folder, rows(50))
    data = bytearray((folder / f"{column}.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / f"{column}.bin").write_bytes(data)
    with pytest.raises(TrainingError, match=rf"The rows' tokens cannot be read: {column}\.bin was changed"):
        open_table(folder)
    events: list[Event] = []
    again = table(folder, iter(rows(50)), events.append)
    assert [again[place] for place in range(50)] == rows(50)
    assert [event.message for event in events] == [
        f"The rows' tokens cannot be read: {column}.bin was changed; they are made again"
    ]


@pytest.mark.parametrize(
    ("text", "message"), [("", "Expecting value"), ("{}", "'format'"), (json.dumps({"format": 9}), "its format is 9, not 1")]
)
def test_a_damaged_index_is_named(text: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    write_table(folder, rows(2))
    (folder / "table.json").write_text(text)
    with pytest.raises(TrainingError, match=message) as caught:
        open_table(folder)
    assert caught.value.mend == "Delete that folder; it is made again."


def test_a_fault_in_a_row_leaves_nothing(tmp_path: Path) -> None:
    def faulty() -> object:
        yield from rows(5000)
        raise TrainingError("Row 5,001 is faulty.")

    with pytest.raises(TrainingError, match="is faulty"):
        table(tmp_path / "train", faulty(), silent)  # type: ignore[arg-type]  # rows, then an error
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TrainingError, match="The rows' tokens could not be written"):
        write_table(tmp_path / "train", rows(3))
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_was_faster_wins(tmp_path: Path) -> None:
    def slow() -> object:
        write_table(tmp_path / "train", rows(4))
        yield from rows(7)

    with pytest.MonkeyPatch.context() as patch:
        # The two must not share a name for what they have not finished.
        patch.setattr(os, "getpid", iter(range(1, 9)).__next__)
        write_table(tmp_path / "train", slow())  # type: ignore[arg-type]  # rows
    assert len(open_table(tmp_path / "train")) == 4


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    row = TrainRow(Encoded((1,), (True,)), "x" * 65, "a.jsonl", 1, 1.0)
    with pytest.raises(TrainingError, match="longer than 64 bytes"):
        write_table(tmp_path / "train", [row])


MANY = """
import sys
from pathlib import Path
from budwood.engine.packed import Encoded
from budwood.train.order import plan_steps
from budwood.train.rows import TrainRow
from budwood.train.table import open_table, write_table

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon:"))

folder, count = Path(sys.argv[1]), int(sys.argv[2])
ids = tuple(range(100))
marks = (False,) * 60 + (True,) * 40
write_table(folder, (TrainRow(Encoded(ids, marks), f"{n:064x}", "a.jsonl", n, 1.0) for n in range(count)))
before = anonymous()
rows = open_table(folder)
steps = plan_steps(rows.lengths, rows.weights, rows.names, epochs=2, tokens_per_step=4096, tokens_per_pass=4096, seed=0)
for step in steps[:20]:
    [rows[index] for index in step.rows]
print((anonymous() - before) * 1024 / count)
"""


def test_a_row_more_costs_some_bytes_and_not_its_tokens(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, tmp_path / "t", "60000"], capture_output=True, text=True, check=True)
    # 100 tokens in Python would be thousands of bytes a row; the plan of two epochs and the columns of lengths are tens.
    assert float(done.stdout) < 150
