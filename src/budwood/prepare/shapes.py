"""Record → messages, for each layout that rows come in.

    messages    {"messages": [{"role", "content"}, …]}              OpenAI chat; content may be a list of text parts;
                                                                    "weight": 0, "train": false: an answer not to be learnt
    prompt      {"prompt", "completion"}                            strings, or lists of messages
    alpaca      {"instruction", "input", "output"}
    sharegpt    {"conversations": [{"from", "value"}, …]}
    columns     named in the recipe: prompt, completion, system

What is neither prompt nor answer becomes a slice when it is a plain value; nested values are left out, and counted by the
reader. A record that does not fit its file's shape is `Misshapen`; one without an answer fits, and a rule judges it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from budwood.errors import DataError
from budwood.prepare.row import Message, Scalar

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
_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_NO_INPUT = {"", "<noinput>", "no input", "noinput", "n/a", "none", "nan", "no input required", "no input needed"}
"""How Alpaca-like sets spell that an instruction has no input (casefolded, without the closing full stop)."""


class Misshapen(Exception):
    """A record that does not have the shape of its file; the text says what is missing."""


class Content(NamedTuple):
    messages: tuple[Message, ...]
    slices: Mapping[str, Scalar]


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
        Misshapen: a key is missing or holds something else than text.
    """
    messages = _FROM[shape](record, columns)
    used = set(columns.values()) if shape == "columns" else set(_KEYS[shape])
    # Parquet writers spell a missing number as NaN, which is the one value that differs from itself.
    slices = {key: None if value != value else value for key, value in record.items() if key not in used and is_scalar(value)}
    return Content(messages, slices)


def nested_keys(record: Mapping[str, Any], shape: Shape) -> Iterable[str]:
    """List the keys whose values are no plain values and are therefore left out."""
    used = _KEYS.get(shape, ())
    return [key for key, value in record.items() if key not in used and not is_scalar(value)]


def is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


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
        content = _content(turn.get("value", turn.get("content")), number)
        messages.append(Message(_SPEAKERS.get(speaker, speaker), content, _trained(turn, number)))
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
        if turn.get("tool_calls") or turn.get("function_call"):
            raise Misshapen(f"message {number} calls a tool; only text can be learnt")
        messages.append(Message(turn["role"], _content(turn.get("content"), number), _trained(turn, number)))
    return tuple(messages)


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
