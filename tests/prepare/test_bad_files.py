"""Bad files of many kinds: each gives a clear error or rejected rows, never a traceback, a hang, a loss or a full memory."""

import gzip
import io
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
import zstandard

from budwood.errors import BudwoodError
from budwood.identity import digest_bytes
from budwood.prepare import records, unpack
from budwood.prepare.files import LONGEST_LINE_BYTES

NAMES = [f"{a}{b}" for a in ("kettle", "invoice", "parcel", "refund", "lamp") for b in ("one", "two", "three", "four")]
ROWS = [{"prompt": f"Where is the {name * 3} of mine?", "completion": f"at {name}"} for name in NAMES]
LINES = [json.dumps(row) for row in ROWS]
TEXT = "\n".join(LINES) + "\n"
CSV = "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS)


def packed_parquet() -> bytes:
    held = io.BytesIO()
    polars.DataFrame(ROWS).write_parquet(held)
    return held.getvalue()


def with_line(line: bytes) -> bytes:
    return TEXT.encode() + line + b"\n" + TEXT.replace("Where", "When").encode()


def zeros_in_gzip() -> bytes:
    held = io.BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb", mtime=0) as file:
        for _ in range(80):
            file.write(b"\0" * (1 << 20))
    return held.getvalue()


def rows_in_zstd(count: int) -> bytes:
    return zstandard.compress(b'{"prompt": "a"}\n' * count)


DEEP = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b', "completion": "x"}'
LONG = b'{"prompt": "' + b"x" * (LONGEST_LINE_BYTES + 10) + b'", "completion": "y"}'

