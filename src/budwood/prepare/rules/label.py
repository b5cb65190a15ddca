"""label: where the recipe lists the allowed answers, an answer is one of them.

A spelling that differs only in case and white space is put right, with a record. Without a list the rule does nothing, and
a tool call is no label.
"""

import difflib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row, Touch
from budwood.prepare.rules.rule import Pair
from budwood.text.normalise import normalise


@dataclass(frozen=True)
class Label:
    name: ClassVar[str] = "label"
    version: ClassVar[int] = 1
    labels: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        return {"labels": list(self.labels)}

    def leaves(self, pair: Pair) -> bool:
        return not self.labels or pair.answered in self.labels

    def apply(self, row: Row) -> Row | Drop:
        if not self.labels or row.answer in self.labels or row.messages[-1].calls:
            return row
        alike = [label for label in self.labels if normalise(label) == normalise(row.answer)]
        if len(alike) == 1:
            messages = (*row.messages[:-1], row.messages[-1]._replace(content=alike[0]))
            touch = Touch(self.name, "changed", f"label spelt as {alike[0]!r}")
            return replace(row, messages=messages, touched=(*row.touched, touch))
        near = difflib.get_close_matches(row.answer, self.labels, n=1)
        return Drop(f"no allowed label; the nearest is {near[0]!r}" if near else "no allowed label")
