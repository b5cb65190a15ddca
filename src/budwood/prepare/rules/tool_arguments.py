"""Arguments of calls against the schemas of their functions: what a row's tools say of parameters holds for its calls.

A model that learns from calls which break their schema writes such calls. What is no JSON Schema (some data sets write "dict"
or "float" as types) cannot be checked, and that is said of the row instead.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from budwood.errors import BudwoodError
from budwood.identity import canonical_json
from budwood.prepare.row import Message
from budwood.scorers.schema import Schema, read_schema
from budwood.tool_calls import Tool

KEPT = 512
"""Compiled schemas: rows of one source mostly share their tools."""


def argument_fault(messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    """Name the first call whose arguments break its function's schema, by place and keyword, never by value; "" for none."""
    by_name = {tool["function"]["name"]: tool["function"] for tool in tools}
    for place, message in enumerate(messages, start=1):
        for call in message.calls:
            schema = _schema(by_name.get(call["function"]["name"], {}))
            fault = schema.fault(call["function"]["arguments"]) if isinstance(schema, Schema) else ""
            if fault:
                return f"message {place} calls a function with arguments that break its schema: {fault}"
    return ""


def unchecked(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """Count the called functions whose parameters are no JSON Schema."""
    called = {call["function"]["name"] for message in messages for call in message.calls}
    return sum(isinstance(_schema(tool["function"]), str) for tool in tools if tool["function"]["name"] in called)


def _schema(function: Mapping[str, Any]) -> Schema | str | None:
    """The compiled parameters; None where there are none, or why they cannot be compiled."""
    parameters = function.get("parameters")
    return None if not parameters else _compiled(canonical_json(parameters))


@lru_cache(maxsize=KEPT)
def _compiled(parameters: bytes) -> Schema | str:
    try:
        return read_schema(parameters.decode(), where="tools")
    except BudwoodError as error:
        return str(error)
