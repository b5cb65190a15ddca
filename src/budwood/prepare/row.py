"""One row on its way through the stage: its messages, where it came from, and what touched it.

Rows are immutable; a rule that changes one returns another. Anything that is kept of a row's history is words of ours
("2 e-mail addresses redacted"), never words of the row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from budwood.identity import Digest, digest_json

Declared = Literal["auto", "train", "test"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Scalar = str | int | float | bool | None
TokenLength = Callable[[list[dict[str, Any]]], int]
"""Messages → tokens of the row after its chat template. Raises DataError for a row that no token of can be learnt from."""


class Message(NamedTuple):
    """One turn; `trained`: whether an answer is learnt, or only stands in the conversation."""

    role: str
    content: str
    trained: bool = True


class Origin(NamedTuple):
    """Where a row stands: file as the recipe names it, digest of its bytes, line (JSON, Parquet: number of the record)."""

    file: str
    sha256: Digest
    line: int

    @property
    def row_id(self) -> str:
        return digest_json([self.sha256, self.line])[:16]

    def __str__(self) -> str:
        return f"{self.file} line {self.line:,}"


class Touch(NamedTuple):
    """What a rule did to a row that stayed."""

    rule: str
    kind: Literal["changed", "flagged"]
    reason: str


class Drop(NamedTuple):
    """A rule's answer for a row that must go."""

    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is still in.

    Args:
        messages: in order; at least one.
        slices: the other columns of its record that hold plain values.
        declared: what its source says of splits; "test" is a published test file, kept whole.
        tokens: length after the chat template, None until measured.
    """

    row_id: str
    origin: Origin
    messages: tuple[Message, ...]
    slices: Mapping[str, Scalar]
    weight: float
    declared: Declared
    touched: tuple[Touch, ...] = ()
    tokens: int | None = None

    @property
    def answer(self) -> str:
        """The last message, when the assistant wrote it; else empty."""
        last = self.messages[-1]
        return last.content if last.role == "assistant" else ""

    def touch(self, rule: str, kind: Literal["changed", "flagged"], reason: str) -> "Row":
        return replace(self, touched=(*self.touched, Touch(rule, kind, reason)))

    def mend(self, rule: str, reason: str, mend: Callable[[str], str]) -> "Row":
        """Pass every message's text through `mend`; the same row where that changes nothing."""
        contents = [mend(message.content) for message in self.messages]
        places = [i for i, message in enumerate(self.messages) if contents[i] != message.content]
        if not places:
            return self
        messages = tuple(m._replace(content=text) for m, text in zip(self.messages, contents, strict=True))
        where = ", ".join(f"{self.messages[i].role} message {i + 1}" for i in places)
        return replace(self, messages=messages, touched=(*self.touched, Touch(rule, "changed", f"{reason} in {where}")))

    def chat(self) -> list[dict[str, Any]]:
        """Give the messages as a snapshot holds them: `"train": false` only where it is said."""
        return [{"role": m.role, "content": m.content} | ({} if m.trained else {"train": False}) for m in self.messages]

    def __str__(self) -> str:
        return f"Row {self.row_id} ({self.origin})"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is out: the rule, the reason, and what it held: messages, or the raw text of an unreadable record."""

    origin: Origin
    rule: str
    reason: str
    content: tuple[Message, ...] | str

    @property
    def row_id(self) -> str:
        return self.origin.row_id


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
        "source": row.origin._asdict(),
        "group": placed.group,
        "split": placed.split,
        "slices": dict(row.slices),
        "weight": row.weight,
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
    return line | {"messages": [{"role": m.role, "content": redact(m.content)} for m in rejected.content]}
