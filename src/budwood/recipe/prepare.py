"""[prepare]: rules, duplicates, splits."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from budwood.recipe.benchmark import Benchmark
from budwood.recipe.section import LARGEST_SEED, Names, Section, check_known

RULES = (
    "unicode",
    "control_characters",
    "whitespace",
    "roles",
    "empty_answer",
    "prompt_echo",
    "label",
    "json_answer",
    "pii",
    "length",
)
"""All cleaning rules, in the order in which they apply unless the recipe says otherwise."""


def _check_rules(names: tuple[str, ...]) -> tuple[str, ...]:
    for number, name in enumerate(names):
        check_known(name, RULES, "rule")
        if name in names[:number]:
            raise ValueError(f"The rule {name!r} is named twice")
    return names


class PrepareSection(Section):
    system: str = Field(default="", description="system message put before each row that has none")
    rules: Annotated[Names, AfterValidator(_check_rules)] = Field(default=RULES, description="cleaning rules, in order")
    answer_schema: str = Field(default="", description="JSON Schema file that every answer must satisfy; empty: none")
    labels: Names = Field(default=(), description="allowed answers; empty: any")
    pii: Literal["redact", "drop", "flag"] = Field(default="redact", description="what happens to personal data in a row")
    conflicts: Literal["majority", "drop", "stop", "keep"] = Field(
        default="majority",
        description="same prompt, different answers: keep the majority's, drop all, stop, or keep all of them",
    )
    near_duplicate: float = Field(default=0.8, gt=0, le=1, description="true Jaccard above which rows are one group")
    benchmarks: tuple[Benchmark, ...] = Field(
        default=(), strict=False, description="files that must not be trained on: paths, or tables with path, name and columns"
    )
    contamination: Literal["drop", "flag", "stop"] = Field(
        default="drop", description="a row that holds text of a benchmark: reject it, flag it, or stop"
    )
    contamination_coverage: float = Field(
        default=0.5, gt=0, le=1, description="share of a benchmark row's prompt or answer that is too much in one row"
    )
    contamination_run: bool = Field(default=True, description="whether 13 words in a row, shared with a benchmark, are enough")
    group_by: str = Field(default="", description="a column whose equal values must lie in one split")
    validation: float = Field(default=0.1, ge=0, lt=0.9, description="share of groups for choices made during training")
    test: float = Field(default=0.1, ge=0, lt=0.9, description="share of groups for the gate alone")
    split_seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="key of the hash that assigns groups to splits")
    max_tokens: int = Field(default=0, ge=0, description="longest row after its template; 0: the base's context")
    too_long: Literal["error", "reject"] = Field(
        default="reject", description="a row over max_tokens: stop, or reject it with a record; it is never cut"
    )
    no_target: Literal["error", "reject"] = Field(
        default="reject", description="a row without an answer to learn: stop, or reject it with a record"
    )
    supervise: Literal["all", "last"] = Field(
        default="all", description="answers of a conversation that are learnt; those marked not to be never are"
    )
    max_malformed: float = Field(default=0.01, ge=0, le=1, description="share of unreadable lines above which we stop")
    strict: bool = Field(default=False, description="a source without origin, licence or labelling note is an error")
