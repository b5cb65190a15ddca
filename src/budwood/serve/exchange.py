"""A request that has ended, as those see it who count, sample or repeat it. It lives in memory only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from budwood.serve.routing import alias_of
from budwood.tool_calls import strings

if TYPE_CHECKING:
    from budwood.serve.directory import Live

End = Literal["answered", "failed", "given up"]
"""By the server's fault it failed, by the client's will it was given up."""


@dataclass(frozen=True)
class Answer:
    text: str
    finish: str


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it.

    Args:
        id: as the reply names it.
        model: as it was asked for.
        live: the release that answered.
        key: of the sender; never stored.
        messages: of a conversation, as they were sent; empty for plain prompts.
        prompts: plain prompts, one for each group of `choices` answers.
        tools: schemas of functions.
        choices: answers a prompt.
        schema: JSON Schema that each answer has to satisfy; None: none.
        answers: whole ones only where `end` is "answered".
        end: how it ended.
        at: when it arrived, seconds since 1970.
        seconds: from then to its end.
        shadow_of: what the client got, where this is the answer of a shadow.
    """

    id: str
    model: str
    live: "Live"
    key: str
    messages: Sequence[Mapping[str, Any]]
    prompts: Sequence[str]
    tools: Sequence[Mapping[str, Any]]
    choices: int
    schema: str | None
    answers: Sequence[Answer]
    end: End
    at: float
    seconds: float
    shadow_of: "Exchange | None" = None

    @cached_property
    def characters(self) -> int:
        """How long it is, prompts and answers together."""
        answers = [answer.text for answer in self.answers]
        return sum(map(len, strings([self.messages, self.prompts, self.tools, answers])))

    @property
    def alias(self) -> tuple[str, str]:
        """Name and alias under which it was asked for, if that is an alias."""
        return alias_of(self.model)


Finished = Callable[[Exchange], None]
"""Takes an exchange; called in the event loop, so it returns at once and never fails."""
