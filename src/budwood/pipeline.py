"""Walks the stages: the only module that knows their order and imports several of them.

Each function does one stage and whatever has to come before it; work that is already done and unchanged is recognised by its
action key and skipped. What one stage needs of another's skill goes in as a plain function: `prepare` gets a token counter,
`evaluate` gets a function that answers.

    job = Job(recipe=load_recipe(path), store=open_store(folder), report=silent, who="me")
    released = run(job, promote=True)
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import ReleaseError, TrainingError
from budwood.events import Event, Reporter
from budwood.identity import Digest, digest_file, short
from budwood.recipe import Recipe

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef, Quantization
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.probes import ProbeSet
    from budwood.evaluate.answering import Answerers
    from budwood.evaluate.compare import Comparison
    from budwood.evaluate.report import Report
    from budwood.evaluate.run import Subject
    from budwood.evaluate.suite import Suite
    from budwood.plan.make import Plan
    from budwood.release.verdict import Verdict
    from budwood.store import Store


@dataclass(frozen=True)
class Job:
    """One recipe on one store, with who acts and who watches."""

    recipe: Recipe
    store: "Store"
    report: Reporter
    who: str = ""
    reason: str = ""

    @cached_property
    def base(self) -> "OpenBase":
        """The base's identity and chat template; its weights are hashed but not loaded."""
        return _open_base(self)

    def say(self, stage: str, message: str) -> None:
        self.report(Event(stage, message))


@dataclass(frozen=True)
class OpenBase:
    ref: "BaseRef"
    identity: "BaseIdentity"
    template: "ChatTemplate"
    object: Digest


@dataclass(frozen=True)
class Evaluated:
    """Reports of one suite: of the result, of the plain base, and of the release that is live, if any."""

    run: Digest
    snapshot: Digest
    candidate: "Report"
    baseline: "Report"
    champion: "Report | None"
    comparison: "Comparison"
    page: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "snapshot": self.snapshot,
            "report": self.candidate.digest,
            "baseline": self.baseline.digest,
            "champion": self.champion.digest if self.champion else None,
            "metrics": dict(self.candidate.metrics),
            "baseline_metrics": dict(self.baseline.metrics),
            "comparison": self.comparison.as_dict(),
            "page": str(self.page),
        }


@dataclass(frozen=True)
class Released:
    name: str
    version: int
    digest: Digest
    verdict: Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]
    reasons: tuple[str, ...]
    alias_now: str
    page: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "alias": self.alias_now,
            "page": str(self.page),
        }


def plan(job: Job) -> "Plan":
    """Predict and choose; uses the row lengths of the snapshot when there is one already."""
    from budwood.plan.lengths import read_lengths
    from budwood.plan.machine import read_machine
    from budwood.plan.make import make_plan
    from budwood.plan.shape import read_shape

    snapshot = _prepared(job)
    lengths = None if snapshot is None else read_lengths(job.store.folder(snapshot), job.base.template.encode_row)
    return make_plan(job.recipe, read_shape(job.base.ref.folder), lengths, read_machine())


def prepare(job: Job) -> Digest:
    """Make the snapshot, on top of an earlier one of the same name so that no row changes sides."""
    from budwood.prepare.run import prepare as run_prepare

    done = _prepared(job)
    if done is not None:
        job.say("prepare", f"Unchanged: snapshot {short(done)} is used again")
        return done
    onto = _earlier_snapshots(job)[-1]
    if onto is not None:
        job.say("prepare", f"Rows keep the splits of snapshot {short(onto)}")
    digest = run_prepare(
        job.recipe,
        job.store,
        token_length=job.base.template.token_length,
        context=job.base.identity.context,
        onto=onto,
        report=job.report,
    )
    job.store.record(_prepare_key(job, onto), digest)
    return digest


