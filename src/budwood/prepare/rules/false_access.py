"""false_access: answers that claim to have opened a link, a file or a picture, or to have searched the web.

A model trained on them learns to claim what it cannot do. Rows with tool calls are not looked at: there something may have
been opened. Off, flag or drop. What counts as a claim, and what is let be: `budwood.text.wording.access_claims`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.prepare.rules.wording import Action, answers, judge
from budwood.text.wording.access_claims import claim


@dataclass(frozen=True)
class FalseAccess:
    name: ClassVar[str] = "false_access"
    version: ClassVar[int] = 1
    action: Action = "flag"

    def options(self) -> dict[str, Any]:
        return {"action": self.action}

    def leaves(self, pair: Pair) -> bool:
        return self.action == "off" or not claim(pair.answered, pair.asked)

    def apply(self, row: Row) -> Row | Drop:
        if self.action == "off" or row.calls_tools:
            return row
        found = next((found for answer, asked in answers(row) if (found := claim(answer, asked))), "")
        return judge(row, self.name, self.action, f"an answer claims {found}") if found else row
