"""Trials: releases that get requests of an alias before they are that alias, or are watched after they have become it.

    canary   a share of the alias's traffic is answered by this release
    shadow   a share of it is sent to this release too; its answers go into files, never to clients
    watch    the alias was moved to this release a short time ago, and goes back when it breaks the policy

There is one of each kind an alias at most. Like aliases they are changed by compare-and-swap, and each change is an event of
the history. What servers count about them lies beside, newest word only.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json, short
from budwood.store.catalog import Catalog
from budwood.store.history import HistoryEvent, iso
from budwood.store.index import upsert
from budwood.store.ledger import Clock, Ledger
from budwood.store.names import check_alias, check_digest, check_name
from budwood.store.rows import SILENCE_S, Anything
from budwood.store.schema import aliases, releases, trial_reports, trials
from budwood.store.trials import Trial, TrialKind, TrialReport


class Canaries:
    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock

    def rows(self, name: str | None = None, alias: str | None = None) -> list[Trial]:
        with self._catalog.read() as connection:
            return trial_rows(connection, name, alias)

    def find(self, name: str, alias: str, kind: TrialKind) -> Trial | None:
        return next((row for row in self.rows(name, alias) if row.kind == kind), None)

    def put(
        self,
        name: str,
        alias: str,
        kind: TrialKind,
        digest: str,
        *,
        against: str,
        share: float,
        policy: Mapping[str, Any],
        who: str,
        reason: str,
        expect: int | Anything | None,
        lasts_s: float = 0.0,
        baseline: Mapping[str, Any] | None = None,
        override: bool = False,
        verdict: Digest | None = None,
    ) -> Trial:
        """Begin a trial, or change it.

        Args:
            name: of the releases.
            alias: whose traffic it gets.
            kind: of the trial.
            digest: the release.
            against: where the alias must be at this moment; of a watch, where it was before.
            share: above 0, at most 1.
            policy: under which it is ended.
            who: person or program.
            reason: why.
            expect: the `seq` of the trial that is replaced, None where there must be none, or ANY.
            lasts_s: after so long it ends by itself; 0: never.
            baseline: see `Trial`.
            override: begun against the verdict, or without one.
            verdict: digest of the verdict.

        Raises:
            StoreError: somebody else has changed it meanwhile, the alias is elsewhere, or no such release.
        """
        key = _key(name, alias, kind)
        if not 0 < share <= 1:
            raise StoreError(
                f"{share:g} is no share of traffic.", where="--share", mend="Give more than 0 and at most 1, e.g. 0.1 or 10%."
            )
        with self._ledger.transaction() as entry:
            connection = entry.connection
            known = (releases.c.name == name) & (releases.c.digest == check_digest(digest))
            if not connection.execute(select(releases.c.version).where(known)).first():
                raise StoreError(f"Release {short(digest)}… is not registered under {name}.", mend="Read `budwood status`.")
            before = _checked(connection, key, expect)
            _check_place(connection, name, alias, digest if kind == "watch" else against)
            now = self._clock()
            until = iso(now + timedelta(seconds=lasts_s)) if lasts_s else ""
            same = before is not None and before.digest == digest
            detail = {"share": share, "policy": dict(policy), "against": against, "until": until}
            detail |= {"share_before": before.share} if same and before else {}
            event = entry.append(
                HistoryEvent(
                    0,
                    "",
                    f"{kind}_{'changed' if same else 'started'}",
                    who,
                    name,
                    alias,
                    before.digest if before else None,
                    Digest(digest),
                    _expectation(expect),
                    verdict,
                    reason,
                    override,
                    detail,
                )
            )
            values = {
                "digest": digest,
                "against": check_digest(against),
                "share": share,
                "since": before.since if same and before else event.at,
                "until": until,
                "who": who,
                "reason": reason,
                "policy": _text(policy),
                "baseline": _text(baseline or {}),
                "seq": event.seq,
            }
            upsert(connection, trials, key, values)
            return next(row for row in trial_rows(connection, name, alias) if row.kind == kind)

    def end(
        self,
        name: str,
        alias: str,
        kind: TrialKind,
        *,
        who: str,
        reason: str,
        expect: int | Anything | None,
        detail: Mapping[str, Any] | None = None,
    ) -> HistoryEvent:
        """End a trial; all traffic is the alias's again.

        Raises:
            StoreError: there is none, or somebody else has changed it meanwhile.
        """
        key = _key(name, alias, kind)
        with self._ledger.transaction() as entry:
            connection = entry.connection
            before = _checked(connection, key, expect)
            if before is None:
                raise StoreError(f"{name}@{alias} has no {kind}.", mend="Nothing was changed. Read `budwood canary status`.")
            event = entry.append(
                HistoryEvent(
                    0,
                    "",
                    f"{kind}_ended",
                    who,
                    name,
                    alias,
                    before.digest,
                    None,
                    _expectation(expect),
                    reason=reason,
                    detail=dict(detail or {}),
                )
            )
            connection.execute(delete(trials).filter_by(**key))
            connection.execute(delete(trial_reports).filter_by(**key))
            return event

    def report(self, one: TrialReport) -> None:
        """Write what a server says, in the place of what it said before."""
        key = {**_key(one.name, one.alias, one.kind), "server_id": one.server_id}
        values = {"digest": one.digest, "ok": one.ok, "detail": one.detail, "counts": _text(one.counts)}
        with self._catalog.write() as connection:
            upsert(connection, trial_reports, key, {**values, "seen": iso(self._clock())})

    def reports(self, trial: Trial) -> list[TrialReport]:
        """What servers that were heard of within seconds say of this trial."""
        limit = iso(self._clock() - timedelta(seconds=SILENCE_S))
        query = select(trial_reports).filter_by(**_key(trial.name, trial.alias, trial.kind), digest=trial.digest)
        with self._catalog.read() as connection:
            found = connection.execute(query.where(trial_reports.c.seen >= limit).order_by(trial_reports.c.server_id)).all()
        return [TrialReport(**{**row._mapping, "counts": json.loads(row.counts)}) for row in found]

    def is_over(self, trial: Trial) -> bool:
        """Whether its time is up, by the store's clock."""
        return bool(trial.until) and iso(self._clock()) >= trial.until


