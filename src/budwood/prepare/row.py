"""One row on its way through the stage: its messages, where it came from, and what touched it.

Rows are immutable; a rule that changes one returns another. Anything that is kept of a row's history is words of ours
("2 e-mail addresses redacted"), never words of the row.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from budwood.errors import DataError
from budwood.identity import Digest, digest_bytes
from budwood.tool_calls import Call, Tool, mapped, strings, with_arguments

Declared = Literal["auto", "train", "test"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Scalar = str | int | float | bool | None


class TokenLength(Protocol):
    def __call__(self, messages: list[dict[str, Any]], tools: Sequence[Tool] = (), /) -> int:
        """Count a row's tokens after its chat template.

        Raises:
            DataError: no token of it can be learnt.
        """
        ...


@runtime_checkable
class BatchLength(TokenLength, Protocol):
    """One that is faster on many rows."""

    def many(self, rows: Sequence[tuple[list[dict[str, Any]], Sequence[Tool]]], /) -> Sequence[int | DataError]:
        """Count the tokens of rows, given as messages and tools; what a call would raise is given in the row's place."""
        ...


class Message(NamedTuple):
    """One turn.

    Args:
        role: who speaks.
        content: the text; empty beside calls that say it all.
        trained: whether an answer is learnt, or only stands in the conversation.
        calls: what an answer calls, as `tool_calls.read_calls` gives it.
        call_id: of a tool's result: the call's; empty where none was given.
        name: of a tool's result: the function's; empty where none was given.
    """

    role: str
    content: str
    trained: bool = True
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""

    @property
    def texts(self) -> Iterable[str]:
        """Everything in it that somebody wrote."""
        if not self.calls and not self.name:
            return (self.content,)
        return strings((self.content, [call["function"] for call in self.calls], self.name))

    def mend(self, change: Callable[[str], str], *, arguments: bool = True) -> "Message":
        """Change its text and, unless told otherwise, the texts of its calls' arguments; names stay."""
        content = change(self.content)
        if self.calls and arguments:
            calls = tuple(with_arguments(call, lambda held: mapped(held, change)) for call in self.calls)
            return self._replace(content=content, calls=calls)
        return self if content is self.content or content == self.content else self._replace(content=content)

    def as_json(self) -> dict[str, Any]:
        """Give the form that a snapshot holds and a chat template takes; what is not said is left out."""
        said = {"tool_call_id": self.call_id, "name": self.name, "tool_calls": list(self.calls)}
        flag = {} if self.trained else {"train": False}
        return {"role": self.role, "content": self.content} | {key: value for key, value in said.items() if value} | flag

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Message":
        """Read what `as_json` wrote."""
        calls = tuple(value.get("tool_calls", ()))
        trained = bool(value.get("train", True))
        return cls(value["role"], value["content"], trained, calls, value.get("tool_call_id", ""), value.get("name", ""))


class Origin(NamedTuple):
    """Where a row stands: file as the recipe names it, digest of its bytes, line (JSON, Parquet: number of the record)."""

    file: str
    sha256: Digest
    line: int

    @property
    def row_id(self) -> str:
        return row_ids(self.sha256, [self.line])[0]

    def __str__(self) -> str:
        return f"{self.file} line {self.line:,}"


def row_ids(sha256: Digest, lines: Iterable[int]) -> list[str]:
    """Name rows by the digest of their file's bytes and the lines they stand on."""
    # Canonical JSON of [sha256, line], written out: a million rows are named so.
    before = f'["{sha256}",'.encode()
    return [digest_bytes(b"%b%d]" % (before, line))[:16] for line in lines]


class Touch(NamedTuple):
    """What a rule did to a row that stayed."""

    rule: str
    kind: Literal["changed", "flagged"]
    reason: str


class Drop(NamedTuple):
    """A rule's answer for a row that must go; `rule` names another than the rule itself, where that only passes it on."""

    reason: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is still in.

    Args:
        messages: in order; at least one.
        slices: the other columns of its record that hold plain values.
        declared: what its source says of splits; "test" is a published test file, kept whole.
        tokens: length after the chat template, None until measured.
        tools: schemas of the functions that answers may call.
    """

    row_id: str
    origin: Origin
    messages: tuple[Message, ...]
    slices: Mapping[str, Scalar]
    weight: float
    declared: Declared
    touched: tuple[Touch, ...] = ()
    tokens: int | None = None
    tools: tuple[Tool, ...] = ()

    @property
    def calls_tools(self) -> bool:
        """Whether it holds a call or a result."""
        # A generator would take three times as long, and every rule asks.
        for message in self.messages:  # noqa: SIM110
            if message.calls or message.role == "tool":
                return True
        return False

    @property
    def answer(self) -> str:
        """The text of the last message, when the assistant wrote it; else empty."""
        last = self.messages[-1]
        return last.content if last.role == "assistant" else ""

    def touch(self, rule: str, kind: Literal["changed", "flagged"], reason: str) -> "Row":
        return replace(self, touched=(*self.touched, Touch(rule, kind, reason)))

    def mend(self, rule: str, reason: str, mend: Callable[[str], str], *, arguments: bool = True) -> "Row":
        """Pass every message's text, and those of its calls' arguments, through `mend`; the same row where nothing changes."""
        return self.mend_at(range(len(self.messages)), rule, reason, mend, arguments=arguments)

    def mend_at(
        self, at: Collection[int], rule: str, reason: str, mend: Callable[[str], str], *, arguments: bool = True
    ) -> "Row":
        """Do the same to the messages at these places alone."""
        messages = tuple(
            message.mend(mend, arguments=arguments) if place in at else message for place, message in enumerate(self.messages)
        )
        if messages == self.messages:
            return self
        places = [place for place, message in enumerate(self.messages) if messages[place] != message]
        where = ", ".join(f"{self.messages[i].role} message {i + 1}" for i in places)
        return replace(self, messages=messages, touched=(*self.touched, Touch(rule, "changed", f"{reason} in {where}")))

    def chat(self) -> list[dict[str, Any]]:
        """Give the messages as a snapshot holds them."""
        return [message.as_json() for message in self.messages]

    def __str__(self) -> str:
        return f"Row {self.row_id} ({self.origin})"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is out: the rule, the reason, and what it held: messages, tools, columns; or an unreadable record's text."""

    origin: Origin
    rule: str
    reason: str
    content: tuple[Message, ...] | str
    tools: tuple[Tool, ...] = ()
    slices: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def row_id(self) -> str:
        return self.origin.row_id
