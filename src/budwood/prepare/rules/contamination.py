"""contamination: a row that holds text of a benchmark is dropped, flagged, or stops the stage.

A benchmark is a file that the recipe names. Its prompts and its answers are judged apart; too much of one is

* a run: 13 words in a row, as in lm-evaluation-harness;
* coverage: half of its words lie in 8-grams that one single row shares with it (as in Tülu 3's decontamination); of a prompt
  of 8 to 23 words it takes all of them, and so short an answer is not judged;
* likeness: a prompt of fewer than 24 words is as near as [prepare] near_duplicate says, by character n-grams.

A shorter answer is a label, a number or a stock phrase: that a row shares it says nothing. N-grams that more than ten texts of
a benchmark have in common, or a tenth of them where they are few, or that stand in the recipe's system message, are
boilerplate; nor are system messages of rows looked at.

How the thresholds were chosen (`benchmarks/contamination.py` measures it). Of GSM8K's 7,473 training rows 10 are hit by its
1,319 test rows: the 3 by coverage, and one more by a run in the prompt, are test questions told with other names or numbers;
the 6 by a run in the answer are arithmetic that many solutions share: false alarms, 0.08 % of the rows. GSM8K hits none of
10,003 BANKING77 questions. Their own test file, which has near-duplicates of many, hits 28 by half of a text of 24 words; of
16 words it would be 63 and of 8 words 348, mostly for stock phrases of an intent. Of GSM8K questions planted in a row
all are found as they are and inside another prompt, 99 % when the last third is missing, 87 % with all numbers changed, 89 %
with every tenth word changed. Where rows are made from records or templates (E2E: a third of the rows are hit) n-grams are
no evidence: flag, or raise the share and turn runs off.

Published test files among the sources are looked at too. What repeats a row of theirs is a leak and goes in any case; a
row that only shares a run or half of a text with them is flagged, unless the recipe also names the file as a benchmark.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from budwood.errors import DataError
from budwood.prepare.guard import Guard
from budwood.prepare.row import Drop, Row


@dataclass(frozen=True)
class Contamination:
    """The rule.

    Args:
        guard: the benchmarks, indexed.
        action: what happens to a row that holds text of a benchmark that the recipe names.
        near_duplicate: how alike short prompts have to be.
    """

    name: ClassVar[str] = "contamination"
    version: ClassVar[int] = 1
    guard: Guard = field(compare=False)
    action: Literal["drop", "flag", "stop"] = "drop"
    near_duplicate: float = 0.8

    def options(self) -> dict[str, Any]:
        held = [{"name": one.name, "sha256": one.sha256, "published": one.published} for one in self.guard.benchmarks]
        return {
            "action": self.action,
            "coverage": self.guard.coverage,
            "run": self.guard.run,
            "near_duplicate": self.near_duplicate,
            "benchmarks": held,
        }

    def apply(self, row: Row) -> Row | Drop:
        if row.declared == "test":
            return row
        hits = self.guard.look(row.messages)
        if not hits:
            return row
        named = [hit for hit in hits if not self.guard.benchmarks[hit.benchmark].published]
        if not named or self.action == "flag":
            return row.touch(self.name, "flagged", self.guard.say(hits))
        reason = self.guard.say(named)
        if self.action == "stop":
            raise DataError(
                f"{row} holds text of a benchmark: {reason}.",
                mend='Take it out, or set [prepare] contamination to "drop" or "flag".',
            )
        return Drop(reason)
