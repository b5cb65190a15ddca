"""Rows → the lines of a snapshot, each encoded once: what is decided last is put between two finished halves.

    halves = encode_row(row)
    line = halves.head + group + SPLIT + split + halves.tail       # group and split as bytes

The lines are what `json` writes of `row.as_json` and `row.rejected_as_json` (tests/prepare/test_encode.py).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from budwood.identity import Digest
from budwood.prepare.row import Message, Origin, Rejected, Row, Scalar, Touch
from budwood.tool_calls import mapped

SPLIT = b'","split":"'
"""Between a row's group and its split."""
_AS_IT_STANDS = bytes(byte for byte in range(0x20, 0x100) if chr(byte) not in '"\\')
"""Bytes of UTF-8 that JSON's strings hold unescaped."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Halves(NamedTuple):
    """A kept row's line, up to the value of "group" and behind the value of "split"."""

    head: bytes
    tail: bytes


def encode(value: object) -> str:
    """Write a JSON value as snapshots hold it."""
    return _ENCODER.encode(value)


def encode_row(row: Row) -> Halves:
    messages = ",".join([_message(message) for message in row.messages])
    tools = f'"tools":{encode(list(row.tools))},' if row.tools else ""
    head = f'{{"row_id":"{row.row_id}","messages":[{messages}],{tools}"source":{_origin(row.origin)},"group":"'
    slices = ",".join([f"{_string(key)}:{_scalar(value)}" for key, value in row.slices.items()])
    tokens = "" if row.tokens is None else f'"tokens":{row.tokens},'
    touched = ",".join(map(_touch, row.touched)) if row.touched else ""
    tail = f'","slices":{{{slices}}},"weight":{row.weight!r},{tokens}"touched":[{touched}]}}\n'
    return Halves(head.encode("utf-8"), tail.encode("utf-8"))


PlainEncoder = Callable[[bytes, bytes, bytes, int, bytes, int | None], Halves]


def plain_encoder(file: str, sha256: Digest, weight: float) -> PlainEncoder:
    """Give what encodes rows of a source whose texts are written as they stand there, and which nothing touched.

    It takes row id, question, answer, line, slices as members of a JSON object, and tokens (None: not measured), and writes
    what `encode_row` does.
    """
    source = f'{{"file":{_string(file)},"sha256":"{sha256}","line":'.replace("%", "%%")
    asked, answered = '{"role":"user","content":"%b"}', '{"role":"assistant","content":"%b"}'
    head = f'{{"row_id":"%b","messages":[{asked},{answered}],"source":{source}%d}},"group":"'.encode()
    measured, rest = b'"tokens":%d,', f'","slices":{{%b}},"weight":{weight!r},%b"touched":[]}}\n'.encode()

    def encoded(row_id: bytes, asked: bytes, answered: bytes, line: int, slices: bytes, tokens: int | None) -> Halves:
        return Halves(head % (row_id, asked, answered, line), rest % (slices, b"" if tokens is None else measured % tokens))

    return encoded


def touches_size(touches: Iterable[Touch], *, after_others: bool) -> int:
    """Bytes by which `with_touches` lengthens a tail."""
    return len(",".join(map(_touch, touches)).encode("utf-8")) + after_others


def with_touches(tail: bytes, touches: Iterable[Touch]) -> bytes:
    """A tail with more touches at its end."""
    more = ",".join(map(_touch, touches)).encode("utf-8")
    return tail[:-3] + (b"" if tail.endswith(b'"touched":[]}\n') else b",") + more + tail[-3:]


def encode_rejected(rejected: Rejected, redact: Callable[[str], str]) -> bytes:
    """A rejected row's line; its text passes `redact` first, since no rule may have seen it."""
    content, tools = rejected.content, rejected.tools
    if isinstance(content, str):
        return _rejected(rejected.row_id, _origin(rejected.origin), rejected.rule, rejected.reason, {"raw": redact(content)})
    messages = [message._replace(trained=True).as_json() for message in content]
    held = _redacted(messages, tools, rejected.slices, redact)
    return _rejected(rejected.row_id, _origin(rejected.origin), rejected.rule, rejected.reason, held)


def reject_encoded(
    halves: Halves, rule: str, reason: str, redact: Callable[[str], str], may_hold: Callable[[str], bool]
) -> bytes:
    """Turn a row that is encoded as a kept one into the line of a rejected one; `may_hold` says what `redact` may change.

    That has to see what it looks for wherever there are quotation marks around it.
    """
    head, tail = halves.head, halves.tail[: halves.tail.rindex(b',"weight":')]
    # Without escapes the line holds the texts as they are: one look at all of it, and mostly nothing has to be redacted.
    if b"\\" not in head and b"\\" not in tail and b'"train":' not in head and not may_hold((head + tail).decode()):
        return _rejected_as_it_stands(head, tail, rule, reason)
    value = json.loads(halves.head + b'"}')
    messages = [{key: held for key, held in message.items() if key != "train"} for message in value["messages"]]
    slices = json.loads(b"{" + halves.tail[2:])["slices"]
    held = _redacted(messages, value.get("tools", ()), slices, redact)
    return _rejected(value["row_id"], encode(value["source"]), rule, reason, held)


def _rejected_as_it_stands(head: bytes, tail: bytes, rule: str, reason: str) -> bytes:
    """The same for lines without an escape, in which no text can look like the end of another."""
    name, _, rest = head.partition(b',"messages":')
    messages, _, source = rest.rpartition(b',"source":')
    source = source.removesuffix(b',"group":"')
    slices = tail.removeprefix(b'"')
    slices = b"" if slices == b',"slices":{}' else slices
    why = f'"rule":{encode(rule)},"reason":{encode(reason)}'.encode()
    return b'%b,"source":%b,%b,"messages":%b%b}\n' % (name, source, why, messages, slices)


def _rejected(row_id: str, origin: str, rule: str, reason: str, held: Mapping[str, Any]) -> bytes:
    rest = encode({"rule": rule, "reason": reason, **held})[1:]
    return f'{{"row_id":"{row_id}","source":{origin},{rest}\n'.encode()


def _redacted(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    slices: Mapping[str, Scalar],
    redact: Callable[[str], str],
) -> dict[str, Any]:
    held = {"messages": [mapped(message, redact, keys=True) for message in messages]}
    held |= {"tools": mapped(list(tools), redact, keys=True)} if tools else {}
    # Names of columns stay: the body names them too, and two must not become one.
    return held | ({"slices": mapped(slices, redact)} if slices else {})


def _origin(origin: Origin) -> str:
    return f'{{"file":{_string(origin.file)},"sha256":"{origin.sha256}","line":{origin.line}}}'


def _message(message: Message) -> str:
    if message.calls or message.call_id or message.name:
        return encode(message.as_json())
    flag = "" if message.trained else ',"train":false'
    return f'{{"role":{_string(message.role)},"content":{_string(message.content)}{flag}}}'


def _scalar(value: Scalar) -> str:
    return _string(value) if isinstance(value, str) else encode(value)


def _string(text: str) -> str:
    """Write a string as `json` does; one with nothing to escape, as most are, is found in a fifth of the time."""
    if text.encode("utf-8", "surrogatepass").translate(None, _AS_IT_STANDS):
        return encode_basestring(text)
    return f'"{text}"'


def _touch(touch: Touch) -> str:
    return f'{{"rule":"{touch.rule}","kind":"{touch.kind}","reason":{encode_basestring(touch.reason)}}}'
