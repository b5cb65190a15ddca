"""tool_turns: in a conversation that calls tools, results follow their calls, one each, and calls fit the tools listed.

At most one system message, then user and assistant in turn; between a message that calls and the next answer stand the
results and nothing else. What is unanswered at the end (results, or a user message) is taken off, with a record: a row may
end with a call, and that call is learnt. Another disorder drops the row, and so does a call of a function that is not listed or
with arguments that break its schema. This rule always runs, and looks at rows with calls or results alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Message, Row, Touch
from budwood.prepare.rules.rule import Pair
from budwood.prepare.rules.tool_arguments import argument_fault, unchecked
from budwood.tool_calls import link_fault

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class ToolTurns:
    name: ClassVar[str] = "tool_turns"
    version: ClassVar[int] = 2

    def options(self) -> dict[str, Any]:
        return {"roles": list(ROLES)}

    def leaves(self, pair: Pair) -> bool:
        return True

    def apply(self, row: Row) -> Row | Drop:
        if not row.calls_tools:
            return row
        unknown = next((place for place, message in enumerate(row.messages, start=1) if message.role not in ROLES), 0)
        if unknown:
            return Drop(f"message {unknown} is from another role; known are {', '.join(ROLES)}")
        last = max((place for place, message in enumerate(row.messages) if message.role == "assistant"), default=-1)
        messages = row.messages[: last + 1] or row.messages
        fault = _link(messages) or _order(messages) or _names(messages, row) or argument_fault(messages, row.tools)
        if fault:
            return Drop(fault)
        if blind := unchecked(messages, row.tools):
            row = row.touch(self.name, "flagged", f"parameters of {blind} called functions are no JSON Schema: not checked")
        if messages == row.messages:
            return row
        touch = Touch(self.name, "changed", "last messages without an answer taken off")
        return replace(row, messages=messages, touched=(*row.touched, touch))


def _link(messages: Sequence[Message]) -> str:
    fault = link_fault([message.as_json() for message in messages], first=1)
    return f"message {fault.message + 1} {fault.reason}" if fault else ""


def _order(messages: Sequence[Message]) -> str:
    """Results are in their places already; the rest is user and assistant in turn, and an assistant after results."""
    before = "system" if messages[0].role == "system" else ""
    for place, message in enumerate(messages[bool(before) :], start=1 + bool(before)):
        expected = {"user": "assistant", "tool": "assistant"}.get(before, "user")
        if message.role == "system":
            return "a system message that is not the first"
        if message.role not in (expected, "tool"):
            return f"message {place} is from {message.role} where {expected} is expected"
        if message.role == "user" and not message.content.strip():
            return "an empty user message"
        before = message.role
    return ""


def _names(messages: Sequence[Message], row: Row) -> str:
    known = {tool["function"]["name"] for tool in row.tools}
    for place, message in enumerate(messages, start=1):
        if known and any(call["function"]["name"] not in known for call in message.calls):
            return f"message {place} calls a function that the row's tools do not list"
    return ""
