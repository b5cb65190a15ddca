"""The stage: a subject answers a suite → a report object."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import EvaluationError
from budwood.evaluate.answering import Answer
from budwood.evaluate.report import encode
from budwood.evaluate.score import AnswerRecord, score_case
from budwood.evaluate.suite import Suite
from budwood.evaluate.summary import summarise
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.recipe import Recipe
from budwood.scorers import compile_schema

if TYPE_CHECKING:
    from budwood.engine.base import Quantization
    from budwood.store import Store

VERSION = 1
"""Version of the stage: raise it when the same suite and answers would give another report."""


@dataclass(frozen=True)
class Subject:
    """What answers. `digest` is the object of the base, adapter or model."""

    kind: Literal["base", "adapter", "model"]
    digest: Digest
    quantization: "Quantization"
    precision: str


def evaluate(
    recipe: Recipe,
    store: "Store",
    snapshot: Digest,
    suite: Suite,
    subject: Subject,
    *,
    answer: Answer,
    report: Reporter = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> Digest:
    """Let a subject answer every case, score the answers, and store the report.

    Args:
        recipe: [evaluate] is read.
        store: where the report goes.
        snapshot: that the suite was made from.
        suite: from `make_suite`.
        subject: for the record.
        answer: does the answering.
        report: told of progress.
        clock: seconds.

    Raises:
        EvaluationError: an answer is missing, a case's prompt does not fit, or the answer schema is none.
        StoreError: the subject or the snapshot is not in the store, or the disk is full.
    """
    schema = compile_schema(suite.schema, where="[evaluate] answer_schema") if suite.schema else None
    title = f"Answering as {subject.kind}"

    def progress(done: int, total: int) -> None:
        report(Event("evaluate", title, done, total, "cases"))

    progress(0, len(suite.cases))
    started = clock()
    answers = answer(suite.cases, suite.decoding, progress)
    seconds = clock() - started
    if len(answers) != len(suite.cases):
        raise EvaluationError(f"{len(suite.cases):,} cases have {len(answers):,} answers.", mend="This is a bug; report it.")
    records = [score_case(case, one, suite, recipe.evaluate, schema) for case, one in zip(suite.cases, answers, strict=True)]
    body = {
        "suite": suite.digest,
        "subject": asdict(subject),
        "decoding": asdict(suite.decoding),
        "scorers": {scorer.name: scorer.version for scorer in suite.scorers},
        "primary": recipe.evaluate.primary,
    }
    summary = summarise(records)
    with store.draft("report") as draft:
        with (draft.folder / "cases.jsonl").open("wb") as lines:
            lines.writelines(encode(record) for record in records)
        (draft.folder / "summary.json").write_bytes(encode(summary, indent=1))
        return draft.commit(
            parents=[snapshot, subject.digest],
            body={**body, "metrics": summary["metrics"]},
            attestation=_attestation(answers, seconds),
        )


def _attestation(answers: Sequence[AnswerRecord], seconds: float) -> dict[str, Any]:
    """Times of this very run. Seconds per token are of the decode alone: waiting for the batch is not the subject's doing."""
    tokens = sum(one.tokens for one in answers)
    paces = [one.seconds / (one.tokens - 1) for one in answers if one.tokens > 1]
    totals = sorted(one.first_token_s + one.seconds for one in answers)
    return {
        "latency": {
            **({"seconds_per_token_median": median(paces)} if paces else {}),
            "first_token_p50": median(one.first_token_s for one in answers),
            "total_p50": median(totals),
            "total_p95": totals[min(len(totals) - 1, int(0.95 * len(totals)))],
        },
        "tokens_per_s": tokens / max(seconds, 1e-9),
        "seconds": seconds,
    }
