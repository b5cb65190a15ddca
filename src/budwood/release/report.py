"""What a gate reads of a report object: cases with their scores, and what makes two reports comparable."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budwood.errors import ReleaseError
from budwood.identity import Digest, short
from budwood.store import Store


@dataclass(frozen=True)
class Case:
    """One case. A score of None: the scorer does not apply to it; NaN: it should, but the value is unknown."""

    case_id: str
    group: str
    scores: Mapping[str, float | None]
    style: bool
    policy: bool
    schema_ok: bool | None


@dataclass(frozen=True)
class Report:
    """One report.

    Args:
        digest: the report object's.
        suite: digest of the cases, expectations and scorers.
        scorers: scorer → version, as stored.
        decoding: how the answers were made, as stored.
        subject: digest of what answered.
        cases: by case id.
        latency: medians in seconds, from the newest attestation that has any; empty when nothing was measured.
    """

    digest: Digest
    suite: str
    scorers: Mapping[str, Any]
    decoding: Mapping[str, Any]
    subject: Digest
    cases: Mapping[str, Case]
    latency: Mapping[str, float]


def read_report(store: Store, digest: str) -> Report:
    """Read a report object, after hashing its files again: a gate must not judge an edited report.

    Raises:
        ReleaseError: not a report, damaged, a line that is no case, or two cases with one id.
        StoreError: no such object.
    """
    manifest = store.manifest(digest)
    where = f"report {short(digest)}…"
    if manifest.kind != "report":
        raise ReleaseError(f"{short(digest)}… is a {manifest.kind}, not a report.", mend="Give the digest of a report.")
    faults = store.faults(digest)
    if faults:
        raise ReleaseError(f"The report was damaged or edited: {faults[0]}.", where=where, mend="Run `budwood evaluate` again.")
    body = manifest.body
    try:
        return Report(
            digest=Digest(digest),
            suite=str(body["suite"]),
            scorers=body["scorers"],
            decoding=body["decoding"],
            subject=Digest(str(body["subject"]["digest"])),
            cases=_cases(store.file(digest, "cases.jsonl"), where),
            latency=_latency(store.attestations(digest)),
        )
    except (KeyError, TypeError) as error:
        raise ReleaseError(f"The report lacks {error}.", where=where, mend="Run `budwood evaluate` again.") from None


def _cases(path: Path, where: str) -> dict[str, Case]:
    cases: dict[str, Case] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                case = _case(json.loads(line.decode("utf-8", "surrogatepass")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ReleaseError(
                    f"Line {number} of cases.jsonl is no case: {error!r}.", where=where, mend="Run `budwood evaluate` again."
                ) from None
            if case.case_id in cases:
                raise ReleaseError(f"Case {case.case_id} is there twice.", where=where, mend="Run `budwood evaluate` again.")
            cases[case.case_id] = case
    return cases


def _case(value: Mapping[str, Any]) -> Case:
    return Case(
        case_id=str(value["case_id"]),
        group=str(value.get("group") or value["case_id"]),
        scores={str(name): _score(score) for name, score in value["scores"].items()},
        style=bool(value["style"]),
        policy=bool(value["policy"]),
        schema_ok=value["schema_ok"],
    )


def _score(score: object) -> float | None:
    if score is None:
        return None
    return float(score) if isinstance(score, bool | int | float) and math.isfinite(score) else math.nan


def _latency(attestations: list[dict[str, Any]]) -> dict[str, float]:
    """The newest measurement: an older one may come from another machine."""
    for attestation in reversed(attestations):
        values = attestation.get("latency") or {}
        good = {str(name): float(value) for name, value in values.items() if _is_time(value)}
        if good:
            return good
    return {}


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
