"""roles: a conversation is at most one system message, then user and assistant in turn.

A last user message that nobody answers is taken off (there is nothing to learn from it), with a record. Another disorder,
and an empty user message, drops the row: what is missing cannot be known. Rows with tool calls or results have an order of
their own, which `tool_turns` looks after.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row, Touch
from budwood.prepare.rules.rule import Pair

ROLES = ("system", "user", "assistant")
_PAIR = ["user", "assistant"]


@dataclass(frozen=True)
class Roles:
    name: ClassVar[str] = "roles"
    version: ClassVar[int] = 1

    def options(self) -> dict[str, Any]:
        return {"roles": list(ROLES)}

    def leaves(self, pair: Pair) -> bool:
        return not pair.asked.isspace()

    def apply(self, row: Row) -> Row | Drop:
        if row.calls_tools:
            return row
        roles = [message.role for message in row.messages]
        if roles == _PAIR and not row.messages[0].content.isspace() and row.messages[0].content:
            return row
        for number, role in enumerate(roles, start=1):
            if role not in ROLES:
                known = role if role in ("tool", "function", "developer") else "another role"
                return Drop(f"message {number} is from {known}; known are {', '.join(ROLES)}")
        turns = roles[1:] if roles[0] == "system" else roles
        if "system" in turns:
            return Drop("a system message that is not the first")
        for number, role in enumerate(turns):
            expected = ("user", "assistant")[number % 2]
            if role != expected:
                place = number + 1 + len(roles) - len(turns)
                return Drop(f"message {place} is from {role} where {expected} is expected")
        if any(message.role == "user" and not message.content.strip() for message in row.messages):
            return Drop("an empty user message")
        if turns and turns[-1] == "user" and "assistant" in turns:
            touch = Touch(self.name, "changed", "a last user message without an answer taken off")
            return replace(row, messages=row.messages[:-1], touched=(*row.touched, touch))
        return row
