"""user: the recipe's own rules, `[[prepare.user]]`: a pattern, or a Python function from the recipe's folder.

A pattern drops, flags or changes. It runs in linear time (`budwood.text.linear`), so no pattern can hang on a row; look-around
and back-references are refused. A function decides itself: see `user_function`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from budwood.errors import RecipeError
from budwood.prepare.row import Drop, Message, Row
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.user_function import load_function
from budwood.recipe.user_rule import UserRuleSection
from budwood.text.linear import LinearPattern

Where = Literal["anywhere", "prompts", "answers"]


@dataclass(frozen=True)
class UserPattern:
    """A rule made of a pattern.

    Args:
        name: the recipe's.
        pattern: as the recipe writes it.
        compiled: the same, made ready.
        action: what happens where it is found.
        where: "prompts" are all messages that no assistant wrote.
        replacement: of each match, as it stands.
    """

    version: ClassVar[int] = 1
    name: str
    pattern: str
    compiled: LinearPattern = field(compare=False)
    action: Literal["drop", "flag", "change"] = "drop"
    where: Where = "anywhere"
    replacement: str = ""

    def options(self) -> dict[str, Any]:
        changed = {"replacement": self.replacement} if self.action == "change" else {}
        return {"pattern": self.pattern, "action": self.action, "where": self.where} | changed

    def apply(self, row: Row) -> Row | Drop:
        places = [place for place, message in enumerate(row.messages) if self._is_meant(message) and self._matches(message)]
        if not places:
            return row
        where = ", ".join(f"{row.messages[place].role} message {place + 1}" for place in places)
        if self.action == "drop":
            return Drop(f"found in {where}")
        if self.action == "flag":
            return row.touch(self.name, "flagged", f"found in {where}")
        return row.mend_at(places, self.name, "replaced", lambda text: self.compiled.replace(text, self.replacement))

    def _is_meant(self, message: Message) -> bool:
        return self.where == "anywhere" or (message.role == "assistant") == (self.where == "answers")

    def _matches(self, message: Message) -> bool:
        return any(map(self.compiled.search, message.texts))


def user_rule(section: UserRuleSection, folder: Path) -> Rule:
    """Make one rule.

    Raises:
        RecipeError: the pattern or the function cannot be used.
    """
    if section.function:
        return load_function(section, folder)
    try:
        compiled = LinearPattern(section.pattern)
    except ValueError as error:
        raise RecipeError(
            f"{error}.",
            where=f"[[prepare.user]] {section.name}",
            mend="Write it without look-around and back-references, or as a function.",
        ) from None
    return UserPattern(
        name=section.name,
        pattern=section.pattern,
        compiled=compiled,
        action=section.action,
        where=section.where,
        replacement=section.replacement,
    )
