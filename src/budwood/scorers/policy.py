"""Policy rules: what an answer must never hold."""

from collections.abc import Callable, Iterable
from typing import Protocol

Finder = Callable[[str], Iterable[str]]
"""Text → kinds of personal data in it, e.g. "EMAIL". Handed in, since finding them is another room's skill."""
LONGEST = 100_000
TOO_LONG = "too long to check"


class PolicyOptions(Protocol):
    """What a recipe's [evaluate.policy] has."""

    @property
    def forbidden(self) -> tuple[str, ...]: ...
    @property
    def personal_data(self) -> bool: ...


def broken_policies(output: str, options: PolicyOptions, *, find_personal_data: Finder) -> list[str]:
    """Name the policies that an answer breaks: "forbidden: PHRASE" and "personal data: KIND".

    Phrases are compared without case, any white space counting as one space. An answer of more than 100,000 characters is not
    searched to its end and breaks "too long to check": what was not looked at is not called clean.
    """
    if not options.forbidden and not options.personal_data:
        return []
    text = output[:LONGEST]
    folded = _fold(text)
    broken = [f"forbidden: {phrase}" for phrase in options.forbidden if _fold(phrase) in folded]
    if options.personal_data:
        broken += [f"personal data: {kind}" for kind in sorted(set(find_personal_data(text)))]
    return [*broken, TOO_LONG] if len(output) > LONGEST else broken


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
