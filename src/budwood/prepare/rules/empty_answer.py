"""empty_answer: a row needs something to learn: every assistant message calls a tool or holds text, and that is no placeholder.

This rule always runs. Left out of the recipe's list, it runs last and without the placeholders.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from budwood.errors import DataError
from budwood.prepare.row import Drop, Row

PLACEHOLDERS = frozenset(
    {"n/a", "null", "nan", "undefined", "tbd", "todo", "...", "…", "-", "--", "<nooutput>", "nooutput", "<no output>",
     "no output", "<output>", "[output]", "{output}", "<answer>", "[answer]", "your answer here", "[insert answer here]"}
)  # fmt: skip
"""Compared without case; a text that is one of the recipe's labels is never one."""


@dataclass(frozen=True)
class EmptyAnswer:
    """The rule.

    Args:
        no_target: "error" stops at the first such row.
        labels: answers that are meant.
        placeholders: whether to look for them.
    """

    name: ClassVar[str] = "empty_answer"
    version: ClassVar[int] = 1
    no_target: Literal["error", "reject"] = "reject"
    labels: tuple[str, ...] = ()
    placeholders: bool = True

    def options(self) -> dict[str, Any]:
        return {"no_target": self.no_target, "placeholders": self.placeholders}

    def apply(self, row: Row) -> Row | Drop:
        fault = self._fault(row)
        if not fault:
            return row
        if self.no_target == "error":
            raise DataError(
                f"{row} has {fault}.",
                mend='Complete it, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        return Drop(fault)

    def _fault(self, row: Row) -> str:
        if row.messages[-1].role != "assistant":
            return "no answer"
        for message in row.messages:
            if message.role != "assistant" or message.calls:
                continue
            text = message.content.strip()
            if not text:
                return "an empty answer"
            if self.placeholders and text.casefold() in PLACEHOLDERS and text not in self.labels:
                return "a placeholder for an answer"
        return ""
