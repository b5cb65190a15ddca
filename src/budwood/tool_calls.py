"""Tool calls and function schemas: read strictly from OpenAI's form, written in one way, and changed text by text.

    calls = read_calls([{"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Bonn"}'}}])
    calls[0]["function"]["arguments"]      # {'city': 'Bonn'}
    read_tools([{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}])

Arguments are JSON in a string, as the API has them, or an object, as chat templates take them; objects come out. The bare
form without "function" around name and arguments (or parameters) is taken too. What is not understood is a `ToolFault` that
says where, never left out; its words quote no value of a row. Order of keys is kept: a model reads it, and learns to write it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from budwood.identity import canonical_json
from budwood.json_text import decode, kind

Call = Mapping[str, Any]
"""{"id", "type": "function", "function": {"name", "arguments": object}}; without "id" where none was given."""
Tool = Mapping[str, Any]
"""{"type": "function", "function": {"name", …}}: a function's schema."""
DEEPEST = 64
"""Nesting of arguments and schemas; templates and what follows recurse."""


class ToolFault(ValueError):
    """A call, a schema or a result that cannot be used.

    Args:
        path: where in the value that was read, such as `[0].function.name`.
        reason: what is wrong there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}".strip())
        self.path, self.reason = path, reason


class LinkFault(NamedTuple):
    """A message out of place: which, and why."""

    message: int
    reason: str


def read_calls(value: object) -> tuple[dict[str, Any], ...]:
    """Read a message's `tool_calls`.

    Raises:
        ToolFault: no list of calls, or one that is not understood.
    """
    calls = tuple(_call(call, f"[{place}]") for place, call in enumerate(_listed(value, "calls")))
    ids = [call["id"] for call in calls if "id" in call]
    if len(set(ids)) < len(ids):
        raise ToolFault("", "gives two calls one id")
    return calls


def read_tools(value: object) -> tuple[dict[str, Any], ...]:
    """Read a row's or a request's `tools`.

    Raises:
        ToolFault: no list of function schemas, or two of one name.
    """
    tools = tuple(_tool(tool, f"[{place}]") for place, tool in enumerate(_listed(value, "function schemas")))
    names: set[str] = set()
    for place, tool in enumerate(tools):
        if tool["function"]["name"] in names:
            raise ToolFault(f"[{place}].function.name", "is the name of an earlier function")
        names.add(tool["function"]["name"])
    return tools


def link_fault(messages: Sequence[Mapping[str, Any]], *, first: int = 0) -> LinkFault | None:
    """Find the first message that breaks what ties results to calls.

    Results stand right behind the message that calls, one a call, in any order; an id or name that one gives is that of its
    call. A conversation may end with calls that nobody has answered, but not with a part of the results.

    Args:
        messages: with roles, `tool_calls` as `read_calls` gives them, and results' `tool_call_id` and `name`.
        first: what message 0 is called in reasons.
    """
    open_calls: list[Call] = []
    caller = total = 0
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if not total:
                return LinkFault(place, "is a tool's result, but the message before it calls no tool")
            fault = _take(message, open_calls, f"message {caller + first}")
            if fault:
                return LinkFault(place, fault)
            continue
        if total and open_calls:
            return LinkFault(place, f"comes before the {_missing(open_calls, total)} of message {caller + first}")
        open_calls = list(message.get("tool_calls") or ())
        caller, total = place, len(open_calls)
    if total and 0 < len(open_calls) < total:
        return LinkFault(
            len(messages) - 1, f"ends the row before the {_missing(open_calls, total)} of message {caller + first}"
        )
    return None


def written(calls: Sequence[Call]) -> str:
    """Write calls for people, and to compare them: names and arguments, keys sorted, without ids."""
    return " ".join(f"{call['function']['name']}({canonical_text(call['function']['arguments'])})" for call in calls)


def canonical_text(value: object) -> str:
    """Canonical JSON as text."""
    return canonical_json(value).decode("utf-8", "surrogatepass")


def shown(message: Mapping[str, Any]) -> str:
    """A message for people: its text, and the calls that it makes."""
    calls = written(message.get("tool_calls") or ())
    return "\n".join(part for part in (str(message["content"]), calls) if part)


def strings(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def mapped(value: Any, change: Callable[[str], str], *, keys: bool = False) -> Any:
    """The same JSON value with every text changed; names of fields only where `keys` says so."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key) if keys else key: mapped(inner, change, keys=keys) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(inner, change, keys=keys) for inner in value]
    return value


