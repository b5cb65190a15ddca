"""A conversation as a chat template gets it: checked, its texts changed one by one, and what of it must show in print.

    talk = checked(messages, tools)
    talk.mapped(hide)                      # special tokens in texts hidden, wherever in a call or schema they stand
    marked, tags = talk.tagged()           # every text that a tool call, result or schema consists of, with a word behind it

A template is free to leave out what it does not know, and says nothing. So a conversation with tools is rendered a second
time with tags in it: what does not show then is not shown to the model either.

Errors: `DataError`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from budwood.errors import DataError
from budwood.tool_calls import ToolFault, canonical_text, link_fault, mapped, read_calls, read_tools, strings

Message = Mapping[str, Any]
"""Role, content, and what else a template reads, as texts; "tool_calls" of an assistant's message, in OpenAI's form; and
"train", false for an answer that is not learnt."""

ROLES = ("system", "user", "assistant", "tool", "developer")
"""Roles that may be handed to a template; which of them it takes is its own affair."""

_FIXED = ("role", "type")
"""Fields whose values are words of the form, not of its author."""


@dataclass(frozen=True)
class Conversation:
    """What a template renders. Made by `checked`.

    Args:
        messages: role, content and other texts; `tool_calls` as `read_calls` gives them; without "train".
        tools: as `read_tools` gives them.
        learnt: of each message, whether it is an answer that is to be learnt.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...]
    learnt: tuple[bool, ...]

    @property
    def has_tools(self) -> bool:
        """Whether there is anything that a template without tools would leave out."""
        return bool(self.tools) or any("tool_calls" in message or message["role"] == "tool" for message in self.messages)

    @property
    def texts(self) -> list[str]:
        return [*strings(self.messages), *strings(self.tools)]

    def mapped(self, change: Callable[[str], str]) -> "Conversation":
        """The same with every text changed, names of arguments and parameters included."""
        messages = tuple({key: _changed(key, value, change) for key, value in one.items()} for one in self.messages)
        return replace(self, messages=messages, tools=tuple(_renamed(tool, change) for tool in self.tools))

    def tagged(self) -> "Tagged":
        """The same with a word of its own behind every text that must show."""
        return _Tagger(self).tagged()


@dataclass(frozen=True)
class Tag:
    """A word that stands in one place of a conversation.

    Args:
        word: no other text holds it.
        message: that it stands in; None for tools.
        what: that it was put behind, for errors.
    """

    word: str
    message: int | None
    what: str


@dataclass(frozen=True)
class Tagged:
    conversation: Conversation
    tags: tuple[Tag, ...]


