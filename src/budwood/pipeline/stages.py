"""The stages in their order. Each does whatever has to come before it; what is done and unchanged is skipped."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import DataError, ReleaseError
from budwood.identity import Digest, short
from budwood.pipeline.approving import keep_rule, rule_in_force
from budwood.pipeline.job import Job, check_sources
from budwood.pipeline.known import alias_line, earlier_snapshots, live_release, prepare_key, prepared, start_of
from budwood.pipeline.probing import probes_of
from budwood.pipeline.servability import check_recipe, check_result, problems_of
from budwood.pipeline.signing import sign_as_asked
from budwood.pipeline.subjects import live_subject, plain_base, report_of, result_of

if TYPE_CHECKING:
    from budwood.evaluate.compare import Comparison
    from budwood.evaluate.report import Report
    from budwood.plan.make import Plan
    from budwood.release.verdict import Verdict
    from budwood.train.settings import TrainSettings


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
    """A release and its verdict. `live`: the recipe's `alias` points to it; `alias_now` says in words where that points."""

    name: str
    version: int
    digest: Digest
    verdict: Literal["PROMOTE", "REJECT", "INCONCLUSIVE"]
    reasons: tuple[str, ...]
    alias: str
    alias_now: str
    live: bool
    page: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "alias": self.alias_now,
            "live": self.live,
            "page": str(self.page),
        }


def plan(job: Job) -> "Plan":
    """Predict and choose; uses the row lengths of the snapshot when there is one already."""
    from budwood.engine.base import skeleton
    from budwood.plan.lengths import read_lengths
    from budwood.plan.machine import read_machine
    from budwood.plan.make import make_plan
    from budwood.plan.shape import read_shape
    from budwood.train.start import wanted_rows

    names = job.recipe.train.token_rows
    if names:
        # Tokens that this base has not are refused before anything is paid for.
        wanted_rows(skeleton(job.base.ref), job.base.template.tokenizer, names)
    snapshot = prepared(job)
    lengths = None if snapshot is None else read_lengths(job.store.folder(snapshot), job.base.template.encode_row)
    made = make_plan(job.recipe, read_shape(job.base.ref.folder), lengths, read_machine())
    unserved = tuple(str(problem) for problem in problems_of(job.recipe, made.method))
    first = () if lengths is not None else (_without_data(job),)
    return replace(made, warnings=(*first, *made.warnings, *unserved))


def _without_data(job: Job) -> str:
    """Say that no row was looked at, and why."""
    try:
        check_sources(job.recipe)
    except DataError as error:
        return f"This predicts without data. {error.what}"
    return "This predicts without data: the rows are not prepared yet."


def prepare(job: Job, *, processes: int = 0) -> Digest:
    """Make the snapshot, on top of an earlier one of the same name so that no row changes sides; or take the given one.

    `processes`: how many work on it; 0: one for each core. The snapshot is the same.
    """
    from budwood.pipeline.counting import TemplateLengths
    from budwood.prepare.run import prepare as run_prepare

    done = prepared(job)
    if done is not None:
        said = (
            f"Snapshot {short(done)} is used as given" if job.snapshot else f"Unchanged: snapshot {short(done)} is used again"
        )
        job.say("prepare", said)
        return done
    onto = earlier_snapshots(job)[-1]
    if onto is not None:
        job.say("prepare", f"Rows keep the splits of snapshot {short(onto)}")
    digest = run_prepare(
        job.recipe,
        job.store,
        token_length=TemplateLengths(job.base.ref, job.base.template),
        context=job.base.identity.context,
        onto=onto,
        embed=job.embedder,
        processes=processes,
        report=job.report,
    )
    job.store.record(prepare_key(job, onto), digest)
    return digest


def train(job: Job) -> Digest:
    """Train on the snapshot with what the plan chose."""
    return _train_on(job, prepare(job))


def _train_on(job: Job, snapshot: Digest) -> Digest:
    from budwood.engine.device import best_device
    from budwood.train.run import train as run_train
    from budwood.train.settings import TrainSettings
    from budwood.train.together import train_together

    chosen = plan(job)
    for line in chosen.why:
        job.say("plan", line)
    settings = TrainSettings.of(
        job.recipe.train,
        method=chosen.method,
        learning_rate=chosen.learning_rate,
        seed=job.recipe.seed,
        checkpointing=chosen.chosen.checkpointing,
    )
    if job.processes > 1:
        return train_together(_task(job, snapshot, settings), processes=job.processes, report=job.report)
    return run_train(
        job.recipe,
        job.store,
        snapshot,
        job.base.ref,
        settings=settings,
        start=start_of(job),
        report=job.report,
        who=job.who,
        identity=job.base.identity,
        base_object=job.base.object,
        device=best_device(),
        trackers=job.trackers,
    )


