"""Rows of a snapshot as tokens, each checked before the first step: nothing is cut, nothing is trained on in part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from budwood.errors import DataError, TrainingError
from budwood.events import Event, Reporter

if TYPE_CHECKING:
    from budwood.engine.packed import Encoded

SHOWN = 3
"""Faulty rows that an error names; the rest is counted."""
TICK = 500
"""Rows between two signs of life."""


class Template(Protocol):
    """What is needed of a chat template (`engine.chat.ChatTemplate`)."""

    def encode_row(self, messages: Sequence[Mapping[str, str]]) -> "Encoded": ...


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


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a split of a snapshot."""
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


def encode_rows(records: Sequence[Mapping[str, Any]], template: Template, *, report: Reporter) -> "list[Encoded]":
    """Turn messages into tokens.

    Raises:
        TrainingError: rows without a supervised token, or that the template can't render; all are counted, some named.
    """
    encoded: list[Encoded] = []
    faults: list[str] = []
    for number, record in enumerate(records):
        try:
            encoded.append(template.encode_row(record["messages"]))
        except DataError as error:
            faults.append(f"Row {_name(record)}: {error.what}")
        if number % TICK == TICK - 1:
            report(Event("train", "Reading rows", done=number + 1, total=len(records), unit="rows"))
    _refuse(faults, "Mend or reject these rows in [prepare], then prepare again.")
    return encoded


def checked_rows(
    records: Sequence[Mapping[str, Any]], encoded: "Sequence[Encoded]", *, context: int, stop_ids: tuple[int, ...]
) -> list[TrainRow]:
    """Join tokens with where they came from.

    Args:
        records: rows of the snapshot.
        encoded: their tokens, in the same order.
        context: longest row that the base can see, in tokens.
        stop_ids: tokens that end an answer.

    Raises:
        TrainingError: a row longer than the base's context, without a supervised token, or whose answer does not end in a
            trained end token, which would make a model that never stops.
    """
    rows = [
        TrainRow(tokens, record["row_id"], record["source"]["file"], record["source"]["line"], record["weight"])
        for record, tokens in zip(records, encoded, strict=True)
    ]
    too_long = [
        f"Row {row} is {len(row.encoded.ids):,} tokens long, the base's context is {context:,}."
        for row in rows
        if len(row.encoded.ids) > context
    ]
    _refuse(too_long, "Set [prepare] max_tokens to the context or less; rows are never cut.")
    untaught = [fault for row in rows if (fault := _supervision(row, stop_ids))]
    _refuse(untaught, "Look at the base's chat template and at the row.")
    return rows


def _supervision(row: TrainRow, stop_ids: tuple[int, ...]) -> str:
    # A row's first token cannot be predicted from anything, so it does not count as learnt.
    wanted = [index for index, mark in enumerate(row.encoded.supervised) if mark and index > 0]
    if not wanted:
        return f"Row {row} has no supervised token."
    if row.encoded.ids[wanted[-1]] not in stop_ids:
        return f"Row {row} ends its answer without a supervised end token: the model would never learn to stop."
    return ""


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['row_id'][:12]} ({record['source']['file']} line {record['source']['line']:,})"


def _refuse(faults: Sequence[str], mend: str) -> None:
    if faults:
        more = f" {len(faults) - SHOWN:,} more rows are like this." if len(faults) > SHOWN else ""
        raise TrainingError(" ".join(faults[:SHOWN]) + more, mend=mend)