REJECTED: dict[str, tuple[str, bytes, str]] = {
    "deep JSON": ("a.jsonl", with_line(DEEP), "no JSON: nested too deeply"),
    "a line of 16 MiB": ("a.jsonl", with_line(LONG), "bytes in one line; lines of up to 16,777,216 are read"),
    "NUL bytes": ("a.jsonl", with_line(b'{"prompt": "a\0b", "completion": "c"}'), "no JSON: Invalid control character"),
    "a line of NULs": ("a.jsonl", with_line(b"\0" * 4096), "no JSON: Expecting value at column 1"),
    "a key twice": (
        "a.jsonl",
        with_line(b'{"prompt": "a", "prompt": "b", "completion": "c"}'),
        "the key 'prompt' occurs twice",
    ),
    "a lone surrogate": ("a.jsonl", with_line(b'{"prompt": "a\\ud83d", "completion": "c"}'), "half a character"),
    "NaN": ("a.jsonl", with_line(b'{"prompt": "a", "completion": NaN}'), "NaN is no JSON value"),
    "an infinite number": ("a.jsonl", with_line(b'{"prompt": "a", "completion": "b", "x": 1e999}'), '"x" is infinite'),
    "a number of a million digits": ("a.jsonl", with_line(b'{"prompt": ' + b"9" * 1_000_000 + b"}"), "no JSON: "),
    "a row cut short": ("a.jsonl", TEXT.encode() + b'{"prompt": "wha', "no JSON: Unterminated string"),
    "a list for a row": ("a.jsonl", with_line(b'["a", "b"]'), "a list where an object is expected"),
    "an empty object": ("a.jsonl", with_line(b"{}"), 'no "prompt"'),
    "prose between rows": ("a.jsonl", with_line(b"-- page 2 --"), "no JSON: "),
    "two rows in one line": ("a.jsonl", with_line(b'{"prompt": "a"}{"prompt": "b"}'), "no JSON: Extra data"),
    "a mark in the middle": ("a.jsonl", with_line(b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}'), "no JSON: "),
    "an object for a prompt": ("a.jsonl", with_line(b'{"prompt": {"a": 1}, "completion": "b"}'), '"prompt" holds no text'),
    "a ragged CSV": ("a.csv", CSV.encode() + b"a,b,c\n", "3 columns where the header has 2"),
    "an open quote": ("a.csv", CSV.encode() + b'"a,b\n', "no CSV: unexpected end of data"),
    "NUL in CSV": ("a.csv", CSV.encode() + b"a\0b,c,d\n", "3 columns where the header has 2"),
    "a text in a JSON list": ("a.json", json.dumps([*ROWS, "row"]).encode(), "a string where an object is expected"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_rejected_rows(bench: Any, kind: str) -> None:
    name, data, reason = REJECTED[kind]
    (bench.folder / name).write_bytes(data)
    snapshot = bench.prepare(name, max_malformed=0.2, validation=0.0, test=0.0, near_duplicate=1.0)
    assert [row["rule"] for row in snapshot.rejected] == ["read"]
    assert reason in snapshot.rejected[0]["reason"]
    kept = data.count(b"Where is") + data.count(b"When is")
    assert (len(snapshot.kept), snapshot.body["counts"]["read"]) == (kept, kept + 1)


TAKEN: dict[str, tuple[str, bytes]] = {
    "a mark": ("a.jsonl", b"\xef\xbb\xbf" + TEXT.encode()),
    "returns and feeds mixed": ("a.jsonl", TEXT.encode().replace(b"\n", b"\r\n", 9)),
    "returns alone": ("a.jsonl", TEXT.encode().replace(b"\n", b"\r")),
    "returns alone in CSV": ("a.csv", CSV.encode().replace(b"\n", b"\r")),
    "no end of the last line": ("a.jsonl", TEXT.encode().rstrip(b"\n")),
    "empty lines": ("a.jsonl", TEXT.encode().replace(b"\n", b"\n\n  \n\xc2\xa0\n")),
    "a wrong name": ("a.parquet", TEXT.encode()),
    "no name": ("rows", TEXT.encode()),
    "two archives in one": ("a.gz", gzip.compress(LINES[0].encode() + b"\n") + gzip.compress("\n".join(LINES[1:]).encode())),
    "Parquet by another name": ("a.csv", packed_parquet()),
    "packed Parquet": ("a.parquet.gz", gzip.compress(packed_parquet())),
    "one line": ("a.jsonl", TEXT.encode() + LINES[0].replace("Where", "Where, ah where,").encode()),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_odd_files_that_are_whole(bench: Any, kind: str) -> None:
    name, data = TAKEN[kind]
    (bench.folder / name).write_bytes(data)
    snapshot = bench.prepare(name, validation=0.0, test=0.0, near_duplicate=1.0)
    assert not snapshot.rejected
    assert [row["messages"][0]["content"] for row in snapshot.kept][:20] == [row["prompt"] for row in ROWS]


def test_formulas_stay_texts(bench: Any) -> None:
    cells = ["=1+1", "+A1", "-2", "@SUM(A1:A9)", '=HYPERLINK(""http://x"")']
    (bench.folder / "a.csv").write_text(CSV + "".join(f'"{cell} {place}","{cell}"\n' for place, cell in enumerate(cells)))
    snapshot = bench.prepare("a.csv", validation=0.0, test=0.0, near_duplicate=1.0)
    said = [row["messages"][1]["content"] for row in snapshot.kept[-5:]]
    assert said == [cell.replace('""', '"') for cell in cells]


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("a.jsonl", b"", "is empty (0 bytes)"),
    "white space alone": ("a.jsonl", b" \n\r\n\t", "is empty (5 bytes)"),
    "an empty archive": ("a.gz", gzip.compress(b""), "is empty"),
    "gzip cut short": ("a.jsonl.gz", gzip.compress(TEXT.encode())[:-20], "cannot be"),
    "gzip with a changed byte": ("a.gz", gzip.compress(TEXT.encode())[:-6] + b"\0\0\0\0\0\0", "cannot be"),
    "gzip with something behind": ("a.gz", gzip.compress(TEXT.encode()) + b"garbage", "cannot be"),
    "zstd cut short": ("a.zst", zstandard.compress(TEXT.encode())[:-20], "cannot be"),
    "Parquet cut short": ("a.parquet", packed_parquet()[:-40], "is not readable Parquet"),
    "Parquet with a changed footer": ("a.parquet", packed_parquet()[:-30] + b"\xff" * 22 + packed_parquet()[-8:], "Parquet"),
    "JSON cut short": ("a.json", json.dumps(ROWS).encode()[:-30], "is not JSON"),
    "JSON nested too deeply": ("a.json", b"[" * 200_000, "is not JSON: nested too deeply"),
    "JSON of two lists": ("a.json", b'{\n"a": [], "b": []}', "holds no list of rows"),
    "CSV with one name twice": ("a.csv", b"prompt,prompt\na,b\n", "has the column 'prompt' twice"),
    "CSV without what we need": ("a.csv", b"x,y\na,b\n", "has rows of no known shape"),
    "rows of unknown keys": ("a.jsonl", b'{"x": 1}\n' * 9, "has rows of no known shape"),
    "an image": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "is not UTF-8"),
    "a zip file": ("a.zip", b"PK\x03\x04" + bytes(range(200)) * 40, "is not UTF-8"),
    "UTF-16 cut within a character": ("a.jsonl", ("\ufeff" + TEXT).encode("utf-16-le")[:-1], "is not utf-16"),
    "zeros in an archive": ("a.gz", zeros_in_gzip(), "83,886,080 bytes in one line"),
    "a table without rows": ("a.csv", b"prompt,completion\n", "holds no rows"),
    "a CSV line without an end": ("a.csv", CSV.encode() + b'"' + b"x" * (LONGEST_LINE_BYTES + 9), "bytes in one line"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(bench: Any, kind: str) -> None:
    name, data, said = BROKEN[kind]
    (bench.folder / name).write_bytes(data)
    assert said in refused(bench, name)


def refused(bench: Any, *sources: Any) -> str:
    """Prepare, expect a refusal, and hold the store to what it was; gives the whole text."""
    with pytest.raises(BudwoodError) as caught:
        bench.prepare(*sources)
    assert not list(bench.store.objects())
    assert not [path for path in (bench.store.root / "tmp").iterdir() if path.name.startswith("draft")]
    return str(caught.value)


def test_an_archive_made_to_fill_a_disk(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "BOMB_BYTES", 1 << 20)
    (bench.folder / "a.zst").write_bytes(rows_in_zstd(400_000))
    assert "a.zst unpacks to more than 500 times its" in refused(bench, "a.zst")


def test_a_document_that_would_fill_the_memory(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST_DOCUMENT", 1000)
    (bench.folder / "a.json").write_text(json.dumps({"rows": ROWS}))
    assert "a.json is one JSON object of more than 1,000 characters" in refused(bench, "a.json")


def test_a_list_of_any_size_is_read_item_by_item(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST_DOCUMENT", 1000)
    (bench.folder / "a.json").write_text(json.dumps(ROWS, indent=1))
    (bench.folder / "a.jsonl").write_text(TEXT)
    prompts = [{row["messages"][0]["content"] for row in bench.prepare(name).kept} for name in ("a.json", "a.jsonl")]
    assert prompts[0] == prompts[1]


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    import os

    os.mkfifo(path)


def make_socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"), [(make_folder, "is a folder"), (make_pipe, "not a regular file"), (make_socket, "not a regular file")]
)
def test_what_is_no_file(bench: Any, make: Callable[[Path], None], said: str) -> None:
    make(bench.folder / "x.jsonl")
    assert said in refused(bench, "x.jsonl")


def test_a_file_that_grows_while_it_is_read(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "a.jsonl").write_text(TEXT)
    cut = records.contents

    def growing(file: Any) -> Any:
        with (bench.folder / "a.jsonl").open("a") as other:
            other.write(TEXT)
        return cut(file)

    monkeypatch.setattr("budwood.prepare.read.contents", growing)
    assert "a.jsonl changed while it was being read" in refused(bench, "a.jsonl")


@pytest.mark.slow
def test_a_line_of_a_gigabyte_takes_no_memory(bench: Any) -> None:
    path = bench.folder / "a.jsonl"
    with path.open("wb") as file:
        file.write(TEXT.encode())
        for _ in range(1024):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + TEXT.replace("Where", "When").encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    snapshot = bench.prepare("a.jsonl", max_malformed=0.1, validation=0.0, test=0.0, near_duplicate=1.0, processes=1)
    assert [row["reason"] for row in snapshot.rejected] == [
        "1,073,741,824 bytes in one line; lines of up to 16,777,216 are read"
    ]
    assert len(snapshot.kept) == 40
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_the_bytes_of_the_sources_are_never_changed(bench: Any) -> None:
    for place, (name, data) in enumerate(TAKEN.values()):
        path = bench.folder / f"{place}{name}"
        path.write_bytes(data)
        bench.prepare(path.name)
        assert digest_bytes(path.read_bytes()) == digest_bytes(data)
