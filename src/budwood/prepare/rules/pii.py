"""pii: personal data and secrets: redacted, dropped or flagged, as the recipe says.

E-mail addresses, phone numbers, payment cards, IBANs, national ids, IP addresses, access keys and passwords, or those kinds of
them that the recipe lists (see `budwood.text.pii` for what is found and what is not). Messages, slices, tools and calls are
looked at, in calls every text and every name of an argument; numbers are not. The record says how many of which kind; neither
the text found nor a digest of it is kept, because the digest of a phone number can be guessed back.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from budwood.errors import DataError
from budwood.prepare.row import Drop, Message, Row, Scalar, Touch
from budwood.prepare.rules.rule import Pair
from budwood.text.pii import KINDS, PersonalData, may_hold, redact
from budwood.tool_calls import Tool, mapped, strings

WORDS = {
    "SECRET": ("access key", "access keys"),
    "EMAIL": ("e-mail address", "e-mail addresses"),
    "IBAN": ("IBAN", "IBANs"),
    "NATIONAL_ID": ("national id", "national ids"),
    "CARD": ("card number", "card numbers"),
    "IP": ("IP address", "IP addresses"),
    "PHONE": ("phone number", "phone numbers"),
}


@dataclass(frozen=True)
class Pii:
    """The rule.

    Args:
        action: what happens to a row that holds personal data.
        group_by: the recipe's grouping column; redacting it would throw all its rows into one group, so it is refused.
        kinds: what is looked for.
    """

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 2
    action: Literal["redact", "drop", "flag"] = "redact"
    group_by: str = ""
    kinds: tuple[PersonalData, ...] = KINDS

    def options(self) -> dict[str, Any]:
        return {"action": self.action, "kinds": list(self.kinds)}

    def leaves(self, pair: Pair) -> bool:
        return not may_hold(pair.whole)

    def apply(self, row: Row) -> Row | Drop:
        # One look at everything together: most rows hold nothing that any pattern could begin with.
        if not row.tools and not row.calls_tools and not may_hold("\n".join(_plain_texts(row))):
            return row
        counts: Counter[str] = Counter()
        messages, tools = _redacted(row, counts, self.kinds)
        slices: dict[str, Scalar] = {}
        for key, value in row.slices.items():
            if isinstance(value, str):
                text, found = redact(value, kinds=self.kinds)
                counts.update(found)
                slices[key] = text
                if found and key == self.group_by and self.action == "redact":
                    raise self._grouping_by_personal_data(row)
            else:
                slices[key] = value
        if not counts:
            return row
        kinds = ", ".join(f"{counts[kind]} {WORDS[kind][counts[kind] > 1]}" for kind in KINDS if counts[kind])
        if self.action == "drop":
            return Drop(f"holds {kinds}")
        if self.action == "flag":
            return row.touch(self.name, "flagged", f"holds {kinds}")
        if _texts(messages, tools) != _texts(row.messages, row.tools):
            return Drop(f"holds {kinds}, in two names of one call or schema, which would become one")
        touch = Touch(self.name, "changed", f"{kinds} redacted")
        return replace(row, messages=messages, tools=tools, slices=slices, touched=(*row.touched, touch))

    def _grouping_by_personal_data(self, row: Row) -> DataError:
        return DataError(
            f'{row}: the column "{self.group_by}", by which rows are grouped, holds personal data.',
            where="[prepare] group_by",
            mend="Group by an id that says nothing of a person.",
        )


def _redacted(row: Row, counts: Counter[str], kinds: Sequence[PersonalData]) -> tuple[tuple[Message, ...], tuple[Tool, ...]]:
    """A row's messages and tools without personal data; `counts` gains what was found."""

    def change(text: str) -> str:
        clean, found = redact(text, kinds=kinds)
        counts.update(found)
        return clean

    def functions(held: tuple[Tool, ...]) -> tuple[Tool, ...]:
        return tuple({**one, "function": mapped(one["function"], change, keys=True)} for one in held)

    messages = []
    for message in row.messages:
        clean = message._replace(content=change(message.content))
        if message.calls or message.name:
            clean = clean._replace(calls=functions(message.calls), name=change(message.name))
        messages.append(clean)
    return tuple(messages), functions(row.tools)


def _plain_texts(row: Row) -> list[str]:
    texts = [message.content for message in row.messages]
    return texts + [value for value in row.slices.values() if isinstance(value, str)]


def _texts(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    return sum(1 for message in messages for _ in message.texts) + sum(1 for _ in strings(tools))
