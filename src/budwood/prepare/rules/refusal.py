"""refusal: boilerplate of assistants: "I can't assist with that", "As an AI language model …".

Off, flag or drop. Flagged by default, since a set may mean its refusals: who trains a model to decline wants them; what a
business might say as well is flagged even where the recipe says drop. What counts: `budwood.text.wording.refusals`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.prepare.rules.wording import Action, answers, judge
from budwood.text.wording.refusals import boilerplate

REASONS = {"refusal": "an answer declines in boilerplate", "disclaimer": "an answer speaks of itself as a model"}


@dataclass(frozen=True)
class Refusal:
    name: ClassVar[str] = "refusal"
    version: ClassVar[int] = 2
    action: Action = "flag"

    def options(self) -> dict[str, Any]:
        return {"action": self.action}

    def leaves(self, pair: Pair) -> bool:
        return self.action == "off" or not boilerplate(pair.answered, pair.asked)

    def apply(self, row: Row) -> Row | Drop:
        if self.action == "off":
            return row
        found = [held for answer, asked in answers(row) if (held := boilerplate(answer, asked))]
        if not found:
            return row
        held = next((held for held in found if held.certain), found[0])
        return judge(row, self.name, self.action, REASONS[held.kind], certain=held.certain)
