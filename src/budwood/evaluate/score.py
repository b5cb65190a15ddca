"""One answer → one case record, with every score and every broken rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budwood.evaluate.suite import Case, Suite
from budwood.recipe import EvaluateSection
from budwood.scorers import SchemaCheck, broken_policies, broken_styles, flags
from budwood.scorers.json_answers import field_scores
from budwood.text import pii


@dataclass(frozen=True)
class AnswerRecord:
    """What came out for one case.

    Args:
        output: the text.
        finish: "stop", or "length" when it ran into the token limit.
        tokens: new tokens.
        first_token_s: seconds until the first token, from the start of the whole evaluation's batch.
        seconds: from the first token to the last.
    """

    output: str
    finish: str
    tokens: int
    first_token_s: float
    seconds: float


def score_case(
    case: Case, answer: AnswerRecord, suite: Suite, section: EvaluateSection, schema: SchemaCheck | None
) -> dict[str, Any]:
    """Score one answer. Times are left out: they are no part of what a report says."""
    fields = field_scores(case.expected, answer.output)
    return {
        "case_id": case.case_id,
        "group": case.group,
        "slices": dict(case.slices),
        "prompt": [dict(message) for message in case.messages],
        **({"tools": list(case.tools)} if case.tools else {}),
        "expected": case.expected,
        "output": answer.output,
        "finish": answer.finish,
        "tokens": answer.tokens,
        "scores": {scorer.name: scorer.score(case.expected, answer.output) for scorer in suite.scorers},
        "fields": fields or None,
        "style": broken_styles(answer.output, section.style),
        "policy": broken_policies(answer.output, section.policy, find_personal_data=personal_data),
        "schema_ok": None if schema is None else schema(answer.output),
        "flags": flags(answer.output, answer.finish),
    }


def personal_data(text: str) -> list[str]:
    """Name the kinds of personal data in a text."""
    return [finding.kind for finding in pii.find(text)]


def count(records: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, int]:
    """Count rule names over records."""
    totals: dict[str, int] = {}
    for record in records:
        for name in record[key]:
            totals[name] = totals.get(name, 0) + 1
    return totals