def _task(job: Job, snapshot: Digest, settings: "TrainSettings") -> dict[str, Any]:
    """What several processes have to know, as JSON values."""
    import torch

    from budwood.engine.device import best_device

    ref = job.base.ref
    return {
        "recipe": job.recipe.model_dump(mode="json"),
        "folder": str(job.recipe.folder.resolve()),
        "store": str(job.store.root),
        "snapshot": snapshot,
        "base": {"id": ref.id, "folder": str(ref.folder), "revision": ref.revision},
        "settings": asdict(settings),
        "start": start_of(job),
        "who": job.who,
        "device": best_device(),
        "threads": max(1, torch.get_num_threads() // job.processes),
        "trackers": list(job.trackers),
    }


def evaluate(job: Job) -> Evaluated:
    """Let base, result and the release that is live answer the same suite, and compare."""
    from budwood.evaluate.answering import Answerers
    from budwood.evaluate.compare import compare
    from budwood.evaluate.report import load_report
    from budwood.evaluate.suite import make_suite

    snapshot = prepare(job)
    # Before training is paid for: whatever makes the comparison impossible.
    suite = make_suite(job.recipe, job.store, snapshot, spell=job.base.template.answer_text)
    live_subject(job)
    run_digest = _given_run(job) or _train_on(job, snapshot)
    result = result_of(job, run_digest)
    live = live_subject(job)
    standings = [plain_base(job, result), result]
    if live is not None and live.subject.digest != result.subject.digest:
        standings.append(live)
    answerers = Answerers()
    reports = [load_report(job.store, report_of(job, snapshot, suite, one, answerers)) for one in standings]
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


def _given_run(job: Job) -> Digest | None:
    """The run that is judged instead of a training's.

    Raises:
        ReleaseError: there is something else under those digits, or its result stands on another base.
    """
    if not job.run:
        return None
    digest = job.store.resolve(job.run.removesuffix("…"))
    manifest = job.store.manifest(digest)
    where = "--run"
    if manifest.kind != "run":
        raise ReleaseError(f"{short(digest)}… is no run but a {manifest.kind}.", where=where, mend="Name a run.")
    base = job.store.manifest(manifest.body["result"]).body.get("base")
    if base != job.base.identity.weights_digest:
        raise ReleaseError(
            f"Run {short(digest)}… stands on another base than the recipe names.", where=where, mend="Use its recipe."
        )
    return digest


def release(job: Job) -> Released:
    """Bind everything into a release with golden probes, and let the gate judge it."""
    from budwood.release.make import Decoding, Parts, ResultRef, make_release

    if not job.run and job.recipe.serve.backend != "embedded":
        # Before training is paid for.
        check_recipe(job.recipe, plan(job).method)
    evaluated = evaluate(job)
    verdict = _judge(job, evaluated)
    page = _write_page(job, evaluated.candidate, evaluated.baseline, evaluated.champion, evaluated.comparison, verdict)
    result = result_of(job, evaluated.run)
    check_result(job, result)
    live = live_release(job)
    parts = Parts(
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
        system=job.recipe.prepare.system,
        decoding=Decoding(
            temperature=job.recipe.evaluate.temperature,
            max_new_tokens=job.recipe.evaluate.max_new_tokens,
            stop_ids=job.base.template.stop_ids,
        ),
        probes=probes_of(job, evaluated.snapshot, result),
        parent=live,
    )
    digest, version = make_release(job.recipe, job.store, parts, who=job.who, reason=job.reason)
    keep_rule(job)
    sign_as_asked(job, digest)
    return Released(
        name=job.recipe.name,
        version=version,
        digest=digest,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        alias=job.recipe.release.alias,
        alias_now=alias_line(job),
        live=digest == live_release(job),
        page=page,
    )


def run(job: Job, *, promote: bool) -> Released:
    """Walk the whole way; move the alias when the gate says PROMOTE and `promote` is set."""
    released = release(job)
    if not promote or released.verdict != "PROMOTE" or released.live:
        return released
    from budwood.release.promote import promote as move

    if rule_in_force(job).approvals:
        job.say("release", f"not promoted: {released.name}@{released.alias} asks for {rule_in_force(job)}")
        return released
    move(job.store, f"{released.name}@{released.version}", released.alias, who=job.who, reason=job.reason)
    return replace(released, alias_now=alias_line(job), live=released.digest == live_release(job))


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
