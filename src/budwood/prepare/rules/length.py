"""length: a row that is longer than the limit after its template is rejected or stops the stage; it is never cut.

A cut answer teaches a model to stop in mid-sentence. The length comes in as a function, because it is the base's tokenizer
and template that decide it; without one the rule measures nothing, and the snapshot says so.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from budwood.errors import DataError
from budwood.prepare.row import Drop, Row, TokenLength


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

    def apply(self, row: Row) -> Row | Drop:
        if self.token_length is None:
            return row
        try:
            tokens = self.token_length(row.chat(), row.tools)
        except DataError as error:
            if self.no_target == "error":
                raise DataError(f"{row}: {error.what}", where=error.where, mend=error.mend) from None
            return Drop(error.what)
        if not self.limit or tokens <= self.limit:
            return replace(row, tokens=tokens)
        if self.too_long == "error":
            raise DataError(
                f"{row} is {tokens:,} tokens long, the limit is {self.limit:,}.",
                mend='Raise [prepare] max_tokens (up to the base\'s context), or set too_long = "reject".',
            )
        return Drop(f"{tokens:,} tokens, the limit is {self.limit:,}")
