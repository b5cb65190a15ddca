"""Benchmark files that the recipe names, and published test files among its sources: what must not be trained on.

    benchmarks = read_benchmarks(recipe.prepare, recipe.source, folder=recipe.folder)

They are read by the readers of sources, and are whole or refused: a row that cannot be read could not be guarded.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budwood.errors import BudwoodError, DataError, RecipeError
from budwood.identity import Digest
from budwood.prepare.files import open_file
from budwood.prepare.records import Malformed, Record, records
from budwood.prepare.shapes import Content, Misshapen, convert, recognise
from budwood.recipe import BenchmarkSection, PrepareSection, SourceSection
from budwood.text.normalise import normalise

LOOKED_AT = 50
"""Records from which the layout of a file is recognised."""
PROMPTS = ("prompt", "question", "instruction", "problem", "query", "input", "text", "sentence", "goal", "premise")
ANSWERS = ("completion", "answer", "output", "response", "solution", "target", "label", "category")
"""Columns of benchmarks that have no layout of ours, in the order in which they are looked for."""
WHERE = "[prepare] benchmarks"


@dataclass(frozen=True)
class BenchmarkRow:
    """One row, normalised.

    Args:
        line: where it stands in its file.
        prompt: the turns before the answer, without system messages.
        answer: empty where there is none.
    """

    line: int
    prompt: str
    answer: str


@dataclass(frozen=True)
class Benchmark:
    """A file that must not be trained on.

    Args:
        name: what reports call it.
        sha256: of its bytes.
        rows: all of them.
        published: whether it is a test file among the sources that is not named as a benchmark besides.
    """

    name: str
    sha256: Digest
    rows: tuple[BenchmarkRow, ...]
    published: bool


def read_benchmarks(section: PrepareSection, sources: Sequence[SourceSection], *, folder: Path) -> tuple[Benchmark, ...]:
    """Read the files that the recipe names, then the published test files that it does not name besides.

    Raises:
        DataError: one that is missing, that cannot be read to its last row, or that holds no prompt.
        RecipeError: columns that are no part of a row, one name for two files, or one file named twice.
    """
    named = [_read(benchmark, folder) for benchmark in section.benchmarks]
    _check_distinct(named)
    known = {benchmark.sha256 for benchmark in named}
    published = [_published(source, folder) for source in sources if source.split == "test"]
    return (*named, *(benchmark for benchmark in published if benchmark.sha256 not in known))


def _read(section: BenchmarkSection, folder: Path) -> Benchmark:
    unknown = [part for part in section.columns if part not in ("prompt", "completion")]
    if unknown or (section.columns and "prompt" not in section.columns):
        what = f'"{unknown[0]}" is no part of a benchmark\'s row' if unknown else "columns needs prompt"
        raise RecipeError(f"{what}.", where=WHERE, mend='e.g. columns = { prompt = "question", completion = "answer" }.')
    if not (folder / section.path).is_file():
        raise DataError(
            f"There is no benchmark {section.path!r}.", where=WHERE, mend="Paths start at the recipe's folder; check it."
        )
    digest, rows = _rows(section, folder)
    return Benchmark(section.name or section.path, digest, rows, published=False)


def _published(source: SourceSection, folder: Path) -> Benchmark:
    columns = {part: column for part, column in source.columns.items() if part != "system"}
    section = BenchmarkSection(
        path=source.path, format=source.format, columns=columns, encoding=source.encoding, separator=source.separator
    )
    digest, rows = _rows(section, folder, whole=False)
    return Benchmark(source.path, digest, rows, published=True)


def _rows(section: BenchmarkSection, folder: Path, *, whole: bool = True) -> tuple[Digest, tuple[BenchmarkRow, ...]]:
    """Read the rows; where `whole` is False, those that cannot be read are left to the reader of sources."""
    try:
        how = {"encoding": section.encoding, "separator": section.separator}
        with open_file(folder / section.path, shown=section.path, **how) as file:
            stream = records(file)
            first = list(itertools.islice(stream, LOOKED_AT))
            layout = _Layout.of(section, [record.value for record in first if isinstance(record, Record)])
            read = [_row(record, layout, section.path, whole=whole) for record in itertools.chain(first, stream)]
            digest = file.sha256
    except BudwoodError as fault:
        where = fault.where if not whole else WHERE
        raise type(fault)(fault.what, where=where, mend=fault.mend) from None
    rows = tuple(row for row in read if row is not None and row.prompt)
    if not rows and whole:
        raise DataError(f"No row of {section.path} has a prompt.", where=WHERE, mend="Name its column: columns.prompt.")
    return digest, rows


@dataclass(frozen=True)
class _Layout:
    """How a record becomes a prompt and an answer: by a layout of ours, or else from two columns."""

    shape: Any
    columns: Mapping[str, str]

    @classmethod
    def of(cls, section: BenchmarkSection, first: Sequence[Mapping[str, Any]]) -> "_Layout":
        present = {key for record in first for key in record}
        missing = [column for column in section.columns.values() if first and column not in present]
        if missing:
            shown = ", ".join(sorted(present)[:20])
            raise DataError(f'{section.path} has no column "{missing[0]}". Its columns: {shown}.', mend="Correct the name.")
        if section.columns:
            return cls(None, section.columns)
        if section.format != "auto":
            return cls(section.format, {})
        try:
            return cls(recognise(first, shown=section.path), {})
        except DataError:
            prompt = next((name for name in PROMPTS if name in present), None)
            answer = next((name for name in ANSWERS if name in present and name != prompt), None)
            if prompt is None:
                raise
            return cls(None, {"prompt": prompt} | ({"completion": answer} if answer else {}))

    def texts(self, value: Mapping[str, Any]) -> tuple[str, str]:
        if self.shape is None:
            prompt, answer = (_plain(value, self.columns.get(part, "")) for part in ("prompt", "completion"))
            return prompt, answer
        content: Content = convert(value, self.shape, self.columns)
        turns = [message for message in content.messages if message.role != "system"]
        answer = turns.pop().content if turns and turns[-1].role == "assistant" else ""
        return " ".join(message.content for message in turns), answer


def _plain(value: Mapping[str, Any], column: str) -> str:
    held = value.get(column) if column else ""
    if held is None or isinstance(held, str | int | float | bool):
        return "" if held is None else str(held)
    raise Misshapen(f'"{column}" is no text')


def _row(record: Record | Malformed, layout: _Layout, shown: str, *, whole: bool) -> BenchmarkRow | None:
    if isinstance(record, Record):
        try:
            prompt, answer = layout.texts(record.value)
            return BenchmarkRow(record.line, normalise(prompt), normalise(answer))
        except Misshapen as fault:
            reason = str(fault)
    else:
        reason = record.reason
    if not whole:
        return None
    raise DataError(
        f"{shown} line {record.line:,} cannot be read: {reason}.", mend="Correct it: a row that is not read cannot be guarded."
    )


def _check_distinct(named: Sequence[Benchmark]) -> None:
    for number, benchmark in enumerate(named):
        for other in named[:number]:
            if benchmark.sha256 == other.sha256:
                raise RecipeError(f"{benchmark.name} holds the same bytes as {other.name}.", where=WHERE, mend="Name it once.")
            if benchmark.name == other.name:
                raise RecipeError(f'Two benchmarks are called "{benchmark.name}".', where=WHERE, mend="Give one a name.")
