"""Policy rules: what an answer must never hold."""

from collections.abc import Callable, Iterable
from typing import Protocol

Finder = Callable[[str], Iterable[str]]
"""Text → kinds of personal data in it, e.g. "email". Handed in, since finding them is another room's skill."""
LONGEST = 100_000


class PolicyOptions(Protocol):
    """What a recipe's [evaluate.policy] has."""

    @property
    def forbidden(self) -> tuple[str, ...]: ...
    @property
    def personal_data(self) -> bool: ...


def broken_policies(output: str, options: PolicyOptions, *, find_personal_data: Finder) -> list[str]:
    """Name the policies that an answer breaks: "forbidden: PHRASE" and "personal data: KIND"; phrases without case."""
    text = output[:LONGEST]
    folded = text.casefold()
    broken = [f"forbidden: {phrase}" for phrase in options.forbidden if phrase.casefold() in folded]
    if options.personal_data:
        broken += [f"personal data: {kind}" for kind in sorted(set(find_personal_data(text)))]
    return broken