def checked(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Conversation:
    """Check a conversation.

    Raises:
        DataError: no message, an unknown role, a content that is no text, a call, schema or result that cannot be used. The
            message is named, counted from 0.
    """
    if not messages:
        raise DataError("The conversation has no message.", mend="Give it at least one user message.")
    plain = tuple(_message(number, message) for number, message in enumerate(messages))
    fault = link_fault(plain)
    if fault is not None:
        raise DataError(f"Message {fault.message} ({plain[fault.message]['role']}) {fault.reason}.", mend=_ORDER)
    try:
        schemas = read_tools(list(tools))
    except ToolFault as error:
        raise DataError(f"tools{error.path} {error.reason}.", mend="Give function schemas as OpenAI has them.") from None
    learnt = tuple(message["role"] == "assistant" and bool(message.get("train", True)) for message in messages)
    return Conversation(plain, schemas, learnt)


_ORDER = "Let the results of a message's calls follow it, one a call, with the id of its call."


def _message(number: int, message: Message) -> dict[str, Any]:
    role: Any = message.get("role")
    if role not in ROLES:
        raise DataError(f"Message {number} has the unknown role {role!r}.", mend=f"Known roles: {', '.join(ROLES)}.")
    try:
        calls = read_calls(message.get("tool_calls") or []) if role == "assistant" else ()
    except ToolFault as error:
        raise DataError(
            f"Message {number} (assistant): tool_calls{error.path} {error.reason}.", mend="Give calls as OpenAI has them."
        ) from None
    # Templates add to the content and ask for its length: beside calls, none is an empty one.
    content = "" if calls and message.get("content") is None else message.get("content")
    if not isinstance(content, str):
        raise DataError(f"Message {number} ({role}) has no text content.", mend="Give content as a string.")
    rest = {key: value for key, value in message.items() if key not in ("role", "content", "tool_calls")}
    odd = [key for key, value in rest.items() if not isinstance(value, bool if key == "train" else str)]
    odd += ["tool_calls"] if "tool_calls" in message and role != "assistant" else []
    if odd:
        raise DataError(f"Message {number} ({role}) has {odd[0]!r} that is no text.", mend="Leave it out.")
    plain = {"role": role, "content": content} | {key: value for key, value in rest.items() if key != "train"}
    return plain | ({"tool_calls": list(calls)} if calls else {})


def _changed(key: str, value: Any, change: Callable[[str], str]) -> Any:
    return (
        value if key in _FIXED else mapped(value, change) if key != "tool_calls" else [_renamed(call, change) for call in value]
    )


def _renamed(value: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """A call or schema with every text changed but those of the form itself."""
    function = {key: mapped(inner, change, keys=True) for key, inner in value["function"].items()}
    others = {key: inner if key in _FIXED else mapped(inner, change) for key, inner in value.items() if key != "function"}
    return others | {"function": function}


class _Tagger:
    """Puts words behind the texts of a conversation's tools, calls and results."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        held = canonical_text([conversation.messages, conversation.tools])
        self._stem = "seen"
        while self._stem in held:
            self._stem += "n"
        self._digits = next(str(number) for number in itertools.count(90_001) if str(number) not in held)
        self._tags: list[Tag] = []

    def tagged(self) -> Tagged:
        tools = tuple(self._tool(number, tool) for number, tool in enumerate(self._conversation.tools, start=1))
        messages = tuple(self._message(place, message) for place, message in enumerate(self._conversation.messages))
        return Tagged(replace(self._conversation, messages=messages, tools=tools), tuple(self._tags))

    def _word(self, message: int | None, what: str) -> str:
        word = f"{self._stem}{len(self._tags)}n"
        self._tags.append(Tag(word, message, what))
        return word

    def _number(self, value: float, message: int, what: str) -> int | float:
        word = f"{self._digits}{len(self._tags):06d}"
        self._tags.append(Tag(word, message, what))
        return type(value)(word)

    def _tool(self, number: int, tool: Mapping[str, Any]) -> dict[str, Any]:
        function = dict(tool["function"])
        function["name"] = function["name"] + self._word(None, f"the name of function {number}")
        if function.get("description"):
            function["description"] += self._word(None, f"the description of function {number}")
        schema = function.get("parameters") or {}
        if isinstance(schema.get("properties"), dict):
            new = {key: key + self._word(None, f"a parameter of function {number}") for key in schema["properties"]}
            changed: dict[str, Any] = {"properties": {new[key]: value for key, value in schema["properties"].items()}}
            if isinstance(schema.get("required"), list):
                changed["required"] = [new.get(key, key) if isinstance(key, str) else key for key in schema["required"]]
            # In place of the old ones, so that their order stays.
            function["parameters"] = {key: changed.get(key, value) for key, value in schema.items()}
        return {**tool, "function": function}

    def _message(self, place: int, message: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(message)
        calls = message.get("tool_calls")
        if (calls or message["role"] == "tool") and message["content"].strip():
            changed["content"] += self._word(place, "the text")
        if calls:
            changed["tool_calls"] = [self._call(place, number, call) for number, call in enumerate(calls, start=1)]
        return changed

    def _call(self, place: int, number: int, call: Mapping[str, Any]) -> dict[str, Any]:
        name = call["function"]["name"] + self._word(place, f"the function's name in call {number}")
        arguments = self._argument(call["function"]["arguments"], place, f"an argument of call {number}")
        return {**call, "function": {"name": name, "arguments": arguments}}

    def _argument(self, value: Any, place: int, what: str) -> Any:
        if isinstance(value, dict):
            return {key + self._word(place, what): self._argument(inner, place, what) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._argument(inner, place, what) for inner in value]
        if isinstance(value, str):
            return value + self._word(place, what)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._number(value, place, what)
        return value
