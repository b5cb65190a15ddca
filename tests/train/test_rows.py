from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from budwood.engine.packed import Encoded
from budwood.errors import DataError, TrainingError
from budwood.events import Event, Reporter, silent
from budwood.train.rows import TrainRow, checked_rows

END = 1


def record(number: int) -> dict[str, Any]:
    return {
        "row_id": f"{number:016x}",
        "messages": [{"role": "user", "content": str(number)}],
        "source": {"file": "tickets.jsonl", "sha256": "", "line": 811 + number},
        "weight": 1.0,
    }


def encoded(length: int, *, last: int = END, supervised: int = 2) -> Encoded:
    return Encoded((*range(5, 4 + length), last), tuple(index >= length - supervised for index in range(length)))


class Template:
    """Gives the rows that it was made with in turn; None is refused."""

    def __init__(self, *rows: Encoded | None) -> None:
        self._rows = iter(rows)

    def encode_row(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Encoded:
        row = next(self._rows)
        if row is None:
            raise DataError("The row has no supervised token: it is empty.")
        return row


def check(*rows: Encoded | None, context: int = 64, report: Reporter = silent) -> list[TrainRow]:
    records = [record(number) for number in range(len(rows))]
    made = checked_rows(records, Template(*rows), context=context, stop_ids=(END,), total=len(rows), report=report)
    return list(made)


def test_a_row_longer_than_the_context_is_refused_by_name() -> None:
    with pytest.raises(TrainingError) as caught:
        check(encoded(8), encoded(2913), context=2048)
    assert str(caught.value) == (
        "Row 000000000000 (tickets.jsonl line 812) is 2,913 tokens long, the base's context is 2,048.\n"
        "    Set [prepare] max_tokens to the context or less; rows are never cut."
    )


def test_an_answer_without_a_trained_end_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"line 811.*would never learn to stop"):
        check(encoded(8, last=7))


def test_a_row_whose_only_supervised_token_is_its_first_is_refused() -> None:
    with pytest.raises(TrainingError, match="no supervised token"):
        check(Encoded((END, 5), (True, False)))


def test_rows_that_cannot_be_rendered_are_counted_and_some_named() -> None:
    with pytest.raises(TrainingError) as caught:
        check(*(None if number % 2 else encoded(4) for number in range(12)))
    assert caught.value.what.startswith("Row 000000000000 (tickets.jsonl line 812): The row has no supervised token")
    assert caught.value.what.endswith("3 more rows are like this.")


def test_of_several_kinds_of_fault_the_first_is_told() -> None:
    with pytest.raises(TrainingError, match="is empty"):
        check(encoded(80), None, encoded(4, last=7))


def test_reading_many_rows_is_not_silent() -> None:
    events: list[Event] = []
    assert len(check(*[encoded(4)] * 1200, report=events.append)) == 1200
    assert [(event.done, event.total) for event in events] == [(500, 1200), (1000, 1200)]
