"""Record → messages, for each layout that rows come in.

    messages    {"messages": [{"role", "content"}, …]}              OpenAI chat; content may be a list of text parts;
                                                                    "weight": 0, "train": false: an answer not to be learnt
                                                                    "tool_calls"; "tool_call_id", "name" of a result
    prompt      {"prompt", "completion"}                            strings, or lists of messages
    alpaca      {"instruction", "input", "output"}
    sharegpt    {"conversations": [{"from", "value"}, …]}           "function_call": its value is the call, or a list of them;
                                                                    "observation", "function_response", "tool": a result
    columns     named in the recipe: prompt, completion, system

"tools" beside a conversation are function schemas: a list, or JSON text of one. What is neither prompt nor answer becomes a
slice when it is a plain value; nested values, and what a message says besides, are left out and listed by the reader. A record
that does not fit its file's shape is `Misshapen`; one without an answer fits, and a rule judges it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from budwood.errors import DataError
from budwood.json_text import decode
from budwood.prepare.row import Message, Scalar
from budwood.tool_calls import Call, Tool, ToolFault, read_calls, read_tools

Shape = Literal["messages", "prompt", "alpaca", "sharegpt", "columns"]

_MARKS: Mapping[Shape, frozenset[str]] = {
    "messages": frozenset({"messages"}),
    "sharegpt": frozenset({"conversations"}),
    "alpaca": frozenset({"instruction", "output"}),
    "prompt": frozenset({"prompt", "completion"}),
}
_KEYS: Mapping[Shape, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations", "system"),
    "alpaca": ("instruction", "input", "output", "system"),
    "prompt": ("prompt", "completion", "system"),
}
_SPEAKERS = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
_USED: Mapping[Shape, frozenset[str]] = {shape: frozenset(keys) for shape, keys in _KEYS.items()}
_SCALARS = (str, int, float, bool, type(None))
_ALWAYS_KNOWN = {"role", "content", "from", "value", "weight", "train"}
_NO_INPUT = {"", "<noinput>", "no input", "noinput", "n/a", "none", "nan", "no input required", "no input needed"}
"""How Alpaca-like sets spell that an instruction has no input (casefolded, without the closing full stop)."""


class Misshapen(Exception):
    """A record that does not have the shape of its file; the text says what is missing."""


class Content(NamedTuple):
    messages: tuple[Message, ...]
    slices: Mapping[str, Scalar]
    tools: tuple[Tool, ...] = ()


def recognise(records: Sequence[Mapping[str, Any]], *, shown: str) -> Shape:
    """Name the shape that most of the first records have.

    Raises:
        DataError: none of them has a known shape; the keys that were found are listed.
    """
    votes = Counter(shape for record in records for shape in [_shape_of(record)] if shape)
    if votes:
        return votes.most_common(1)[0][0]
    keys = list(dict.fromkeys(key for record in records for key in record))
    raise DataError(
        f"{shown} has rows of no known shape: their keys are {', '.join(map(repr, keys[:12])) or 'none'}.",
        mend='Name the columns in the recipe, e.g. columns = { prompt = "text", completion = "label" }, or use messages, '
        "prompt and completion, instruction and output, or conversations.",
    )


def convert(record: Mapping[str, Any], shape: Shape, columns: Mapping[str, str]) -> Content:
    """Turn a record into messages and slices.

    `columns` is for shape "columns": part ("prompt", "completion", "system") → column.

    Raises:
        Misshapen: a key is missing or holds something else than text, or a tool call or schema is not understood.
    """
    messages = _FROM[shape](record, columns)
    tools = () if shape == "columns" else _tools(record, chat=_is_chat(record, shape))
    used = frozenset(columns.values()) if shape == "columns" else _USED[shape] | {"tools"} if tools else _USED[shape]
    # Parquet writers spell a missing number as NaN, which is the one value that differs from itself.
    slices = {
        key: None if value != value else value
        for key, value in record.items()
        if key not in used and isinstance(value, _SCALARS)
    }
    return Content(messages, slices, tools)


def check_unpadded(record: Mapping[str, Any]) -> None:
    """Refuse tools and arguments in which Parquet has put a null where a key was missing: nobody can tell the two apart.

    Args:
        record: one that `convert` has read.

    Raises:
        Misshapen: there is a null in them.
    """
    turns = [turn for value in record.values() if isinstance(value, list) for turn in value]
    calls = [call for turn in turns if isinstance(turn, dict) for call in turn.get("tool_calls") or ()]
    arguments = [(call.get("function") or call)["arguments"] for call in calls]
    if any(map(_holds_null, [record.get("tools") or [], *arguments])):
        raise Misshapen("arguments or tools hold nulls, which Parquet also puts where keys are missing; keep them as JSON text")


def _holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return any(map(_holds_null, value)) if isinstance(value, list) else value is None


def left_out_keys(record: Mapping[str, Any], shape: Shape) -> Iterable[str]:
    """List what of a record no row holds: keys of nested values, and what a message says besides its text and calls.

    Reasoning ("reasoning_content") is among them: most templates leave it out in silence, and nobody could see it missing.
    """
    used = _KEYS.get(shape, ())
    nested = [key for key, value in record.items() if key not in used and not isinstance(value, _SCALARS)]
    for key in used:
        turns = record.get(key)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, dict) and not turn.keys() <= _ALWAYS_KNOWN:
                nested += [f"{key}[].{name}" for name, value in turn.items() if value and not _is_known(name, turn)]
    return nested


def _is_known(name: str, turn: Mapping[str, Any]) -> bool:
    """Whether a message's key is taken in; a name only where it is that of a tool's function."""
    speaker = turn.get("from", turn.get("role"))
    is_result = isinstance(speaker, str) and _SPEAKERS.get(speaker, speaker) == "tool"
    return name in _ALWAYS_KNOWN or name == "tool_calls" or (is_result and name in ("tool_call_id", "name"))


def is_scalar(value: object) -> bool:
    return isinstance(value, _SCALARS)


def _shape_of(record: Mapping[str, Any]) -> Shape | None:
    return next((shape for shape, keys in _MARKS.items() if keys <= record.keys()), None)


def _from_messages(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    return _chat(record, "messages")


def _from_prompt(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    if isinstance(record.get("prompt"), list):
        answers = _chat(record, "completion") if record.get("completion") else ()
        return (*_chat(record, "prompt"), *answers)
    return _single(record, prompt="prompt", completion="completion", system="system")


def _from_columns(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    return _single(record, prompt=columns["prompt"], completion=columns["completion"], system=columns.get("system", ""))


def _from_alpaca(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    messages = _single(record, prompt="instruction", completion="output", system="system")
    extra = _text(record, "input") or ""
    if extra.strip().rstrip(".").casefold() in _NO_INPUT:
        return messages
    return tuple(m._replace(content=f"{m.content}\n\n{extra}") if m.role == "user" else m for m in messages)


def _from_sharegpt(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise Misshapen("conversations is no list of turns")
    messages = []
    for number, turn in enumerate(turns, start=1):
        speaker = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        if not isinstance(speaker, str):
            raise Misshapen(f'turn {number} has no "from"')
        value = turn.get("value", turn.get("content"))
        if speaker == "function_call":
            messages.append(Message("assistant", "", _trained(turn, number), _spoken_calls(value, number)))
        else:
            messages.append(_turn({**turn, "role": _SPEAKERS.get(speaker, speaker), "content": value}, number))
    system = _text(record, "system")
    return (Message("system", system), *messages) if system else tuple(messages)


_FROM: Mapping[Shape, Callable[[Mapping[str, Any], Mapping[str, str]], tuple[Message, ...]]] = {
    "messages": _from_messages,
    "prompt": _from_prompt,
    "alpaca": _from_alpaca,
    "sharegpt": _from_sharegpt,
    "columns": _from_columns,
}


def _single(record: Mapping[str, Any], *, prompt: str, completion: str, system: str) -> tuple[Message, ...]:
    question = _text(record, prompt)
    if question is None:
        raise Misshapen(f'no "{prompt}"')
    messages = [Message("user", question)]
    answer = _text(record, completion)
    if answer is not None:
        messages.append(Message("assistant", answer))
    instructions = _text(record, system)
    return (Message("system", instructions), *messages) if instructions else tuple(messages)


def _text(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Misshapen(f'"{key}" holds no text')


def _chat(record: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    turns = record.get(key)
    if not isinstance(turns, list) or not turns:
        raise Misshapen(f"{key} is no list of messages")
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise Misshapen(f"message {number} has no role")
        messages.append(_turn(turn, number))
    return tuple(messages)


def _turn(turn: Mapping[str, Any], number: int) -> Message:
    if turn.get("function_call"):
        raise Misshapen(f'message {number} has "function_call", the older form of "tool_calls"')
    role, content = turn["role"], _content(turn.get("content"), number)
    calls = _calls(turn.get("tool_calls") or [], number, "tool_calls")
    if calls and role != "assistant":
        raise Misshapen(f'message {number} has "tool_calls", and is not from the assistant')
    if role != "tool":
        return Message(role, content, _trained(turn, number), calls)
    named = [turn.get(key) or "" for key in ("tool_call_id", "name")]
    if not all(isinstance(value, str) for value in named):
        raise Misshapen(f"message {number} has a tool_call_id or a name that is no text")
    return Message(role, content, True, (), *named)


def _spoken_calls(value: object, number: int) -> tuple[Call, ...]:
    if isinstance(value, str):
        try:
            value = decode(value)
        except ValueError as error:
            raise Misshapen(f"turn {number} (function_call) is no JSON: {error}") from None
    calls = _calls(value if isinstance(value, list) else [value], number, "function_call")
    if not calls:
        raise Misshapen(f"turn {number} (function_call) calls nothing")
    return calls


def _calls(value: object, number: int, key: str) -> tuple[Call, ...]:
    try:
        return read_calls(value)
    except ToolFault as error:
        raise Misshapen(f"message {number}: {key}{error.path} {error.reason}") from None


def _tools(record: Mapping[str, Any], *, chat: bool) -> tuple[Tool, ...]:
    """Schemas of functions. Beside a conversation, a list that holds anything else is refused; elsewhere it is a column."""
    value = record.get("tools")
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = decode(value)
        except ValueError as error:
            if chat:
                raise Misshapen(f"tools is no JSON: {error}") from None
    if chat and isinstance(record.get("functions"), list) and any(isinstance(one, dict) for one in record["functions"]):
        raise Misshapen('"functions" is the older form of "tools"')
    if not isinstance(value, list) or not (chat or all(isinstance(one, dict) and "function" in one for one in value)):
        return ()
    try:
        return read_tools(value)
    except ToolFault as error:
        raise Misshapen(f"tools{error.path} {error.reason}") from None


def _is_chat(record: Mapping[str, Any], shape: Shape) -> bool:
    return shape in ("messages", "sharegpt") or (shape == "prompt" and isinstance(record.get("prompt"), list))


def _trained(turn: Mapping[str, Any], number: int) -> bool:
    """Read OpenAI's "weight" (0 or 1) and axolotl's "train"; both absent: learnt."""
    said = [(key, turn[key]) for key in ("weight", "train") if turn.get(key) is not None]
    for key, value in said:
        if value not in (0, 1):
            raise Misshapen(f'message {number} has "{key}": {value!r}, which is neither 0 nor 1')
    return all(bool(value) for _, value in said)


def _content(value: object, number: int) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) == len(value) and all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
    raise Misshapen(f"message {number} holds something else than text")
