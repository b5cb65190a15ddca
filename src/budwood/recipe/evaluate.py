"""[evaluate]: the suite made from the test split, and how answers are judged."""

from typing import Annotated

from pydantic import AfterValidator, Field

from budwood.recipe.section import Names, Section, check_known

SCORERS = ("exact", "normalised", "label", "json_exact", "json_fields", "numeric", "chrf", "bleu")
"""Names of the scorers; tests/recipe/test_names.py holds them to `budwood.scorers`."""


def _check_scorer(name: str) -> str:
    return check_known(name, SCORERS, "scorer")


def _check_scorers(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_check_scorer, names))


class StyleRules(Section):
    """[evaluate.style]: form of an answer; each broken rule is counted by name."""

    max_characters: int = Field(default=0, ge=0, description="longest answer; 0: no limit")
    single_line: bool = Field(default=False, description="no line break in the answer")
    no_markdown: bool = Field(default=False, description="no code fences, headings or bullets")
    must_start_with: str = Field(default="", description="how every answer begins")
    must_end_with: str = Field(default="", description="how every answer ends")


class PolicyRules(Section):
    """[evaluate.policy]: what an answer must never hold."""

    forbidden: Names = Field(default=(), description="phrases, compared without case")
    personal_data: bool = Field(default=True, description="e-mail, phone, card, IBAN in an answer is a violation")


class EvaluateSection(Section):
    primary: Annotated[str, AfterValidator(_check_scorer)] = Field(
        default="exact", description="metric that the gate calls quality: a scorer's name"
    )
    scorers: Annotated[Names, AfterValidator(_check_scorers)] = Field(
        default=("exact", "normalised", "json_fields", "chrf"), description="accuracy scorers"
    )
    slice_by: Names = Field(default=(), description="columns or JSON answer fields to slice by")
    max_cases: int = Field(default=0, ge=0, description="first cases by hash of their id; 0: all test rows")
    max_new_tokens: int = Field(default=128, ge=1, description="longest answer in tokens")
    temperature: float = Field(default=0.0, ge=0, description="0: greedy")
    answer_schema: str = Field(default="", description="JSON Schema of an answer; empty: [prepare] answer_schema")
    style: StyleRules = StyleRules()
    policy: PolicyRules = PolicyRules()
