"""truncated: answers that end in the middle of a sentence teach a model to stop there.

Off, flag or drop. What no finished answer ends in (a comma, an article, an open block of code or bracket) is acted on as the
recipe says. A last sentence that only lacks its mark is flagged even where the recipe says drop: in many a set that is style.
How endings are judged, and what is let be: `budwood.text.wording.endings`. Not found: an answer cut right after a full stop,
an item of a list whose items have no marks, a lone fragment of a few words.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.prepare.rules.wording import Action, answers
from budwood.text.wording.endings import cut_off


@dataclass(frozen=True)
class Truncated:
    name: ClassVar[str] = "truncated"
    version: ClassVar[int] = 1
    action: Action = "flag"

    def options(self) -> dict[str, Any]:
        return {"action": self.action}

    def leaves(self, pair: Pair) -> bool:
        return self.action == "off" or cut_off(pair.answered) is None

    def apply(self, row: Row) -> Row | Drop:
        if self.action == "off":
            return row
        found = [cut for answer, _ in answers(row) if (cut := cut_off(answer))]
        if not found:
            return row
        cut = next((cut for cut in found if cut.certain), found[0])
        if cut.certain and self.action == "drop":
            return Drop(f"an answer is cut: {cut.reason}")
        return row.touch(self.name, "flagged", f"an answer {'is' if cut.certain else 'may be'} cut: {cut.reason}")
