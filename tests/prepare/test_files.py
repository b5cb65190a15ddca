"""Files: every layout, compression and encoding gives the same rows, each with its line."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars
import pytest
import zstandard

from budwood.errors import DataError
from budwood.identity import digest_file
from budwood.prepare.files import open_file
from budwood.prepare.records import Malformed, Record, records

ROWS = [{"prompt": f"Frage {i}: größer?", "completion": f"ja, {i}"} for i in range(5)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(path: Path) -> list[Record | Malformed]:
    with open_file(path, shown=path.name) as file:
        return list(records(file))


def values(path: Path) -> list[Any]:
    return [record.value for record in read(path) if isinstance(record, Record)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows"])
def test_json_lines_by_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(JSONL, encoding="utf-8")
    assert values(tmp_path / name) == ROWS


@pytest.mark.parametrize("document", [ROWS, {"version": "1", "data": ROWS}])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_document(tmp_path: Path, document: object, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
    assert values(path) == ROWS
    assert [record.line for record in read(path)] == [1, 2, 3, 4, 5]


def test_the_same_rows_plain_gzipped_and_as_zstd(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(JSONL.encode()))
    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.compress(JSONL.encode()))
    assert values(tmp_path / "rows.jsonl.gz") == values(tmp_path / "rows.jsonl.zst") == ROWS


def test_parquet(tmp_path: Path) -> None:
    polars.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    assert values(tmp_path / "rows.parquet") == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_line_breaks_in_quotes_says_where_each_record_begins(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "rows.csv"
    lines = ["text,label", '"two', 'lines, and ""quotes""",a', "plain,b", "", "last,c"]
    path.write_text("\r\n".join(lines).replace(",", delimiter), encoding="utf-8", newline="")
    assert read(path) == [
        Record(2, {"text": f'two\r\nlines{delimiter} and "quotes"', "label": "a"}),
        Record(4, {"text": "plain", "label": "b"}),
        Record(6, {"text": "last", "label": "c"}),
    ]


def test_a_ragged_csv_record_and_an_open_quote_are_malformed_with_their_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\na,b,c\nd,e\n"open,f\n', encoding="utf-8")
    assert read(path) == [
        Malformed(2, "3 columns where the header has 2", "a,b,c\n"),
        Record(3, {"text": "d", "label": "e"}),
        Malformed(4, "no CSV: unexpected end of data", '"open,f\n'),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_encodings_are_converted(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(JSONL, encoding=encoding)
    assert values(path) == ROWS


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "a"', "no JSON: Expecting ',' delimiter at column 15"),
        ('{"prompt": NaN}', "no JSON: NaN is no JSON value"),
        ('{"prompt": "a", "prompt": "b"}', "no JSON: the key 'prompt' occurs twice"),
        ('["a"]', "a list where an object is expected"),
        ("[" * 100_000, "no JSON: nested too deeply"),
    ],
)
def test_a_malformed_line_keeps_its_number_and_text(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{JSONL}\n{line}\n", encoding="utf-8")
    assert read(path)[-1] == Malformed(7, reason, line)


def test_the_digest_is_that_of_the_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(JSONL.encode()))
    with open_file(path, shown="rows") as file:
        assert file.sha256 == digest_file(path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(JSONL, encoding="utf-8")

    def read_and_append() -> None:
        with open_file(path, shown="rows.jsonl") as file:
            list(records(file))
            with path.open("a", encoding="utf-8") as other:
                other.write(JSONL)

    with pytest.raises(DataError, match=r"rows\.jsonl changed while it was being read"):
        read_and_append()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "rows.jsonl.packed"
    many = "".join(f'{{"prompt": "{i * 7919 % 10007}", "completion": "{i}"}}\n' for i in range(20_000)).encode()
    path.write_bytes(pack(many)[:-2000])
    with pytest.raises(DataError, match=r"rows\.jsonl\.packed cannot be read to its end"):
        read(path)


def test_zstd_frames_one_after_another_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.zst"
    path.write_bytes(zstandard.compress(JSONL[:70].encode()) + zstandard.compress(JSONL[70:].encode()))
    assert values(path) == ROWS