def train(job: Job) -> Digest:
    """Train on the snapshot with what the plan chose."""
    from budwood.train.run import train as run_train
    from budwood.train.settings import TrainSettings

    snapshot = prepare(job)
    chosen = plan(job)
    for line in chosen.why:
        job.say("plan", line)
    settings = TrainSettings.of(
        job.recipe.train, method=chosen.method, learning_rate=chosen.learning_rate, seed=job.recipe.seed
    )
    return run_train(
        job.recipe,
        job.store,
        snapshot,
        job.base.ref,
        settings=settings,
        start=_start(job),
        report=job.report,
        who=job.who,
        identity=job.base.identity,
        base_object=job.base.object,
    )


def evaluate(job: Job) -> Evaluated:
    """Let base, result and the release that is live answer the same suite, and compare."""
    from budwood.evaluate.answering import Answerers
    from budwood.evaluate.compare import compare
    from budwood.evaluate.report import load_report
    from budwood.evaluate.suite import make_suite

    run_digest = train(job)
    snapshot = _prepared(job)
    assert snapshot is not None, "training has just read it"
    suite = make_suite(job.recipe, job.store, snapshot)
    result = _result(job, run_digest)
    live = _live(job)
    standings = [_plain(job, result), result]
    if live is not None and live.subject.digest != result.subject.digest:
        standings.append(live)
    answerers = Answerers()
    reports = [load_report(job.store, _report(job, snapshot, suite, one, answerers)) for one in standings]
    comparison = compare(
        reports[1],
        reports[0],
        primary=job.recipe.evaluate.primary,
        alpha=job.recipe.gate.alpha,
        resamples=job.recipe.gate.resamples,
    )
    champion = reports[2] if len(reports) > 2 else None
    page = _write_page(job, reports[1], reports[0], champion, comparison, None)
    return Evaluated(run_digest, snapshot, reports[1], reports[0], champion, comparison, page)


def release(job: Job) -> Released:
    """Bind everything into a release with golden probes, and let the gate judge it."""
    from budwood.release.make import Decoding, ResultRef, make_release

    evaluated = evaluate(job)
    verdict = _judge(job, evaluated)
    page = _write_page(job, evaluated.candidate, evaluated.baseline, evaluated.champion, evaluated.comparison, verdict)
    result = _result(job, evaluated.run)
    live = _live_release(job)
    digest, version = make_release(
        job.recipe,
        job.store,
        base_identity=job.base.identity.as_body(),
        base_object=job.base.object,
        result=ResultRef(result.result_kind, result.subject.digest),
        run=evaluated.run,
        snapshot=evaluated.snapshot,
        report=evaluated.candidate.digest,
        verdict=verdict,
        quantization=result.subject.quantization,
        precision=result.subject.precision,
        template_source=job.base.template.source,
        decoding=Decoding(
            temperature=job.recipe.evaluate.temperature,
            max_new_tokens=job.recipe.evaluate.max_new_tokens,
            stop_ids=job.base.template.stop_ids,
        ),
        probes=_probes(job, evaluated.snapshot, result),
        parent=live,
        who=job.who,
        reason=job.reason,
    )
    return Released(job.recipe.name, version, digest, verdict.verdict, verdict.reasons, _alias_line(job), page)


def run(job: Job, *, promote: bool) -> Released:
    """Walk the whole way; move the alias when the gate says PROMOTE and `promote` is set."""
    released = release(job)
    if not promote or released.verdict != "PROMOTE" or released.digest == _live_release(job):
        return released
    from budwood.release.promote import promote as move

    alias = job.recipe.release.alias
    move(job.store, f"{released.name}@{released.version}", alias, who=job.who, reason=job.reason)
    return replace(released, alias_now=_alias_line(job))


# --- who answers ---


@dataclass(frozen=True)
class _Standing:
    """A subject with what is needed to let it answer: a base (or full model) and the adapter on it."""

    subject: "Subject"
    ref: "BaseRef"
    adapter: Path | None

    @property
    def result_kind(self) -> Literal["adapter", "model"]:
        return "model" if self.subject.kind == "model" else "adapter"


