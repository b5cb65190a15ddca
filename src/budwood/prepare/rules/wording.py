"""What the rules that read an answer's wording have in common: what they do with what they find, and which texts they read."""

from collections.abc import Iterator
from typing import Literal

from budwood.prepare.row import Drop, Message, Row

Action = Literal["flag", "drop", "off"]


def answers(row: Row) -> Iterator[tuple[str, str]]:
    """Yield each answer that is learnt, with the message before it; those that call tools say nothing of their own."""
    before = ""
    for message in row.messages:
        if message.role == "assistant" and message.trained and not message.calls:
            yield message.content, before
        before = message.content


def judge(row: Row, name: str, action: Action, reason: str, *, certain: bool = True) -> Row | Drop:
    """Drop or flag a row for a reason; one that is not certain only flags."""
    if not certain:
        return row.touch(name, "flagged", f"perhaps {reason}")
    return Drop(reason) if action == "drop" else row.touch(name, "flagged", reason)


def prompt_of(row: Row) -> Message | None:
    """The last message that a user wrote."""
    return next((message for message in reversed(row.messages) if message.role == "user"), None)
