"""language: what is not in an allowed language, and answers in another language than their prompt.

Off by default (telling a language costs more than all other rules together), flag or drop. Where the recipe lists `languages`,
each prompt and answer that can be told must be in one of them. An answer in another language than its prompt is a mismatch,
unless the conversation speaks of a language or of translating. Languages too near to be told apart in a few words, and texts
too short to tell, are let be: see `budwood.text.languages`.

A text that an earlier snapshot holds is not told again: see `budwood.prepare.told`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from budwood.errors import RecipeError
from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.prepare.rules.wording import Action, judge
from budwood.text.languages import are_near, known_languages, language, script
from budwood.text.wording.phrases import phrases


@dataclass(frozen=True)
class Language:
    """The rule.

    Args:
        action: "off", "flag" or "drop".
        allowed: codes (ISO 639-1); empty: any.
        tell: text → its language's code.
    """

    name: ClassVar[str] = "language"
    version: ClassVar[int] = 1
    action: Action = "off"
    allowed: tuple[str, ...] = ()
    tell: Callable[[str], str] = field(default=language, compare=False)

    def options(self) -> dict[str, Any]:
        return {"action": self.action, "allowed": list(self.allowed)}

    def leaves(self, pair: Pair) -> bool:
        return self.action == "off"

    def apply(self, row: Row) -> Row | Drop:
        if self.action == "off":
            return row
        asked, asked_text, mismatch = "", "", ""
        for number, message in enumerate(row.messages, start=1):
            if message.role not in ("user", "assistant"):
                continue
            code = self.tell(message.content)
            if code and self.allowed and not any(are_near(code, known) for known in self.allowed):
                return judge(row, self.name, self.action, f"{message.role} message {number} is in {code!r}")
            if message.role == "user":
                asked, asked_text = code, message.content
            elif not mismatch and number > 1:
                mismatch = _mismatch(asked, code, asked_text, message.content)
        if mismatch and not _speaks_of_languages(row):
            return judge(row, self.name, self.action, mismatch)
        return row


def _mismatch(asked: str, code: str, prompt: str, answer: str) -> str:
    """Compare languages where both are told, else scripts: Cyrillic is not answered in Latin letters."""
    if asked and code:
        return "" if are_near(asked, code) else f"an answer in {code!r} to a prompt in {asked!r}"
    scripts = script(prompt), script(answer)
    return f"an answer in {scripts[1]} letters to a prompt in {scripts[0]}" if all(scripts) and scripts[0] != scripts[1] else ""


def _speaks_of_languages(row: Row) -> bool:
    known = phrases("languages")["speaks_of_one"]
    return any(known.search(message.content) for message in row.messages if message.role != "assistant")


def with_languages(allowed: tuple[str, ...], *, action: Action, tell: Callable[[str], str] = language) -> Language:
    """Make the rule from the recipe's codes; `tell` gives a text's language.

    Raises:
        RecipeError: a code that no language has, or that cannot be told.
    """
    for code in allowed:
        known = known_languages()
        if code not in known:
            near = ", ".join(difflib.get_close_matches(code, sorted(known), n=3, cutoff=0.4))
            raise RecipeError(
                f"There is no language {code!r}{f'; near it: {near}' if near else ''}.",
                where="[prepare] languages",
                mend="Write two-letter codes (ISO 639-1), such as en, de, fr or zh.",
            )
    return Language(action=action, allowed=allowed, tell=tell)
