"""[prepare]: rules, duplicates, splits."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from budwood.recipe.benchmark import Benchmark
from budwood.recipe.section import LARGEST_SEED, Names, Section, check_known
from budwood.recipe.semantic import SemanticSection
from budwood.recipe.user_rule import UserRuleSection

RULES = (
    "unicode",
    "control_characters",
    "whitespace",
    "roles",
    "empty_answer",
    "prompt_echo",
    "truncated",
    "false_access",
    "refusal",
    "language",
    "forbidden",
    "label",
    "json_answer",
    "user",
    "pii",
    "length",
)
"""All cleaning rules, in the order in which they apply unless the recipe says otherwise; "user" stands for [[prepare.user]]."""

PII_KINDS = ("secret", "email", "iban", "national_id", "card", "ip", "phone")
"""Kinds of personal data that are looked for."""

Action = Literal["off", "flag", "drop"]


def _check_rules(names: tuple[str, ...]) -> tuple[str, ...]:
    for number, name in enumerate(names):
        check_known(name, RULES, "rule")
        if name in names[:number]:
            raise ValueError(f"The rule {name!r} is named twice")
    return names


def _check_kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        check_known(name, PII_KINDS, "kind of personal data")
    return names


class PrepareSection(Section):
    system: str = Field(default="", description="system message put before each row that has none")
    rules: Annotated[Names, AfterValidator(_check_rules)] = Field(default=RULES, description="cleaning rules, in order")
    answer_schema: str = Field(default="", description="JSON Schema file that every answer must satisfy; empty: none")
    labels: Names = Field(default=(), description="allowed answers; empty: any")
    pii: Literal["redact", "drop", "flag"] = Field(default="redact", description="what happens to personal data in a row")
    pii_kinds: Annotated[Names, AfterValidator(_check_kinds)] = Field(
        default=PII_KINDS, description="kinds of personal data that are looked for"
    )
    truncated: Action = Field(default="flag", description="an answer that ends in the middle of a sentence")
    false_access: Action = Field(
        default="flag", description="an answer that claims to have opened a link or file, or searched the web"
    )
    refusal: Action = Field(default="flag", description="boilerplate: a refusal, or an answer that speaks of itself as a model")
    language: Action = Field(
        default="off", description="a text in none of `languages`, or an answer in another language than its prompt"
    )
    languages: Names = Field(default=(), description='allowed languages, e.g. ["en", "de"]; empty: any')
    forbidden: Names = Field(
        default=(), description='terms that no row may hold, as whole words; "term*" finds longer ones too'
    )
    forbidden_file: str = Field(default="", description="file with more such terms, one a line")
    forbidden_action: Literal["drop", "flag"] = Field(default="drop", description="what happens to a row with a forbidden term")
    forbidden_where: Literal["anywhere", "answers"] = Field(
        default="anywhere", description="texts that terms are looked for in"
    )
    user: tuple[UserRuleSection, ...] = Field(default=(), strict=False, description="rules of the recipe's own")
    conflicts: Literal["majority", "drop", "stop", "keep"] = Field(
        default="majority",
        description="same prompt, different answers: keep the majority's, drop all, stop, or keep all of them",
    )
    near_duplicate: float = Field(default=0.8, gt=0, le=1, description="true Jaccard above which rows are one group")
    semantic: SemanticSection = SemanticSection()
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

    @model_validator(mode="after")
    def _what_is_set_is_at_work(self) -> Self:
        """A setting of a rule that is left out would change nothing, and nobody would notice."""
        if self.languages and self.language == "off":
            raise ValueError('languages are listed, and language = "off": write language = "flag" or "drop"')
        asked = {"user": self.user, "forbidden": self.forbidden or self.forbidden_file, "language": self.language != "off"}
        for rule, setting in asked.items():
            if setting and rule not in self.rules:
                raise ValueError(
                    f'rules leaves out "{rule}", which other keys set up: add it to the list, or remove those keys'
                )
        names = [rule.name for rule in self.user]
        taken = {*RULES, "read", "template", "tool_turns", "leak", "conflict", "contamination"}
        taken |= {"exact_duplicate", "near_duplicate", "semantic_duplicate"}
        for number, name in enumerate(names):
            if name in taken or name in names[:number]:
                raise ValueError(f"user: the name {name!r} is taken; every rule needs one of its own")
        return self

    def as_values(self) -> dict[str, Any]:
        """All keys as JSON values; what came later is left out where it changes nothing, so that digests over them stay."""
        values = self.model_dump(mode="json")
        if not self.semantic.model:
            del values["semantic"]
        return values

    @property
    def files(self) -> tuple[str, ...]:
        """Files that this section names, from the recipe's folder: what they hold decides what is prepared."""
        named = (self.answer_schema, self.forbidden_file, *(rule.file for rule in self.user))
        return tuple(dict.fromkeys(name for name in named if name))
