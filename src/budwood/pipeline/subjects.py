"""Who answers a suite: the result of a run, the base under it, the release that is live."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from budwood.errors import ReleaseError
from budwood.identity import Digest, short
from budwood.pipeline.job import Job
from budwood.pipeline.known import live_release

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef, Quantization
    from budwood.evaluate.answering import Answerers
    from budwood.evaluate.run import Subject
    from budwood.evaluate.suite import Suite


@dataclass(frozen=True)
class Standing:
    """A subject with what is needed to let it answer: a base (or full model) and the adapter on it."""

    subject: "Subject"
    ref: "BaseRef"
    adapter: Path | None

    @property
    def result_kind(self) -> Literal["adapter", "model"]:
        return "model" if self.subject.kind == "model" else "adapter"


def result_of(job: Job, run_digest: Digest) -> Standing:
    body = job.store.manifest(run_digest).body
    return standing(job, Digest(body["result"]), body["quantization"], body["precision"])


def plain_base(job: Job, result: Standing) -> Standing:
    """The base in the form that the result stands on; under a full model, the base as it came."""
    from budwood.evaluate.run import Subject

    subject = Subject("base", job.base.object, result.subject.quantization, result.subject.precision)
    return Standing(subject, job.base.ref, None)


def live_subject(job: Job) -> Standing | None:
    """What the recipe's alias points to now, as a subject of this base's suite."""
    digest = live_release(job)
    if digest is None:
        return None
    body = job.store.manifest(digest).body
    if body["result"]["kind"] == "none":
        return None
    if body["base"]["weights_digest"] != job.base.identity.weights_digest:
        raise ReleaseError(
            f"{job.recipe.name}@{job.recipe.release.alias} stands on base {body['base']['id']}, this recipe on "
            f"{job.recipe.base.id}: they cannot be compared by this run.",
            where="[base] id",
            mend="Use another name or another [release] alias for the new base.",
        )
    return standing(job, Digest(body["result"]["digest"]), body["base"]["quantization"], body["base"]["precision"])


def standing(job: Job, digest: Digest, quantization: "Quantization", precision: str) -> Standing:
    from budwood.engine.base import BaseRef
    from budwood.evaluate.run import Subject

    folder = job.store.folder(digest)
    if job.store.manifest(digest).kind == "model":
        return Standing(Subject("model", digest, "none", precision), BaseRef(digest, folder, None), None)
    return Standing(Subject("adapter", digest, quantization, precision), job.base.ref, folder)


def report_of(job: Job, snapshot: Digest, suite: "Suite", standing: Standing, answerers: "Answerers") -> Digest:
    from budwood.evaluate.run import VERSION
    from budwood.evaluate.run import evaluate as run_evaluate

    subject = standing.subject
    key = job.store.action("evaluate", VERSION, {"suite": suite.digest, **asdict(subject)}, [snapshot], job.recipe.seed)
    done = job.store.done(key)
    if done is not None:
        job.say("evaluate", f"Unchanged: report {short(done)} of the {subject.kind} is used again")
        return done
    answer = answerers.of(
        standing.ref,
        quantization=subject.quantization,
        precision=subject.precision,
        adapter=standing.adapter,
    )
    digest = run_evaluate(job.recipe, job.store, snapshot, suite, subject, answer=answer, report=job.report)
    job.store.record(key, digest)
    return digest
