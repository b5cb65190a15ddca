"""Whether a verdict allows a move: it says PROMOTE, and was given against what the move replaces."""

from collections.abc import Mapping
from typing import Any

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest, short
from budwood.store import ReleaseRow, Store

_OVERRIDE = "repeat with --override REASON"


def refusal(store: Store, row: ReleaseRow, body: Mapping[str, Any], alias: str, now: Digest | None) -> ReleaseError | None:
    """Say why the verdict does not allow this move; None when it does.

    Where an alias is live, whatever its name, the verdict must have been given against what is live there. An alias that is
    new replaces nothing: any PROMOTE will do, unless it was given against a champion of that very alias.

    Args:
        store: the store.
        row: the release that wants to go live.
        body: its body.
        alias: the alias that is to be moved.
        now: where it points; None: not there yet.
    """
    verdict = body.get("verdict")
    title = f"{row.name}@{row.version} ({short(row.digest)}…)"
    mend = f"Nothing was changed. To go against the verdict, {_OVERRIDE}; it is recorded."
    if verdict is None:
        return ReleaseError(f"{title} was never judged by a gate.", where=f"the release {short(row.digest)}…", mend=mend)
    if verdict["verdict"] != "PROMOTE":
        reasons = "".join(f"\n    {reason}" for reason in verdict["reasons"][:3])
        return ReleaseError(f"The verdict on {title} is {verdict['verdict']}, not PROMOTE.{reasons}", mend=mend)
    own = alias == body.get("alias", alias)
    champion = verdict["champion_subject"]
    if now is None:
        fits = champion is None or not own
    else:
        try:
            fits = _is_what_was_judged(store.manifest(now).body, body, champion)
        except StoreError as error:
            return ReleaseError(
                f"The verdict on {title} cannot be held against {row.name}@{alias}: {error.what}",
                mend=f"Nothing was changed. Restore that release, or {_OVERRIDE}.",
            )
    if fits:
        return None
    judged = f"against {short(champion)}…" if champion else "with nothing live"
    place = f"at release {short(now)}…" if now else "not there"
    again = "" if own else f' with [release] alias = "{alias}"'
    return ReleaseError(
        f"The verdict on {title} was given {judged}, but {row.name}@{alias} is {place} by now.",
        mend=f"Nothing was changed. Let the gate judge again against what is live: `budwood release RECIPE`{again}; "
        f"or {_OVERRIDE}.",
    )


def _is_what_was_judged(live: Mapping[str, Any], wanted: Mapping[str, Any], champion: str | None) -> bool:
    """Whether what answers in the live release is the champion of the verdict, or the same as in the one that follows it.

    A plain base has no report as champion: the baseline of every verdict is that base, in the form that the result stands on.
    """
    subject, base = live["result"]["digest"], live["base"]
    if subject is not None:
        return subject in (champion, wanted["result"]["digest"])
    same_base = all(base.get(key) == wanted["base"].get(key) for key in ("object", "quantization"))
    return same_base and (champion in (None, base["object"]) or wanted["result"]["digest"] is None)


def check_reasons(given: Mapping[str, str | None]) -> None:
    """Refuse to go against a rule without saying why.

    Args:
        given: option → reason; None where the option was not given.

    Raises:
        ReleaseError: a reason is blank.
    """
    for option, reason in given.items():
        if reason is not None and not reason.strip():
            what = option.removeprefix("--")
            raise ReleaseError(f"The {what} has no reason.", where=option, mend="Say why in a few words; it is recorded.")


def recorded(reason: str, *overrides: str | None) -> str:
    """The reason that goes on record: of what was overridden first, then of the whole."""
    return " | ".join(part for part in (*overrides, reason) if part)