def with_arguments(call: Call, change: Callable[[Any], Any]) -> dict[str, Any]:
    """The same call with other arguments."""
    function = call["function"]
    return {**call, "function": {**function, "arguments": change(function["arguments"])}}


def _take(result: Mapping[str, Any], open_calls: list[Call], caller: str) -> str:
    """Take the call that a result answers off the list; the reason why there is none."""
    if not open_calls:
        return f"is one result more than {caller} has calls"
    wanted, name = result.get("tool_call_id"), result.get("name")
    fitting = [call for call in open_calls if not wanted or call.get("id") == wanted]
    if not fitting:
        return f"gives a tool_call_id that no open call of {caller} has"
    fitting = [call for call in fitting if not name or call["function"]["name"] == name]
    if not fitting:
        return f"is the result of another function than {caller} calls"
    open_calls.remove(fitting[0])
    return ""


def _missing(open_calls: Sequence[Call], total: int) -> str:
    return f"results of {len(open_calls)} of {total} calls" if total > 1 else "result of the call"


def _listed(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise ToolFault("", f"is {kind(value)} where a list of {what} is expected")
    return value


def _call(value: object, path: str) -> dict[str, Any]:
    around, function, inner = _function(value, path)
    _refuse_others(around, ("id", "type"), path)
    _refuse_others(function, ("name", "arguments"), inner)
    call = {} if around.get("id") is None else {"id": _name(around, "id", path)}
    if function.get("arguments") is None:
        raise ToolFault(f"{inner}.arguments", "is missing")
    arguments = _arguments(function["arguments"], f"{inner}.arguments")
    return call | {"type": "function", "function": {"name": _name(function, "name", inner), "arguments": arguments}}


def _tool(value: object, path: str) -> dict[str, Any]:
    around, function, inner = _function(value, path)
    _name(function, "name", inner)
    for key, wanted, words in (("description", str, "a text"), ("parameters", Mapping, "an object")):
        given = function.get(key)
        if given is not None and not isinstance(given, wanted):
            raise ToolFault(f"{inner}.{key}", f"is {kind(given)} where {words} is expected")
    tool = {"type": "function", **{key: value for key, value in around.items() if key != "type"}, "function": function}
    return {key: _value(value, path, DEEPEST) for key, value in tool.items()}


def _function(value: object, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """What stands around a function, the function itself, and its path."""
    if not isinstance(value, Mapping):
        raise ToolFault(path, f"is {kind(value)} where an object is expected")
    if value.get("type") not in (None, "function"):
        raise ToolFault(f"{path}.type", "is none that is known: functions are")
    function = value.get("function")
    if function is not None:
        if not isinstance(function, Mapping):
            raise ToolFault(f"{path}.function", f"is {kind(function)} where an object is expected")
        return {key: inner for key, inner in value.items() if key != "function"}, function, f"{path}.function"
    if value.get("name") is None:
        raise ToolFault(f"{path}.function", "is missing")
    outer = {key: inner for key, inner in value.items() if key in ("id", "type")}
    return outer, {key: inner for key, inner in value.items() if key not in ("id", "type", "function")}, path


def _refuse_others(value: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    for key, inner in value.items():
        if key not in known and inner is not None:
            raise ToolFault(f"{path}.{key}", f"is not understood; known are {', '.join(known)}")


def _name(value: Mapping[str, Any], key: str, path: str) -> str:
    name = value.get(key)
    if not isinstance(name, str) or not name.strip():
        raise ToolFault(f"{path}.{key}", "is missing" if name is None else "is no name")
    return name


def _arguments(value: object, path: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = decode(value)
        except ValueError as error:
            raise ToolFault(path, f"is no JSON: {error}") from None
    if not isinstance(value, Mapping):
        raise ToolFault(path, f"is {kind(value)} where an object is expected")
    return {key: _value(inner, path, DEEPEST) for key, inner in value.items()}


def _value(value: object, path: str, room: int) -> Any:
    """A JSON value as plain types; what no JSON file could hold is refused."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ToolFault(path, "holds a number that is too large, or none")
        return value
    if not room:
        raise ToolFault(path, f"is nested deeper than {DEEPEST}")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ToolFault(path, "has a key that is no text")
        return {key: _value(inner, path, room - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_value(inner, path, room - 1) for inner in value]
    raise ToolFault(path, f"holds a {type(value).__name__}, which is no JSON value")
