"""A row's line in a snapshot, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from budwood.prepare.row import Rejected, Row, Split
from budwood.tool_calls import mapped


@dataclass(frozen=True, slots=True)
class Placed:
    """A kept row with its place."""

    row: Row
    group: str
    split: Split


def as_json(placed: Placed) -> dict[str, Any]:
    """Give a kept row the form it has in a snapshot."""
    row = placed.row
    return {
        "row_id": row.row_id,
        "messages": row.chat(),
        **({"tools": list(row.tools)} if row.tools else {}),
        "source": row.origin._asdict(),
        "group": placed.group,
        "split": placed.split,
        "slices": dict(row.slices),
        "weight": row.weight,
        **({} if row.tokens is None else {"tokens": row.tokens}),
        "touched": [touch._asdict() for touch in row.touched],
    }


def rejected_as_json(rejected: Rejected, redact: Callable[[str], str]) -> dict[str, Any]:
    """Give a rejected row the form it has in a snapshot; its text passes `redact` first, since no rule may have seen it."""
    line: dict[str, Any] = {
        "row_id": rejected.row_id,
        "source": rejected.origin._asdict(),
        "rule": rejected.rule,
        "reason": rejected.reason,
    }
    if isinstance(rejected.content, str):
        return line | {"raw": redact(rejected.content)}
    messages = [mapped(message._replace(trained=True).as_json(), redact, keys=True) for message in rejected.content]
    tools = {"tools": mapped(rejected.tools, redact, keys=True)} if rejected.tools else {}
    slices = {"slices": mapped(rejected.slices, redact)} if rejected.slices else {}
    return line | {"messages": messages} | tools | slices