_TRIALS = select(trials, releases.c.version).join_from(
    trials, releases, (trials.c.name == releases.c.name) & (trials.c.digest == releases.c.digest)
)


def trial_rows(connection: Connection, name: str | None = None, alias: str | None = None) -> list[Trial]:
    query = _TRIALS.order_by(trials.c.name, trials.c.alias, trials.c.kind)
    if name is not None:
        query = query.where(trials.c.name == name)
    if alias is not None:
        query = query.where(trials.c.alias == alias)
    return [_trial(row) for row in connection.execute(query)]


def _trial(row: Row[*tuple[Any, ...]]) -> Trial:
    values = dict(row._mapping)
    return Trial(**{**values, "policy": json.loads(values["policy"]), "baseline": json.loads(values["baseline"])})


def _key(name: str, alias: str, kind: TrialKind) -> dict[str, str]:
    return {"name": check_name(name), "alias": check_alias(alias), "kind": kind}


def _checked(connection: Connection, key: Mapping[str, str], expect: int | Anything | None) -> Trial | None:
    now = next((row for row in trial_rows(connection, key["name"], key["alias"]) if row.kind == key["kind"]), None)
    if isinstance(expect, Anything) or expect == (now.seq if now else None):
        return now
    place = f"The {key['kind']} of {key['name']}@{key['alias']}"
    mend = "Nothing was changed. Read `budwood canary status`, then decide again."
    if now is None:
        raise StoreError(f"{place} has ended meanwhile.", mend=mend)
    raise StoreError(
        f"{place} is release {now.version} ({short(now.digest)}…) at {100 * now.share:.4g}% of the traffic, by {now.who}.",
        mend=mend,
    )


def _check_place(connection: Connection, name: str, alias: str, digest: str) -> None:
    at = connection.execute(select(aliases.c.digest).filter_by(name=name, alias=alias)).scalar()
    if at != digest:
        where = f"at {short(at)}…" if at else "nowhere"
        raise StoreError(
            f"{name}@{alias} is {where}, not at {short(digest)}….",
            mend=f"Nothing was changed. Read `budwood history {name}`, then decide again.",
        )


def _expectation(expect: int | Anything | None) -> str:
    return "any" if isinstance(expect, Anything) else "none" if expect is None else f"event {expect}"


def _text(value: Mapping[str, Any]) -> str:
    return canonical_json(dict(value)).decode("utf-8")
