"""forbidden: terms that no row may hold, from the recipe or from a file beside it.

A term is a word or phrase, found as a whole word in any case, width and accent (`budwood.text.terms`); `term*` finds longer
words too. Drop (default) or flag. The record gives the term's place in the list and not the term. Without terms the rule does
nothing; no list comes with Budwood, since what is forbidden in a support desk is ordinary in a hospital.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from budwood.errors import RecipeError
from budwood.identity import digest_json
from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.text.terms import TermList


@dataclass(frozen=True)
class Forbidden:
    """The rule.

    Args:
        terms: what is forbidden.
        action: "drop" or "flag".
        where: "anywhere", or only in "answers".
        compiled: the terms, made ready.
    """

    name: ClassVar[str] = "forbidden"
    version: ClassVar[int] = 1
    terms: tuple[str, ...] = ()
    action: Literal["drop", "flag"] = "drop"
    where: Literal["anywhere", "answers"] = "anywhere"
    compiled: TermList | None = field(default=None, compare=False)

    def options(self) -> dict[str, Any]:
        listed = {"terms": len(self.terms), "list": digest_json(list(self.terms))} if self.terms else {"terms": 0}
        return {"action": self.action, "where": self.where} | listed

    def leaves(self, pair: Pair) -> bool:
        if self.compiled is None:
            return True
        texts = (pair.answered,) if self.where == "answers" else (pair.asked, pair.answered)
        return not any(map(self.compiled.first, texts))

    def apply(self, row: Row) -> Row | Drop:
        if self.compiled is None:
            return row
        for number, message in enumerate(row.messages, start=1):
            if self.where == "answers" and message.role != "assistant":
                continue
            place = next((place for text in message.texts if (place := self.compiled.first(text))), 0)
            if place:
                reason = f"{message.role} message {number} holds forbidden term {place}"
                return Drop(reason) if self.action == "drop" else row.touch(self.name, "flagged", reason)
        return row


def with_terms(
    terms: tuple[str, ...],
    file: Path | None,
    *,
    action: Literal["drop", "flag"],
    where: Literal["anywhere", "answers"],
    shown: str = "",
) -> Forbidden:
    """Make the rule from the recipe's terms and those of a file, one a line; empty lines and comments (#) are left out.

    Raises:
        RecipeError: the file cannot be read, or a term holds nothing to look for.
    """
    listed = (*terms, *(_read(file, shown) if file else ()))
    try:
        compiled = TermList(listed) if listed else None
    except ValueError as error:
        raise RecipeError(f"{str(error).capitalize()}.", where="[prepare] forbidden", mend="Correct or remove it.") from None
    return Forbidden(terms=listed, action=action, where=where, compiled=compiled)


def _read(path: Path, shown: str) -> tuple[str, ...]:
    where = "[prepare] forbidden_file"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise RecipeError(f"The list {shown!r} is not UTF-8.", where=where, mend="Save the file as UTF-8.") from None
    except (OSError, ValueError):
        raise RecipeError(f"There is no readable list {shown!r}.", where=where, mend="Check the path.") from None
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
