"""false_access: answers that claim to have opened a link or file, searched the web, or looked into an account or a system.

A model trained on them learns to claim what it cannot do. Rows with tool calls are not looked at: there something may have
been opened. Off, flag or drop; what may be said of others or of a thing done ("I have refunded it") is flagged even where the
recipe says drop. What counts as a claim, and what is let be: `budwood.text.wording.access_claims`.
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
    version: ClassVar[int] = 2
    action: Action = "flag"

    def options(self) -> dict[str, Any]:
        return {"action": self.action}

    def leaves(self, pair: Pair) -> bool:
        return self.action == "off" or not claim(pair.answered, pair.asked)

    def apply(self, row: Row) -> Row | Drop:
        if self.action == "off" or row.calls_tools:
            return row
        found = [made for answer, asked in answers(row) if (made := claim(answer, asked))]
        if not found:
            return row
        made = next((made for made in found if made.certain), found[0])
        return judge(row, self.name, self.action, f"an answer claims {made.kind}", certain=made.certain)
