"""Lengths in tokens, as `prepare` asks for them: one row, or many at a time, in whichever process."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError
from budwood.pipeline.job import template_of

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef
    from budwood.engine.chat import ChatTemplate

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class TemplateLengths:
    """Counts by a base's template and tokenizer. Sent to another process, it reads them there again.

    Args:
        ref: the base.
        template: its template, where it is at hand.
    """

    def __init__(self, ref: "BaseRef", template: "ChatTemplate | None" = None) -> None:
        self._ref, self._given = ref, template

    def __reduce__(self) -> tuple[type["TemplateLengths"], tuple["BaseRef"]]:
        return TemplateLengths, (self._ref,)

    def __call__(self, messages: Messages, tools: Tools = (), /) -> int:
        return self._template.token_length(messages, tools)

    def many(self, rows: Sequence[tuple[Messages, Tools]], /) -> list[int | DataError]:
        return self._template.token_lengths(rows)

    @cached_property
    def _template(self) -> "ChatTemplate":
        return self._given or template_of(self._ref)
