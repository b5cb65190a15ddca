"""The suite: which cases, what is expected, how it is scored and decoded, under one digest."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import EvaluationError
from budwood.identity import Digest, digest_bytes, digest_json, short
from budwood.recipe import Recipe
from budwood.scorers import Scorer, compile_schema, scorer_named
from budwood.scorers.json_answers import parse

if TYPE_CHECKING:
    from budwood.store import Store


@dataclass(frozen=True)
class Case:
    """One prompt with its expectation.

    Args:
        case_id: of its row.
        group: cases of one are resampled together.
        messages: the prompt.
        expected: the text that is wanted.
        slices: name → value, for the tables by slice.
        tools: schemas of the functions that the answer may call.
    """

    case_id: str
    group: str
    messages: tuple[Mapping[str, Any], ...]
    expected: str
    slices: Mapping[str, str]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How answers are made: 0 is greedy."""

    temperature: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True)
class Suite:
    """What two reports must share to be compared. `schema` is the text of the answer schema, "" for none."""

    cases: tuple[Case, ...]
    scorers: tuple[Scorer, ...]
    decoding: Decoding
    schema: str
    digest: Digest


Spell = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], str]
"""Messages and tools → the text of the last answer as a model writes it, calls included."""


def make_suite(recipe: Recipe, store: "Store", snapshot: Digest, *, spell: Spell | None = None) -> Suite:
    """Make the suite from a snapshot's test rows: the last answer of a row is the expectation, what precedes it the prompt.

    An answer that calls a tool is expected as the base's template writes it, which `spell` tells.

    The digest is over everything that a report of this suite depends on, but for who answers: cases with their groups and
    slices, scorers and their versions, the primary one, decoding, schema, style and policy.

    Raises:
        EvaluationError: no test rows, a row without an answer, or with one that calls a tool and nothing that spells it, an
            id twice, an unknown scorer, a primary scorer that does not apply to every case, or a schema file that cannot be
            read or holds none.
        DataError: the template does not render a call.
    """
    section = recipe.evaluate
    names = tuple(dict.fromkeys((section.primary, *section.scorers)))
    scorers = tuple(scorer_named(name) for name in names)
    cases = _cases(store.file(snapshot, "test.jsonl"), section.slice_by, spell)
    if section.max_cases:
        cases = sorted(cases, key=lambda case: digest_bytes(case.case_id.encode()))[: section.max_cases]
    if not cases:
        raise EvaluationError(
            "The snapshot has no test rows, so nothing can be judged.",
            where="[prepare] test",
            mend='Raise test, or give a source with split = "test".',
        )
    _check(cases, scorers[0])
    decoding = Decoding(section.temperature, section.max_new_tokens, recipe.seed)
    schema = _schema(recipe)
    content = {
        "cases": [
            # Tools came later: cases without any keep their names.
            [case.case_id, case.group, list(map(dict, case.messages)), case.expected, dict(case.slices)]
            + ([list(case.tools)] if case.tools else [])
            for case in cases
        ],
        "primary": section.primary,
        "scorers": {scorer.name: scorer.version for scorer in scorers},
        "decoding": vars(decoding),
        "schema": schema,
        "style": section.style.model_dump(mode="json"),
        "policy": section.policy.model_dump(mode="json"),
    }
    return Suite(tuple(cases), scorers, decoding, schema, digest_json(content))


def _cases(path: Path, slice_by: Sequence[str], spell: Spell | None) -> list[Case]:
    with path.open("rb") as lines:
        return [_case(json.loads(line.decode("utf-8", "surrogatepass")), slice_by, spell) for line in lines]


def _case(row: Mapping[str, Any], slice_by: Sequence[str], spell: Spell | None) -> Case:
    messages = row["messages"]
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers or answers[-1] == 0:
        raise EvaluationError(
            f"Test row {short(row['row_id'])} has no answer with a prompt before it, so there is nothing to judge.",
            where="the snapshot's test split",
            mend="Prepare again: such rows are rejected with a record.",
        )
    # Whether an answer is learnt is training's affair: a case is the same either way.
    shown = [{key: value for key, value in message.items() if key != "train"} for message in messages]
    prompt, answer, tools = shown[: answers[-1]], shown[answers[-1]], tuple(row.get("tools", ()))
    if "tool_calls" not in answer:
        expected = answer["content"]
    elif spell is not None:
        expected = spell([*prompt, answer], tools)
    else:
        raise EvaluationError(
            f"The answer of test row {short(row['row_id'])} calls a tool, and no template is given that spells it.",
            where="the snapshot's test split",
            mend="Give make_suite the template's answer_text as spell.",
        )
    slices = _slices(row.get("slices", {}), expected, slice_by)
    return Case(row["row_id"], row.get("group") or row["row_id"], tuple(prompt), expected, slices, tools)


def _check(cases: Sequence[Case], primary: Scorer) -> None:
    """Find out before anything is answered what would leave the comparison without an answer."""
    ids = {case.case_id for case in cases}
    if len(ids) < len(cases):
        raise EvaluationError(
            f"{len(cases) - len(ids):,} of {len(cases):,} test rows have the id of another.",
            where="the snapshot's test split",
            mend="Prepare again; `budwood verify` tells whether the snapshot was damaged.",
        )
    without = [case.case_id for case in cases if primary.score(case.expected, "") is None]
    if without:
        raise EvaluationError(
            f"{primary.name!r} applies to {len(cases) - len(without):,} of {len(cases):,} cases only; not to "
            f"{short(without[0])}, for one.",
            where="[evaluate] primary",
            mend="Choose a scorer that fits every expectation, e.g. exact.",
        )


def _slices(columns: Mapping[str, Any], expected: str, slice_by: Sequence[str]) -> dict[str, str]:
    """Take each named slice from the row's columns, else from the fields of a JSON answer."""
    parsed = parse(expected)
    fields = parsed.value if parsed is not None and isinstance(parsed.value, dict) else {}
    found = {name: columns.get(name, fields.get(name)) for name in slice_by}
    return {name: str(value) for name, value in found.items() if value is not None}


def _schema(recipe: Recipe) -> str:
    name = recipe.evaluate.answer_schema or recipe.prepare.answer_schema
    if not name:
        return ""
    where = "[evaluate] answer_schema"
    try:
        text = recipe.path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"The answer schema {name!r} cannot be read: {error}.", where=where, mend="Check the path."
        ) from None
    compile_schema(text, where=where)
    return text
