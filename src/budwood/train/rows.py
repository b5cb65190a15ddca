"""Rows of a snapshot as tokens, each checked before the first step: nothing is cut, nothing is trained on in part."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from budwood.errors import DataError, TrainingError
from budwood.events import Event, Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from budwood.engine.packed import Encoded

SHOWN = 3
"""Faulty rows that an error names; the rest is counted."""
TICK = 500
"""Rows between two signs of life."""


class Template(Protocol):
    """What is needed of a chat template (`engine.chat.ChatTemplate`)."""

    def encode_row(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> "Encoded": ...


@dataclass(frozen=True, slots=True)
class TrainRow:
    """A row to train on, or to validate with.

    Args:
        encoded: its tokens.
        row_id: digest of source file and line.
        file: the source file's name, as the recipe has it.
        line: in that file, from 1.
        weight: how often an epoch takes the row.
    """

    encoded: "Encoded"
    row_id: str
    file: str
    line: int
    weight: float

    def __str__(self) -> str:
        return f"{self.row_id[:12]} ({self.file} line {self.line:,})"


class Rows(Protocol):
    """Rows that are read as they are asked for (`table.RowTable`), and columns of them that are had at once."""

    @property
    def lengths(self) -> "NDArray[np.int64]":
        """Tokens of each row."""
        ...

    @property
    def weights(self) -> "NDArray[np.float64]": ...

    @property
    def names(self) -> Sequence[str]:
        """Row ids."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainRow: ...


@dataclass
class Faults:
    """Rows of one kind of fault: some named, all counted."""

    mend: str
    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.named) < SHOWN:
            self.named.append(text)

    def refuse(self) -> None:
        """Raise TrainingError if there are any."""
        if self.count:
            more = f" {self.count - SHOWN:,} more rows are like this." if self.count > SHOWN else ""
            raise TrainingError(" ".join(self.named) + more, mend=self.mend)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read a split of a snapshot, a row at a time."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def checked_rows(
    records: Iterable[Mapping[str, Any]],
    template: Template,
    *,
    context: int,
    stop_ids: tuple[int, ...],
    total: int | None,
    report: Reporter,
) -> Iterator[TrainRow]:
    """Turn rows into tokens and check each; only what is whole is given.

    Args:
        records: rows of the snapshot.
        template: of the base.
        context: longest row that the base can see, in tokens.
        stop_ids: tokens that end an answer.
        total: how many rows there are, if that is known.
        report: gets signs of life.

    Raises:
        TrainingError: after the last row: some could not be rendered, are longer than the base's context, have no supervised
            token, or have an answer that does not end in a trained end token, which would make a model that never stops. All
            are counted, some named.
    """
    broken = Faults("Mend or reject these rows in [prepare], then prepare again.")
    long = Faults("Set [prepare] max_tokens to the context or less; rows are never cut.")
    untaught = Faults("Look at the base's chat template and at the row.")
    for number, record in enumerate(records):
        if number % TICK == TICK - 1:
            report(Event("train", "Reading rows", done=number + 1, total=total, unit="rows"))
        source = record["source"]
        try:
            encoded = template.encode_row(record["messages"], record.get("tools", ()))
        except DataError as error:
            broken.add(f"Row {record['row_id'][:12]} ({source['file']} line {source['line']:,}): {error.what}")
            continue
        row = TrainRow(encoded, record["row_id"], source["file"], source["line"], record["weight"])
        if len(encoded.ids) > context:
            long.add(f"Row {row} is {len(encoded.ids):,} tokens long, the base's context is {context:,}.")
        elif fault := _supervision(row, stop_ids):
            untaught.add(fault)
        else:
            yield row
    for faults in (broken, long, untaught):
        faults.refuse()


def _supervision(row: TrainRow, stop_ids: tuple[int, ...]) -> str:
    # A row's first token cannot be predicted from anything, so it does not count as learnt.
    wanted = [index for index, mark in enumerate(row.encoded.supervised) if mark and index > 0]
    if not wanted:
        return f"Row {row} has no supervised token."
    if row.encoded.ids[wanted[-1]] not in stop_ids:
        return f"Row {row} ends its answer without a supervised end token: the model would never learn to stop."
    return ""
