"""length: a row that is longer than the limit after its template is rejected or stops the stage; it is never cut.

A cut answer teaches a model to stop in mid-sentence. The length comes in as a function, because it is the base's tokenizer
and template that decide it; without one the rule measures nothing, and the snapshot says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from budwood.errors import BudwoodError, DataError
from budwood.prepare.row import BatchLength, Drop, Row, TokenLength
from budwood.prepare.rules.rule import Pair
from budwood.tool_calls import Tool

Chat = tuple[list[dict[str, Any]], Sequence[Tool]]
"""Messages as a chat template takes them, and tools."""
TEMPLATE = "template"
"""What rejects a row that the base's template refuses, or of which it leaves nothing to learn."""


@dataclass(frozen=True)
class Length:
    """The rule.

    Args:
        limit: most tokens of a row, its template included; 0: only measured.
        too_long: "error" stops at the first row over the limit.
        no_target: "error" stops at the first row of which the template leaves nothing to learn.
    """

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 1
    limit: int = 0
    too_long: Literal["error", "reject"] = "reject"
    no_target: Literal["error", "reject"] = "reject"
    token_length: TokenLength | None = field(default=None, compare=False)

    def options(self) -> dict[str, Any]:
        return {"limit": self.limit, "too_long": self.too_long, "measured": self.token_length is not None}

    @property
    def measures(self) -> bool:
        return self.token_length is not None

    def measure(self, pairs: Sequence[Pair]) -> Sequence[int | None]:
        """Count the tokens of pairs; None for one that may have to go, and is shown to `apply_all`."""
        asked = [
            ([{"role": "user", "content": pair.asked}, {"role": "assistant", "content": pair.answered}], ()) for pair in pairs
        ]
        return [tokens if isinstance(tokens, int) and self._fits(tokens) else None for tokens in self._counted(asked)]

    def apply(self, row: Row) -> Row | Drop:
        (outcome,) = self.apply_all([row])
        if isinstance(outcome, BudwoodError):
            raise outcome
        return outcome

    def apply_all(self, rows: Sequence[Row]) -> Sequence[Row | Drop | BudwoodError]:
        """Judge rows; a tokenizer is several times as fast on many."""
        if self.token_length is None:
            return rows
        counted = self._counted([(row.chat(), row.tools) for row in rows])
        return [self._judge(row, tokens) for row, tokens in zip(rows, counted, strict=True)]

    def _counted(self, chats: Sequence[Chat]) -> Sequence[int | DataError]:
        if isinstance(self.token_length, BatchLength):
            return self.token_length.many(chats)
        return [self._count(chat) for chat in chats]

    def _count(self, chat: Chat) -> int | DataError:
        assert self.token_length is not None
        try:
            return self.token_length(*chat)
        except DataError as error:
            return error

    def _fits(self, tokens: int) -> bool:
        return not self.limit or tokens <= self.limit

    def _judge(self, row: Row, tokens: int | DataError) -> Row | Drop | BudwoodError:
        if isinstance(tokens, DataError):
            if self.no_target == "error":
                return DataError(f"{row}: {tokens.what}", where=tokens.where, mend=tokens.mend)
            return Drop(tokens.what, TEMPLATE)
        if self._fits(tokens):
            return replace(row, tokens=tokens)
        if self.too_long == "error":
            return DataError(
                f"{row} is {tokens:,} tokens long, the limit is {self.limit:,}.",
                mend='Raise [prepare] max_tokens (up to the base\'s context), or set too_long = "reject".',
            )
        return Drop(f"{tokens:,} tokens, the limit is {self.limit:,}")
