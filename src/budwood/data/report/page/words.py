"""Texts of rows as HTML: always redacted, always clipped."""

from collections.abc import Mapping
from typing import Any

from budwood.data.rows import KeptRow, RejectedRow
from budwood.page.markup import clipped, text
from budwood.text.pii import redact
from budwood.tool_calls import shown

LONGEST = 700
LONGEST_VALUE = 80


def passage(value: str, longest: int = LONGEST) -> str:
    """A text of a row."""
    # Cut with some room before it is redacted: an address at the edge must not survive as half of one.
    kept = redact(value[: longest + 200]).text[:longest]
    more = len(value) - len(kept)
    return clipped(kept) + (f'<span class="more">… {more:,} more characters</span>' if len(value) > longest else "")


def value(held: str) -> str:
    """A value of a column or a label."""
    return text(redact(held).text[:LONGEST_VALUE]) or '<span class="more">(empty)</span>'


def chat(messages: list[Mapping[str, Any]]) -> str:
    """A row's turns."""
    room = LONGEST
    parts = []
    for message in messages:
        said = shown(message)
        parts.append(f"<b>{text(message['role'])}</b> {passage(said, max(80, room))}")
        room -= len(said)
        if room <= 0 and len(parts) < len(messages):
            parts.append(f'<span class="more">… {len(messages) - len(parts):,} more messages</span>')
            break
    return f"<pre>{chr(10).join(parts)}</pre>"


def row(one: KeptRow | RejectedRow) -> str:
    """What a row holds: its turns, or the raw text of one that could not be read."""
    return (
        chat(list(one.value["messages"])) if "messages" in one.value else f"<pre>{passage(str(one.value.get('raw', '')))}</pre>"
    )


def place(one: KeptRow | RejectedRow) -> str:
    """Where a row stood, and its id."""
    return f"{text(one.file)} line {one.line:,} <code>{text(one.row_id)}</code>"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
