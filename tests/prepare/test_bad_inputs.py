"""Bad inputs: a typed refusal that names file and line, and a store that is as it was."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import BudwoodError, DataError, RecipeError
from budwood.identity import digest_bytes

GOOD = '{"prompt": "Where is my order?", "completion": "delivery"}\n'


def state(root: Path) -> dict[str, str]:
    """Every file of the store's objects and attestations, by digest."""
    files = [path for part in ("objects", "attestations") for path in sorted((root / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): digest_bytes(path.read_bytes()) for path in files}


def refused(bench: Any, kind: type[BudwoodError], *sources: Any, **section: Any) -> str:
    """Prepare, expect a refusal, and hold the store to what it was; gives the whole text."""
    kept = bench.write("kept.jsonl", [{"prompt": f"{letter * 9} wants what?", "completion": letter} for letter in "abcdefgh"])
    bench.prepare(kept, validation=0.0, test=0.0)
    before = state(bench.store.root)
    with pytest.raises(kind) as caught:
        bench.prepare(*sources, **section)
    assert state(bench.store.root) == before
    assert len(list(bench.store.objects())) == 1
    return str(caught.value)


def test_a_missing_file(bench: Any) -> None:
    assert refused(bench, DataError, "no.jsonl") == (
        "There is no source 'no.jsonl'. In [[source]] path.\n    Paths start at the recipe's folder; check it."
    )


def test_a_folder(bench: Any) -> None:
    (bench.folder / "rows").mkdir()
    assert refused(bench, DataError, "rows") == (
        "The source 'rows' is a folder. In [[source]] path.\n    Name one file of rows."
    )


def test_a_pipe_is_refused_and_never_waited_for(bench: Any) -> None:
    os.mkfifo(bench.folder / "pipe.jsonl")
    assert "is not a regular file" in refused(bench, DataError, "pipe.jsonl")


def test_an_unreadable_file(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "secret.jsonl").write_text(GOOD)
    opened = Path.open

    def locked(path: Path, *arguments: Any, **options: Any) -> Any:
        # Root may read anything, so the refusal of the system is played.
        if path.name == "secret.jsonl":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    assert refused(bench, DataError, "secret.jsonl") == (
        "The source 'secret.jsonl' may not be read. In [[source]] path.\n    Check its permissions."
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("x" * 5000, f"The source {'x' * 120!r}… (5,000 characters) cannot be opened: File name too long."),
        ("a\0b", r"The source 'a\x00b' cannot be opened: embedded null byte."),
    ],
)
def test_a_path_that_no_file_can_have(bench: Any, path: str, reason: str) -> None:
    assert refused(bench, DataError, path) == f"{reason} In [[source]] path.\n    Check the path."


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_file_that_the_system_fails_to_read(bench: Any) -> None:
    assert refused(bench, DataError, "/proc/self/mem") == (
        "The source '/proc/self/mem' cannot be read: Input/output error. In [[source]] path.\n"
        "    Look at the disk, or copy the file elsewhere."
    )


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file(bench: Any, content: bytes) -> None:
    (bench.folder / "empty.jsonl").write_bytes(content)
    text = refused(bench, DataError, "empty.jsonl")
    assert text.startswith(f"The source 'empty.jsonl' is empty ({len(content)} bytes).")


def test_a_csv_of_a_header_alone(bench: Any) -> None:
    (bench.folder / "head.csv").write_text("prompt,completion\n")
    assert "The source 'head.csv' holds no rows." in refused(bench, DataError, "head.csv")


def test_malformed_lines_are_named_with_file_and_line(bench: Any) -> None:
    (bench.folder / "bad.jsonl").write_text(GOOD + '{"prompt" "x"}\n' + GOOD.replace("Where", "When"))
    assert refused(bench, DataError, "bad.jsonl") == (
        "1 of 3 rows of bad.jsonl cannot be read (33.3%). line 2: no JSON: Expecting ':' delimiter at column 11.\n"
        "    Correct them, or raise [prepare] max_malformed above 0.01 to reject them with a record."
    )


def test_a_file_without_one_readable_line(bench: Any) -> None:
    (bench.folder / "bad.jsonl").write_text("nothing\nof it is JSON\n")
    assert refused(bench, DataError, "bad.jsonl").startswith(
        "None of the first 2 rows of bad.jsonl can be read; line 1: no JSON: Expecting value at column 1."
    )


def test_a_row_without_an_answer_stops_when_asked_to(bench: Any) -> None:
    name = bench.write("rows.jsonl", [{"prompt": "a question", "completion": "x"}, {"prompt": "another question"}])
    text = refused(bench, DataError, name, no_target="error")
    assert text.endswith(
        '(rows.jsonl line 2) has no answer.\n    Complete it, or set [prepare] no_target = "reject" to drop such rows with '
        "a record."
    )


