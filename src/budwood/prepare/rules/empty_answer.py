"""empty_answer: a row needs something to learn: every assistant message calls a tool or holds text, and that is no placeholder.

Placeholders ("N/A", "TODO", "[your answer here]", "Answer:", lorem ipsum) drop the row; words that some tasks do answer with
("not available", "pending") only flag it. What the prompt offers as an answer, and the recipe's labels, are answers. The
wordings: `budwood.text.wording.placeholders`.

This rule always runs. Left out of the recipe's list, it runs last and without the placeholders.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from budwood.errors import DataError
from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.text.wording.placeholders import Placeholder, placeholder


@dataclass(frozen=True)
class EmptyAnswer:
    """The rule.

    Args:
        no_target: "error" stops at the first such row.
        labels: answers that are meant.
        placeholders: whether to look for them.
    """

    name: ClassVar[str] = "empty_answer"
    version: ClassVar[int] = 3
    no_target: Literal["error", "reject"] = "reject"
    labels: tuple[str, ...] = ()
    placeholders: bool = True

    def options(self) -> dict[str, Any]:
        return {"no_target": self.no_target, "placeholders": self.placeholders}

    def leaves(self, pair: Pair) -> bool:
        if not self.placeholders or pair.answered in self.labels:
            return True
        return placeholder(pair.answered, pair.asked) is None

    def apply(self, row: Row) -> Row | Drop:
        fault = self._fault(row)
        if not fault:
            return row
        if isinstance(fault, Placeholder):
            reason = f"a placeholder for an answer: {fault.kind}"
            if not fault.certain:
                return row.touch(self.name, "flagged", f"perhaps {reason}")
        else:
            reason = fault
        if self.no_target == "error":
            raise DataError(
                f"{row} has {reason}.",
                mend='Complete it, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        return Drop(reason)

    def _fault(self, row: Row) -> Placeholder | str:
        if row.messages[-1].role != "assistant":
            return "no answer"
        doubt: Placeholder | str = ""
        before = ""
        for message in row.messages:
            if message.role == "assistant" and not message.calls:
                text = message.content.strip()
                if not text:
                    return "an empty answer"
                found = placeholder(text, before) if self.placeholders and text not in self.labels else None
                if found and found.certain:
                    return found
                doubt = found or doubt
            before = message.content
        return doubt