def _result(job: Job, run_digest: Digest) -> _Standing:
    body = job.store.manifest(run_digest).body
    return _standing(job, Digest(body["result"]), body["quantization"], body["precision"])


def _plain(job: Job, result: _Standing) -> _Standing:
    """The base in the form that the result stands on; under a full model, the base as it came."""
    from budwood.evaluate.run import Subject

    subject = Subject("base", job.base.object, result.subject.quantization, result.subject.precision)
    return _Standing(subject, job.base.ref, None)


def _live(job: Job) -> _Standing | None:
    """What the recipe's alias points to now, as a subject of this base's suite."""
    digest = _live_release(job)
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
    return _standing(job, Digest(body["result"]["digest"]), body["base"]["quantization"], body["base"]["precision"])


def _standing(job: Job, digest: Digest, quantization: "Quantization", precision: str) -> _Standing:
    from budwood.engine.base import BaseRef
    from budwood.evaluate.run import Subject

    folder = job.store.folder(digest)
    if job.store.manifest(digest).kind == "model":
        return _Standing(Subject("model", digest, "none", precision), BaseRef(digest, folder, None), None)
    return _Standing(Subject("adapter", digest, quantization, precision), job.base.ref, folder)


def _report(job: Job, snapshot: Digest, suite: "Suite", standing: _Standing, answerers: "Answerers") -> Digest:
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


def _write_page(
    job: Job,
    candidate: "Report",
    baseline: "Report",
    champion: "Report | None",
    comparison: "Comparison",
    verdict: "Verdict | None",
) -> Path:
    """Write the page beside the candidate's report; again with the verdict, once there is one."""
    from budwood.evaluate.page import render_page

    page = render_page(
        name=job.recipe.name,
        candidate=candidate,
        baseline=baseline,
        champion=champion,
        comparison=comparison,
        verdict=None if verdict is None else (verdict.verdict, verdict.reasons),
    )
    return job.store.attach(candidate.digest, "report.html", page.encode("utf-8", "replace"))


# --- judging and probing ---


def _judge(job: Job, evaluated: Evaluated) -> "Verdict":
    from budwood.release.gate import judge, record_judgement
    from budwood.release.report import read_report

    candidate = read_report(job.store, evaluated.candidate.digest)
    baseline = read_report(job.store, evaluated.baseline.digest)
    champion = read_report(job.store, evaluated.champion.digest) if evaluated.champion else None
    verdict = judge(candidate, baseline, champion, job.recipe.gate, primary=job.recipe.evaluate.primary)
    uses = record_judgement(job.store, job.recipe.name, verdict, who=job.who, reason=job.reason)
    job.say("release", f"{verdict.verdict}; this test set has been used by a gate {uses} time{'s' if uses > 1 else ''}")
    return verdict


PROBE_CANDIDATES = 24
PROBES_VERSION = 1
"""Raised when the same subject would get other probes."""


def _probes(job: Job, snapshot: Digest, result: _Standing) -> "ProbeSet":
    from budwood.engine.base import skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.probes import read_probes
    from budwood.release.measure import make_probes

    section = job.recipe.release
    template = job.base.template
    settings = {"probes": section.probes, "tokens": section.probe_tokens, "subject": asdict(result.subject)}
    kept = job.store.work(job.store.action("probes", PROBES_VERSION, settings, [snapshot], 0)) / "probes.json"
    if kept.is_file():
        return read_probes(kept)
    probes = make_probes(
        result.ref,
        _probe_prompts(job, snapshot),
        adapter=None if result.adapter is None else load_adapter(result.adapter, skeleton(result.ref)),
        original=job.base.ref if result.subject.kind == "model" else None,
        quantization=result.subject.quantization,
        count=section.probes,
        max_new_tokens=section.probe_tokens,
        stop_ids=template.stop_ids,
        report=job.report,
    )
    draft = kept.with_suffix(".tmp")
    draft.write_bytes(probes.encode())
    draft.replace(kept)
    return probes


