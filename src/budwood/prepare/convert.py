"""Record → row, or a rejected row: what no later step could use is out here, with the reason."""

import json
import math
from collections.abc import Mapping
from typing import Any

from budwood.prepare.columns import READ
from budwood.prepare.piece import SourceView
from budwood.prepare.records import Malformed, Record
from budwood.prepare.row import Message, Origin, Rejected, Row, Touch
from budwood.prepare.shapes import Content, Misshapen, check_unpadded, convert
from budwood.recipe import PrepareSection
from budwood.tool_calls import strings


def row_of(record: Record | Malformed, source: SourceView, section: PrepareSection) -> Row | Rejected:
    origin = Origin(source.path, source.sha256, record.line)
    if isinstance(record, Malformed):
        return Rejected(origin, READ, record.reason, record.raw)
    try:
        content = convert(record.value, source.shape, source.columns)
        if source.layout == "parquet" and (content.tools or any(message.calls for message in content.messages)):
            check_unpadded(record.value)
        plain = _check_text(content)
    except Misshapen as error:
        return Rejected(origin, READ, str(error), _as_text(record.value))
    messages = content.messages
    if section.system and messages[0].role != "system":
        messages = (Message("system", section.system), *messages)
    if section.supervise == "last":
        messages = _last_alone(messages)
    touched: tuple[Touch, ...] = ()
    if source.converted and not plain:
        touched = (Touch(READ, "changed", f"decoded from {source.converted}"),)
    return Row(origin.row_id, origin, messages, content.slices, source.weight, source.declared, touched, tools=content.tools)


def _last_alone(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Mark every answer but the last as one that is not learnt."""
    last = max((place for place, message in enumerate(messages) if message.role == "assistant"), default=-1)
    return tuple(
        message._replace(trained=False) if message.role == "assistant" and place != last else message
        for place, message in enumerate(messages)
    )


def _check_text(content: Content) -> bool:
    """Refuse what no file could hold; say whether all of it is ASCII, which most encodings spell alike."""
    plain = True
    for message in content.messages:
        plain &= _is_plain(message.content) and _is_plain(message.role)
        if message.calls or message.call_id or message.name:
            plain &= all([_is_plain(text) for text in strings((message.calls, message.call_id, message.name))])
    if content.tools:
        plain &= all([_is_plain(text) for text in strings(content.tools)])
    for key, value in content.slices.items():
        plain &= _is_plain(key)
        if isinstance(value, str):
            plain &= _is_plain(value)
        elif isinstance(value, float) and math.isinf(value):
            raise Misshapen(f'"{key}" is infinite')
    return plain


def _is_plain(text: str) -> bool:
    if text.isascii():
        return True
    # JSON can spell half a character (a lone surrogate); no file could hold it afterwards.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Misshapen("holds half a character (a lone surrogate)") from None
    return False


def _as_text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode("utf-8")
