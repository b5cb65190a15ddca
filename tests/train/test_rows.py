from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from budwood.engine.packed import Encoded
from budwood.errors import DataError, TrainingError
from budwood.events import Event, silent
from budwood.train.row_cache import cached
from budwood.train.rows import checked_rows, encode_rows

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
    """Refuses odd rows."""

    def encode_row(self, messages: Sequence[Mapping[str, str]]) -> Encoded:
        if int(messages[0]["content"]) % 2:
            raise DataError("The row has no supervised token: it is empty.")
        return encoded(4)


def test_a_row_longer_than_the_context_is_refused_by_name() -> None:
    with pytest.raises(TrainingError) as caught:
        checked_rows([record(0), record(1)], [encoded(8), encoded(2913)], context=2048, stop_ids=(END,))
    assert str(caught.value) == (
        "Row 000000000000 (tickets.jsonl line 812) is 2,913 tokens long, the base's context is 2,048.\n"
        "    Set [prepare] max_tokens to the context or less; rows are never cut."
    )


def test_an_answer_without_a_trained_end_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"line 811.*would never learn to stop"):
        checked_rows([record(0)], [encoded(8, last=7)], context=64, stop_ids=(END,))


def test_a_row_whose_only_supervised_token_is_its_first_is_refused() -> None:
    with pytest.raises(TrainingError, match="no supervised token"):
        checked_rows([record(0)], [Encoded((END, 5), (True, False))], context=64, stop_ids=(END,))


def test_rows_that_cannot_be_rendered_are_counted_and_some_named() -> None:
    with pytest.raises(TrainingError) as caught:
        encode_rows([record(number) for number in range(12)], Template(), report=silent)
    assert caught.value.what.startswith("Row 000000000000 (tickets.jsonl line 812): The row has no supervised token")
    assert caught.value.what.endswith("3 more rows are like this.")


def test_reading_many_rows_is_not_silent() -> None:
    events: list[Event] = []
    encode_rows([record(2 * number) for number in range(1200)], Template(), report=events.append)
    assert [event.done for event in events] == [500, 1000]


def test_kept_tokens_are_those_that_were_made(tmp_path: Path) -> None:
    rows = [encoded(4), encoded(9, supervised=5), encoded(3)]
    path = tmp_path / "train.safetensors"
    assert cached(path, lambda: rows) == rows
    assert cached(path, lambda: []) == rows
    assert cached(tmp_path / "none.safetensors", lambda: []) == []
    assert cached(tmp_path / "none.safetensors", lambda: rows) == []