def _probe_prompts(job: Job, snapshot: Digest) -> list[list[int]]:
    """Take the first validation rows (training rows where there are none) as candidates: never a test row."""
    prompts: list[list[int]] = []
    for split in ("validation", "train"):
        with job.store.file(snapshot, f"{split}.jsonl").open("rb") as lines:
            for line in lines:
                if len(prompts) == PROBE_CANDIDATES:
                    return prompts
                messages = json.loads(line.decode("utf-8", "surrogatepass"))["messages"]
                prompts.append(job.base.template.encode_prompt(messages[:-1]))
    return prompts


# --- what is there already ---


def _open_base(job: Job) -> OpenBase:
    from budwood.engine.base import identify_base, load_tokenizer, resolve_base
    from budwood.engine.chat import chat_template
    from budwood.train.base_object import ensure_base

    ref = resolve_base(job.recipe.base.id, start=job.recipe.folder)
    identity = identify_base(ref)
    return OpenBase(ref, identity, chat_template(load_tokenizer(ref)), ensure_base(job.store, identity))


def _prepare_key(job: Job, onto: Digest | None) -> str:
    """Ask by what prepare reads: sources as declared, their bytes, [prepare], and how the base counts tokens."""
    from budwood.prepare.run import VERSION

    recipe = job.recipe
    files = [recipe.path(source.path) for source in recipe.source]
    absent = [str(path) for path in files if not path.is_file()]
    schema = recipe.prepare.answer_schema
    inputs = ["absent: " + path for path in absent] or [digest_file(path) for path in files]
    if schema and recipe.path(schema).is_file():
        inputs.append(digest_file(recipe.path(schema)))
    slice_read = {
        "name": recipe.name,
        "source": [source.model_dump(mode="json") for source in recipe.source],
        "prepare": recipe.prepare.model_dump(mode="json"),
        "onto": onto,
        "tokenizer": job.base.identity.tokenizer_digest,
        "template": job.base.template.digest,
        "context": job.base.identity.context,
    }
    return job.store.action("prepare", VERSION, slice_read, inputs, 0)


def _prepared(job: Job) -> Digest | None:
    """The snapshot of this very recipe and these very files, if it has been made, fresh or onto an earlier one."""
    for onto in _earlier_snapshots(job):
        done = job.store.done(_prepare_key(job, onto))
        if done is not None:
            return done
    return None


def _earlier_snapshots(job: Job) -> list[Digest | None]:
    """Snapshots that releases of this name were made from, oldest first, after None for "from scratch"."""
    found: list[Digest | None] = [None]
    for row in job.store.releases(job.recipe.name):
        snapshot = Digest(job.store.manifest(row.digest).body["snapshot"])
        if snapshot not in found:
            found.append(snapshot)
    return found


def _start(job: Job) -> Digest | None:
    """The adapter or model of the release that training goes on from."""
    wanted = job.recipe.train.continue_from
    if not wanted:
        return None
    row = job.store.find_release(wanted)
    result = job.store.manifest(row.digest).body["result"]
    if result["digest"] is None:
        raise TrainingError(f"{wanted} is a plain base: there is nothing to go on from.", where="[train] continue_from")
    job.say("train", f"Going on from {row.name}@{row.version} ({short(row.digest)})")
    return Digest(result["digest"])


def _live_release(job: Job) -> Digest | None:
    rows = job.store.aliases(job.recipe.name)
    return next((row.digest for row in rows if row.alias == job.recipe.release.alias), None)


def _alias_line(job: Job) -> str:
    rows = [row for row in job.store.aliases(job.recipe.name) if row.alias == job.recipe.release.alias]
    name = f"{job.recipe.name}@{job.recipe.release.alias}"
    return f"{name} points to version {rows[0].version}" if rows else f"{name} points to nothing yet"
