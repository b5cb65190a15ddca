"""Trying a release on an alias's own traffic: begin, change, end, promote, and how it stands.

What is tried needs the same permission as what is promoted, since its answers go to clients; a shadow's do not, and need none.
The state is the catalog's (`store.canaries`); servers follow it and count. `guard` is what each server calls with what was
counted: a release that breaks its policy is taken back once, however many servers see it.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest, digest_json, short
from budwood.recipe import CanarySection
from budwood.release.approvals import refusal as approval_refusal
from budwood.release.approvals import standing
from budwood.release.permission import check_reasons, recorded, refusal
from budwood.release.policy import Judgement, judge
from budwood.release.promote import Moved, promote, rollback
from budwood.release.since import since_line
from budwood.stats.outcomes import Outcomes, read_outcomes
from budwood.store import ANY, HistoryEvent, Store
from budwood.store.signatures import check_rule
from budwood.store.trials import Trial, TrialKind, TrialReport


@dataclass(frozen=True)
class TrialStatus:
    """A trial, what its servers say, and what the counts of all of them together say."""

    trial: Trial
    reports: tuple[TrialReport, ...]
    tried: Outcomes
    stable: Outcomes
    judgement: Judgement

    def line(self) -> str:
        """One line for people."""
        trial = self.trial
        place = f"{trial.name}@{trial.alias}: {trial.kind} version {trial.version} ({short(trial.digest)})"
        share = "" if trial.kind == "watch" else f" gets {100 * trial.share:.4g}% of the traffic"
        have = [report.ok for report in self.reports]
        return since_line(place + share, since=trial.since, until=trial.until, who=trial.who, servers=have, verb="have it")

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self.trial),
            "servers": [{"server": one.server_id, "ok": one.ok, "detail": one.detail} for one in self.reports],
            "counts": {"trial": self.tried.as_dict(), "stable": self.stable.as_dict()},
            "judgement": self.judgement.as_dict(),
        }


def start(
    store: Store,
    ref: str,
    alias: str = "production",
    *,
    kind: Literal["canary", "shadow"] = "canary",
    share: float,
    policy: CanarySection,
    who: str,
    reason: str,
    override: str | None = None,
    without_approvals: str | None = None,
) -> Trial:
    """Give a release a share of an alias's traffic; again on the same release: change share and policy.

    Raises:
        ReleaseError: nothing is live there, it is live itself, another one is tried, the verdict does not allow it, or
            people who have to approve of it have not.
        StoreError: no such release, or somebody changed it meanwhile.
    """
    row = store.find_release(ref)
    now = next((place.digest for place in store.aliases(row.name) if place.alias == alias), None)
    if now is None:
        raise ReleaseError(
            f"Nothing is live as {row.name}@{alias}, so there is no traffic to share.",
            mend=f"Nothing was changed. Promote a first release: `budwood promote {ref} --alias {alias}`.",
        )
    title = f"{row.name}@{row.version} ({short(row.digest)}…)"
    if now == row.digest:
        raise ReleaseError(f"{title} is {row.name}@{alias} already.", mend="Nothing was changed. Name another release.")
    known = store.canaries.find(row.name, alias, kind)
    if known is not None and known.digest != row.digest:
        raise ReleaseError(
            f"{row.name}@{alias} has a {kind} already: version {known.version} ({short(known.digest)}…), by {known.who}.",
            mend=f"Nothing was changed. End it first: `budwood canary end {row.name} --alias {alias}"
            f"{' --shadow' if kind == 'shadow' else ''}`.",
        )
    body = store.manifest(row.digest).body
    check_reasons({"--override": override, "--without-approvals": without_approvals})
    refused = lacking = None
    if kind == "canary":
        refused = refusal(store, row, body, alias, now)
        if refused is not None and override is None:
            raise refused
        lacking = approval_refusal(standing(store.history(row.name), row, alias, now, mover=who), row, alias)
        if lacking is not None and without_approvals is None:
            raise lacking
        check_rule(store, row.name, row.digest)
    verdict = body.get("verdict")
    return store.canaries.put(
        row.name,
        alias,
        kind,
        row.digest,
        against=now,
        share=share,
        policy=policy.model_dump(),
        who=who,
        reason=recorded(reason, override if refused else None, without_approvals if lacking else None),
        expect=known.seq if known else None,
        override=refused is not None or lacking is not None,
        verdict=digest_json(verdict) if verdict else None,
    )


def change(
    store: Store, name: str, alias: str, kind: Literal["canary", "shadow"], *, share: float, who: str, reason: str
) -> Trial:
    """Give a trial another share; with a larger one, those who were in it stay in it."""
    known = _known(store, name, alias, kind)
    return store.canaries.put(
        name,
        alias,
        kind,
        known.digest,
        against=known.against,
        share=share,
        policy=known.policy,
        who=who,
        reason=reason,
        expect=known.seq,
    )


def end(store: Store, name: str, alias: str, kind: TrialKind, *, who: str, reason: str) -> Trial:
    """End a trial; give it as it was."""
    known = _known(store, name, alias, kind)
    store.canaries.end(name, alias, kind, who=who, reason=reason, expect=known.seq, detail=_figures(status_of(store, known)))
    return known


def promote_canary(
    store: Store,
    name: str,
    alias: str,
    *,
    who: str,
    reason: str,
    override: str | None = None,
    without_approvals: str | None = None,
    wait_s: float = 0.0,
) -> Moved:
    """Make the canary the alias, end the canary, and watch it for a while under the same policy.

    Raises:
        ReleaseError: there is no canary, it ended while servers got ready, the verdict does not allow it, or too few people
            have approved of it.
        StoreError: the alias has moved since the canary began.
    """
    known = _known(store, name, alias, "canary")
    before = status_of(store, known)
    moved = promote(
        store,
        f"{name}@{known.digest}",
        alias,
        expect=known.against,
        who=who,
        reason=reason or f"canary since {known.since[:19]}",
        override=override,
        without_approvals=without_approvals,
        wait_s=wait_s,
        still=lambda events: _check_goes_on(known, events),
    )
    said = f"promoted in event {moved.seq}"
    if store.canaries.find(name, alias, "canary") == known:
        with suppress(StoreError):  # a server may have seen the alias move, and have ended it just now
            store.canaries.end(name, alias, "canary", who=who, reason=said, expect=known.seq, detail=_figures(before))
    policy = policy_of(known)
    if policy.watch_s:
        watch(store, name, alias, lasts_s=policy.watch_s, policy=policy, who=who, reason=said, baseline=before.stable)
    return moved


def _check_goes_on(canary: Trial, events: Sequence[HistoryEvent]) -> None:
    """Refuse to promote what was taken back meanwhile, be it by a limit that broke or by a person."""
    ended = [one for one in events if one.seq > canary.seq and one.alias == canary.alias and one.kind == "canary_ended"]
    if ended:
        raise ReleaseError(
            f"The canary of {canary.name}@{canary.alias} has ended meanwhile, by {ended[-1].who}: {ended[-1].reason}",
            mend=f"Nothing was changed. Read `budwood history {canary.name}`, then begin another or promote the release.",
        )


def watch(
    store: Store,
    name: str,
    alias: str,
    *,
    lasts_s: float,
    policy: CanarySection,
    who: str,
    reason: str,
    baseline: Outcomes | None = None,
) -> Trial:
    """Take an alias back to where it was before, should what it points to now break the policy within some time.

    Raises:
        ReleaseError: the alias is not there, or nothing was live before.
    """
    moves = [event for event in store.history(name) if event.alias == alias and event.kind in ("promoted", "rolled_back")]
    before, now = (moves[-1].from_, moves[-1].to) if moves else (None, None)
    if before is None or now is None:
        raise ReleaseError(
            f"Nothing was live as {name}@{alias} before, so it could not be taken back.", mend="Nothing was changed."
        )
    return store.canaries.put(
        name,
        alias,
        "watch",
        now,
        against=before,
        share=1.0,
        policy=policy.model_dump(),
        who=who,
        reason=reason,
        expect=ANY,
        lasts_s=lasts_s,
        baseline=baseline.as_dict() if baseline else None,
    )


def statuses(store: Store, name: str | None = None) -> tuple[TrialStatus, ...]:
    """How every trial stands, or those of one name."""
    return tuple(status_of(store, trial) for trial in store.canaries.rows(name))


def status_of(store: Store, trial: Trial) -> TrialStatus:
    reports = store.canaries.reports(trial)
    tried = _sum(reports, "trial")
    stable = _sum(reports, "stable") if trial.kind != "watch" else read_outcomes(trial.baseline)
    judgement = judge(policy_of(trial), tried, stable)
    return TrialStatus(trial, tuple(reports), tried, stable, judgement)


def policy_of(trial: Trial) -> CanarySection:
    """The limits of a trial.

    Raises:
        ReleaseError: another version of Budwood has written keys that this one does not know.
    """
    try:
        return CanarySection.model_validate(trial.policy)
    except ValueError as error:
        said = str(error).splitlines()[-1].strip()
        raise ReleaseError(
            f"The limits of the {trial.kind} of {trial.name}@{trial.alias} cannot be read: {said}",
            mend="Use the Budwood that began it, or end it and begin again.",
        ) from None


def guard(store: Store, server_id: str) -> list[str]:
    """Take back what breaks its policy, and end what is over; give what this server did, in sentences.

    Every server calls this again and again. Whoever comes second finds the trial changed, and has nothing to do.
    """
    done: list[str] = []
    trials = store.canaries.rows()
    if not trials:
        return done
    places = {(row.name, row.alias): row.digest for row in store.aliases()}
    for trial in trials:
        try:
            said = _look_after(store, trial, places.get((trial.name, trial.alias)), f"server {server_id} (policy)")
        except StoreError:
            if _stands(store, trial):
                raise
            continue  # another server, or a person, was quicker
        if said:
            done.append(f"{trial.name}@{trial.alias}: {said}")
    return done


def _stands(store: Store, trial: Trial) -> bool:
    """Whether trial and alias are as they were seen: if not, somebody else has moved, and will finish what he began."""
    at = next((row.digest for row in store.aliases(trial.name) if row.alias == trial.alias), None)
    return at == _place(trial) and trial in store.canaries.rows(trial.name, trial.alias)


def _place(trial: Trial) -> Digest:
    """Where the alias has to be for the trial to mean anything."""
    return trial.digest if trial.kind == "watch" else trial.against


def _look_after(store: Store, trial: Trial, at: Digest | None, who: str) -> str:
    if at != _place(trial):
        return _finish(store, trial, who, f"the alias has moved to {short(at)}…" if at else "the alias is gone", {})
    if store.canaries.is_over(trial):
        return _finish(store, trial, who, f"over at {trial.until[:19]}, no limit broken", _figures(status_of(store, trial)))
    if trial.kind == "shadow":
        return ""
    found = status_of(store, trial)
    if found.judgement.outcome != "broken":
        return ""
    reason = f"policy: {found.judgement.sentence}"
    if trial.kind == "watch":
        # The move first: cut short after it, the watch is over because the alias has moved.
        rollback(store, trial.name, trial.alias, to=short(trial.against), only_from=trial.digest, who=who, reason=reason)
        _finish(store, trial, who, reason, _figures(found))
        return f"rolled back to {short(trial.against)}…; {reason}"
    return _finish(store, trial, who, reason, _figures(found))


def _finish(store: Store, trial: Trial, who: str, reason: str, figures: Mapping[str, Any]) -> str:
    store.canaries.end(trial.name, trial.alias, trial.kind, who=who, reason=reason, expect=trial.seq, detail=figures)
    return f"{trial.kind} version {trial.version} ended; {reason}"


def _figures(found: TrialStatus) -> dict[str, Any]:
    counts = {
        side: {name: value for name, value in counted.as_dict().items() if name != "latencies"}
        | {"latency_p95_s": round(counted.quantile(0.95), 4)}
        for side, counted in (("trial", found.tried), ("stable", found.stable))
    }
    return {"counts": counts, "judgement": found.judgement.outcome, "servers": len(found.reports)}


def _known(store: Store, name: str, alias: str, kind: TrialKind) -> Trial:
    store.check_known(name)
    known = store.canaries.find(name, alias, kind)
    if known is None:
        raise ReleaseError(
            f"{name}@{alias} has no {kind}.",
            mend=f"Read `budwood canary status {name}`, or begin one: `budwood canary start {name}@NUMBER --share 10%`.",
        )
    return known


def _sum(reports: Sequence[TrialReport], side: str) -> Outcomes:
    return sum((read_outcomes(report.counts.get(side, {})) for report in reports), Outcomes())
