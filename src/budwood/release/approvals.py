"""Four eyes: how many people must approve before an alias moves, who has, and who doesn't count.

    set_rule(store, "support", "production", approvals=2, own=False, who="anna", reason="two of us")
    approve(store, "support@3", "production", who="ben", reason="read the report")
    standing(events, row, "production", now, mover="carla").lacking

Rule and approvals are events of the history. A recipe can only make the rule stricter: whoever edits it afterwards changes
nothing about an alias that asks for two. An approval is for one release in the place of one other: it ends when the alias
moves, so that what was rolled back needs new ones. Names are what people say who they are; where it matters who may say so,
let them act through tokens.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budwood.errors import ReleaseError
from budwood.identity import Digest, digest_json, short
from budwood.store import HistoryEvent, ReleaseRow, Store
from budwood.store.history import MOVES

RULE, APPROVED, WITHDRAWN = "approvals_set", "approved", "approval_withdrawn"


@dataclass(frozen=True)
class Rule:
    """What an alias asks for.

    Args:
        approvals: how many people; 0: none.
        own: whether whoever made the release, or moves the alias, counts as one of them.
        seq: the event that says so; 0: nobody has.
    """

    approvals: int = 0
    own: bool = False
    seq: int = 0

    def covers(self, other: "Rule") -> bool:
        """Whether whatever this rule lets through, the other one lets through too."""
        return self.approvals >= other.approvals and (not self.own or other.own or other.approvals == 0)

    def __str__(self) -> str:
        people = f"{self.approvals or 'no'} approval{'' if self.approvals == 1 else 's'}"
        if self.approvals == 0:
            return people
        return f"{people}, by anybody" if self.own else f"{people}, by others than who made the release or moves the alias"


@dataclass(frozen=True)
class Standing:
    """How far a release is with the approvals for one move."""

    rule: Rule
    counted: tuple[HistoryEvent, ...]
    own: tuple[HistoryEvent, ...]

    @property
    def lacking(self) -> int:
        """How many people more are needed."""
        return max(0, self.rule.approvals - len(self.counted))

    def as_detail(self) -> dict[str, Any]:
        """What the event of the move says about it; nothing where nobody has to approve."""
        if self.rule.approvals == 0:
            return {}
        return {"approvals": {"asked": self.rule.approvals, "rule": self.rule.seq, "events": [one.seq for one in self.counted]}}

    def line(self) -> str:
        """Say who has approved, and whose approval is not one of the number."""
        names = ", ".join(event.who for event in self.counted)
        text = f"{len(self.counted)} of {self.rule.approvals} approvals" + (f" ({names})" if names else "")
        idle = ", ".join(event.who for event in self.own)
        return f"{text}; not counted, because they made it or move it: {idle}" if idle else text


def rule_of(events: Sequence[HistoryEvent], name: str, alias: str) -> Rule:
    """The rule in force: the last that was set."""
    found = Rule()
    for event in events:
        if event.kind == RULE and (event.name, event.alias) == (name, alias):
            found = Rule(int(event.detail["approvals"]), bool(event.detail["own"]), event.seq)
    return found


def set_rule(
    store: Store, name: str, alias: str, *, approvals: int, own: bool, who: str, reason: str, override: str | None = None
) -> HistoryEvent | None:
    """Say how many people must approve before this alias moves; None when the rule says so already.

    Raises:
        ReleaseError: the rule would get weaker, without a reason to override it.
    """
    old, new = rule_of(store.history(name), name, alias), Rule(approvals, own)
    if (old.approvals, old.own) == (new.approvals, new.own):
        return None
    weaker = not new.covers(old)
    if weaker and not (override or "").strip():
        raise ReleaseError(
            f"{name}@{alias} asks for {old}, since event {old.seq}; this would make it weaker: {new}.",
            mend="Nothing was changed. If it has to be, repeat with --override REASON; it is recorded.",
        )
    words = " | ".join(part for part in (override if weaker else "", reason) if part)
    detail = {"approvals": approvals, "own": own}
    return store.add_event(HistoryEvent(0, "", RULE, who, name, alias, reason=words, override=weaker, detail=detail))


def raise_rule(store: Store, name: str, alias: str, *, approvals: int, own: bool, who: str) -> Rule:
    """Let a recipe make the rule stricter, never weaker; give the rule that is in force then."""
    old, new = rule_of(store.history(name), name, alias), Rule(approvals, own)
    if new.covers(old) and not old.covers(new):
        set_rule(store, name, alias, approvals=approvals, own=own, who=who, reason="the recipe asks for it")
        return rule_of(store.history(name), name, alias)
    return old


def approve(store: Store, ref: str, alias: str, *, who: str, reason: str, withdraw: bool = False) -> Standing:
    """Approve that a release takes the place of what the alias points to now, or take that back.

    Raises:
        ReleaseError: it is live there already, whoever approves made it and the rule asks for others, or there is no
            approval to take back.
        StoreError: no such release, or its bytes are gone.
    """
    row = store.find_release(ref)
    verdict = store.manifest(row.digest).body.get("verdict")
    now = next((one.digest for one in store.aliases(row.name) if one.alias == alias), None)
    title = f"{row.name}@{row.version} ({short(row.digest)}…)"
    if now == row.digest:
        raise ReleaseError(f"{title} is live as {row.name}@{alias} already.", mend="Nothing was changed.")
    before = standing(store.history(row.name), row, alias, now, mover=None)
    mine = {_person(event.who) for event in (*before.counted, *before.own)}
    if withdraw and _person(who) not in mine:
        raise ReleaseError(f"{who} has not approved {title} for {row.name}@{alias}.", mend="Nothing was changed.")
    if not withdraw and not before.rule.own and before.rule.approvals and _person(who) == _maker(store.history(row.name), row):
        raise ReleaseError(
            f"{who} made {title}; {row.name}@{alias} asks for {before.rule}.",
            mend="Nothing was changed. Let somebody else read its report, and approve it.",
        )
    if withdraw or _person(who) not in mine:
        kind = WITHDRAWN if withdraw else APPROVED
        digest = digest_json(verdict) if verdict else None
        expect = now or "none"
        store.add_event(HistoryEvent(0, "", kind, who, row.name, alias, now, row.digest, expect, digest, reason))
    return standing(store.history(row.name), row, alias, now, mover=None)


def standing(events: Sequence[HistoryEvent], row: ReleaseRow, alias: str, now: Digest | None, *, mover: str | None) -> Standing:
    """Count the approvals for a move.

    Args:
        events: of this name, in order.
        row: the release that is to go live.
        alias: what is to be moved.
        now: where it points; None: not there yet.
        mover: who wants to move it; None: not known yet.
    """
    rule = rule_of(events, row.name, alias)
    given: dict[str, HistoryEvent] = {}
    for event in events:
        if (event.name, event.alias) != (row.name, alias):
            continue
        if event.kind in MOVES:
            given.clear()
        elif (event.to, event.from_) == (row.digest, now) and event.kind == APPROVED:
            given.setdefault(_person(event.who), event)
        elif (event.to, event.from_) == (row.digest, now) and event.kind == WITHDRAWN:
            given.pop(_person(event.who), None)
    apart = set() if rule.own else {_maker(events, row), _person(mover or "")}
    return Standing(
        rule,
        tuple(event for person, event in given.items() if person not in apart),
        tuple(event for person, event in given.items() if person in apart),
    )


def refusal(found: Standing, row: ReleaseRow, alias: str) -> ReleaseError | None:
    """Say who has approved and how many are missing; None when they are enough."""
    if found.lacking == 0:
        return None
    option = "" if alias == "production" else f" --alias {alias}"
    return ReleaseError(
        f"{row.name}@{row.version} ({short(row.digest)}…) has {found.line()}; {row.name}@{alias} asks for {found.rule}.",
        mend=f"Nothing was changed. Let them run `budwood approve {row.name}@{row.version}{option}`; "
        "or go without, with --without-approvals REASON, which is recorded.",
    )


def pending(store: Store, name: str, alias: str) -> Mapping[int, Standing]:
    """Releases that somebody has approved for the place of what is live, by number."""
    events = store.history(name)
    now = next((one.digest for one in store.aliases(name) if one.alias == alias), None)
    found = {row.version: standing(events, row, alias, now, mover=None) for row in store.releases(name)}
    return {version: one for version, one in found.items() if one.counted or one.own}


def _maker(events: Sequence[HistoryEvent], row: ReleaseRow) -> str:
    made = (event.who for event in events if event.kind == "released" and (event.name, event.to) == (row.name, row.digest))
    return _person(next(made, ""))


def _person(who: str) -> str:
    """One person however the name is typed."""
    return " ".join(unicodedata.normalize("NFKC", who).casefold().split())
