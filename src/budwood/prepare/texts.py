"""What rows say, read again from the spools for the few that have to be compared."""

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from budwood.prepare.columns import Batch, Table
from budwood.prepare.row import Message
from budwood.prepare.said import said_by, task_text
from budwood.prepare.spool import Shelf

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


class Texts:
    def __init__(self, table: Table, shelf: Shelf) -> None:
        self._batches, self._first = table.batches, table.first.tolist()
        self._shelf = shelf
        self._begins: dict[int, NDArray[int64]] = {}

    def turns(self, row: int) -> str:
        """What a row asks, normalised."""
        _, batch, within = self._find(row)
        start, end = batch.text_ends[within : within + 2].tolist()
        return self._shelf.read(batch.texts.name, batch.texts.start + start, end - start).decode("utf-8")

    def answer(self, row: int) -> str:
        """A new row's answer, normalised but for calls."""
        return said_by(Message.from_json(self.value(row)["messages"][-1]))

    def task(self, row: int) -> str:
        """What of a new row's prompt is no turn: system message and tools."""
        value = self.value(row)
        return task_text([Message.from_json(message) for message in value["messages"]], value.get("tools", ()))

    def value(self, row: int) -> dict[str, Any]:
        """A row as its line has it, up to its group; one of an earlier snapshot only where its lines were kept."""
        number, batch, within = self._find(row)
        begins = self._begins_of(number, batch)
        head = int(batch.lengths[batch.live, 0][within])
        line = self._shelf.read(batch.lines.name, batch.lines.start + int(begins[within]), head)
        # The head of a line ends within the value of "group".
        value: dict[str, Any] = json.loads(line + b'"}')
        return value

    def _find(self, row: int) -> tuple[int, Batch, int]:
        number = bisect_right(self._first, row) - 1
        return number, self._batches[number], row - self._first[number]

    def _begins_of(self, number: int, batch: Batch) -> "NDArray[int64]":
        """Where the lines of a batch's rows begin; kept for the batch that was asked for last."""
        import numpy

        if number not in self._begins:
            sizes = batch.lengths.sum(axis=1, dtype=numpy.int64)
            self._begins = {number: (numpy.cumsum(sizes) - sizes)[batch.live]}
        return self._begins[number]