def test_bytes_of_no_known_encoding_are_named_by_line_and_offset(bench: Any) -> None:
    row = '{"prompt": "дом?", "completion": "x"}\n'.encode("cp1251")
    (bench.folder / "russian.jsonl").write_bytes(GOOD.encode() + row)
    assert refused(bench, DataError, "russian.jsonl") == (
        f"russian.jsonl is not UTF-8: byte 0xe4 on line 2 (offset {len(GOOD) + 12}) begins no character. "
        "As Windows-1252 it would spell no Western European language.\n"
        '    If you know its encoding, state it in [[source]], e.g. encoding = "cp1250"; or save the file as UTF-8.'
    )


def test_a_broken_archive(bench: Any) -> None:
    (bench.folder / "rows.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    assert "rows.jsonl.gz cannot be unpacked" in refused(bench, DataError, "rows.jsonl.gz")


def test_a_broken_parquet_file(bench: Any) -> None:
    (bench.folder / "rows.parquet").write_bytes(b"PAR1" + b"\x00" * 64)
    assert "rows.parquet is not readable Parquet" in refused(bench, DataError, "rows.parquet")


def fail_in_polars(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    import polars

    def read(_: object) -> None:
        raise error

    monkeypatch.setattr(polars, "scan_parquet", read)


def test_a_parquet_file_over_which_its_reader_panics(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from polars.exceptions import PanicException

    assert not issubclass(PanicException, Exception)
    (bench.folder / "rows.parquet").write_bytes(b"PAR1" + b"\x00" * 64)
    fail_in_polars(monkeypatch, PanicException("called `unwrap()`\non an `Err` value"))
    assert refused(bench, DataError, "rows.parquet") == (
        "rows.parquet is not readable Parquet: called `unwrap()` on an `Err` value.\n    Write the file again."
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_parquet_is_read_passes(
    bench: Any, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    (bench.folder / "rows.parquet").write_bytes(b"PAR1" + b"\x00" * 64)
    fail_in_polars(monkeypatch, kind())
    with pytest.raises(kind):
        bench.prepare("rows.parquet")


def test_the_same_bytes_twice(bench: Any) -> None:
    (bench.folder / "one.jsonl").write_text(GOOD)
    (bench.folder / "two.jsonl").write_text(GOOD)
    assert "two.jsonl holds the same bytes as one.jsonl." in refused(bench, DataError, "one.jsonl", "two.jsonl")


def test_nothing_left_to_train_on(bench: Any) -> None:
    name = bench.write("rows.jsonl", [{"prompt": "a question"}, {"prompt": "another", "completion": " "}])
    assert refused(bench, DataError, name) == (
        "No row is left to train on: 2 read, 2 rejected (2 by empty_answer).\n"
        "    Look at the sources and at [prepare]; nothing was stored."
    )


@pytest.mark.parametrize(
    ("source", "section", "kind", "text"),
    [
        ({"columns": {"prompt": "tekst", "completion": "label"}}, {}, DataError, 'rows.csv has no column "tekst"'),
        ({"columns": {"prompt": "text"}}, {}, RecipeError, "columns needs both prompt and completion"),
        ({"columns": {"promt": "text"}}, {}, RecipeError, '"promt" is no part of a row'),
        ({}, {"strict": True}, DataError, "does not state its origin and licence and labelling"),
        ({}, {"rules": ["unicod"]}, RecipeError, "There is no rule 'unicod'. The nearest is 'unicode'."),
        ({}, {"rules": ["roles", "roles"]}, RecipeError, "'roles' is named twice"),
        ({}, {"answer_schema": "no.json"}, RecipeError, "There is no readable schema 'no.json'"),
        ({}, {"max_tokens": 99}, RecipeError, "max_tokens = 99 is more than the base's context of 64"),
        ({}, {"group_by": "customer"}, DataError, 'No row has the column "customer". Columns: day.'),
        ({}, {"conflicts": "stop"}, DataError, "1 prompts have different answers: rows.csv line 2 and rows.csv line 3"),
    ],
)
def test_what_a_recipe_asks_in_vain(
    bench: Any, source: dict[str, Any], section: dict[str, Any], kind: type[BudwoodError], text: str
) -> None:
    (bench.folder / "rows.csv").write_text("text,label,day\nWhere is it?,a,Monday\nWhere is it?,b,Monday\n")
    given = {"path": "rows.csv", "columns": {"prompt": "text", "completion": "label"}} | source
    assert text in refused(bench, kind, given, context=64, **section)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "nonsense"}', "'schema.json' is no JSON Schema: \"nonsense\" is not valid"),
        ("{", "'schema.json' is no JSON Schema: Expecting property name"),
        ('{"not": ' * 3000 + "true" + "}" * 3000, "'schema.json' is no JSON Schema: maximum recursion depth exceeded"),
        ('{"$ref": "file:///etc/hostname"}', "file:///etc/hostname lies outside the schema"),
        ('{"$ref": "http://127.0.0.1:9/schema"}', "http://127.0.0.1:9/schema lies outside the schema"),
    ],
)
def test_a_schema_that_is_none(bench: Any, schema: str, said: str) -> None:
    (bench.folder / "schema.json").write_text(schema)
    (bench.folder / "rows.jsonl").write_text(GOOD)
    text = refused(bench, RecipeError, "rows.jsonl", answer_schema="schema.json")
    assert said in text
    assert "[prepare] answer_schema" in text


def test_a_schema_that_is_no_text(bench: Any) -> None:
    (bench.folder / "schema.json").write_bytes(b'{"title": "caf\xe9"}')
    (bench.folder / "rows.jsonl").write_text(GOOD)
    assert "'schema.json' is not UTF-8" in refused(bench, RecipeError, "rows.jsonl", answer_schema="schema.json")


def test_a_half_character_is_a_malformed_row(bench: Any) -> None:
    rows = "".join(GOOD.replace("order", f"order {i}{i}{i}") for i in range(200))
    (bench.folder / "rows.jsonl").write_text(rows + '{"prompt": "half \\ud83d", "completion": "x"}\n')
    snapshot = bench.prepare("rows.jsonl", near_duplicate=1.0)
    assert snapshot.reasons()[201] == ("read", "holds half a character (a lone surrogate)")


def test_grouping_by_personal_data_is_refused(bench: Any) -> None:
    name = bench.write("rows.jsonl", [{"prompt": "a", "completion": "b", "customer": "ann@example.org"}])
    text = refused(bench, DataError, name, group_by="customer")
    assert 'the column "customer", by which rows are grouped, holds personal data.' in text
    assert "ann@example.org" not in text


def make_broken_link(path: Path) -> None:
    path.symlink_to("nowhere.jsonl")


@pytest.mark.parametrize("make", [make_broken_link])
def test_a_link_to_nothing(bench: Any, make: Callable[[Path], None]) -> None:
    make(bench.folder / "link.jsonl")
    assert "There is no source 'link.jsonl'" in refused(bench, DataError, "link.jsonl")


def csv_rows(count: int, *, broken: dict[int, str]) -> str:
    """A CSV of `count` rows from line 2 on, some lines of it replaced."""
    lines = ["prompt,completion", *(f"question number {number},answer {number}" for number in range(2, count + 2))]
    for number, line in broken.items():
        lines[number - 1] = line
    return "\n".join(lines) + "\n"


def test_rows_that_an_open_quote_swallows_are_missed(bench: Any) -> None:
    (bench.folder / "rows.csv").write_text(csv_rows(6000, broken={4: 'a question,"an answer that is never closed'}))
    text = refused(bench, DataError, "rows.csv")
    assert text.startswith("4,039 of 6,000 rows of rows.csv cannot be read")
    assert "line 4: no CSV: field larger than field limit (131072); the quote opened on line 4 takes in" in text


def test_an_open_quote_at_the_end_takes_in_the_rest(bench: Any) -> None:
    (bench.folder / "rows.csv").write_text(csv_rows(400, broken={399: 'a question,"an answer'}))
    snapshot = bench.prepare("rows.csv", validation=0.0, test=0.0)
    assert snapshot.body["counts"]["read"] == 400
    assert len(snapshot.kept) + len(snapshot.rejected) == 400
    assert snapshot.reasons() == {
        399: ("read", "no CSV: unexpected end of data; the quote opened on line 399 takes in 3 lines"),
        400: ("read", "in the broken record that begins on line 399"),
        401: ("read", "in the broken record that begins on line 399"),
    }


@pytest.mark.parametrize(
    ("lines", "opened"),
    [
        (['"two', 'lines","and an open one', "of the next", 'a"b'], 3),
        (['say "hi","a ""quoted"" one', 'that goes on","open', 'x","y"z'], 4),
        (['"one ""and"" two","a doubled one""', "of the next", '"y"z'], 2),
    ],
)
def test_the_quote_that_is_to_blame_is_named(bench: Any, lines: list[str], opened: int) -> None:
    broken = dict(enumerate(lines, start=2))
    (bench.folder / "rows.csv").write_text(csv_rows(300, broken=broken))
    snapshot = bench.prepare("rows.csv", validation=0.0, test=0.0, max_malformed=1.0)
    assert snapshot.body["counts"]["read"] == 300
    assert any(f"the quote opened on line {opened} takes in" in reason for _, reason in snapshot.reasons().values())


def test_a_record_over_several_lines_with_a_column_too_few_counts_as_all_of_them(bench: Any) -> None:
    (bench.folder / "rows.csv").write_text(csv_rows(300, broken={10: '"one column', 11: 'over two lines"'}))
    snapshot = bench.prepare("rows.csv", validation=0.0, test=0.0)
    assert snapshot.reasons() == {
        10: ("read", "1 column where the header has 2; the quote opened on line 10 takes in 2 lines"),
        11: ("read", "in the broken record that begins on line 10"),
    }
