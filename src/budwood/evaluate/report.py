"""A stored report: how its files are written, and read back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import EvaluationError
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.store import Store


@dataclass(frozen=True)
class Report:
    """One report.

    Args:
        digest: the object's.
        suite: digest of the suite that was answered.
        subject: what answered: kind, digest, label.
        scorers: name → version.
        decoding: temperature, max_new_tokens, seed.
        summary: metrics, broken rules, slices.
        latency: seconds, from the attestation; empty when it was not measured.
        throughput: tokens per second over all cases, from the attestation; None when it was not measured.
        cases: every case record, in the suite's order.
        parents: the snapshot and what answered.
    """

    digest: Digest
    suite: str
    subject: Mapping[str, Any]
    scorers: Mapping[str, int]
    decoding: Mapping[str, Any]
    summary: Mapping[str, Any]
    latency: Mapping[str, float]
    throughput: float | None
    cases: Sequence[Mapping[str, Any]]
    parents: tuple[Digest, ...]

    @property
    def metrics(self) -> Mapping[str, float | None]:
        metrics: Mapping[str, float | None] = self.summary["metrics"]
        return metrics

    @cached_property
    def by_id(self) -> Mapping[str, Mapping[str, Any]]:
        return {case["case_id"]: case for case in self.cases}


def encode(value: object, *, indent: int | None = None) -> bytes:
    """Write a case as its line in `cases.jsonl`, or `summary.json`."""
    # A model may answer with half a surrogate pair; it is kept as it came.
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, indent=indent)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def load_report(store: "Store", digest: Digest) -> Report:
    """Read a report. Times are those of the newest measurement: an older one may come from another machine.

    Raises:
        EvaluationError: the object is no report, or its files are not what `evaluate` writes.
        StoreError: there is no such object.
    """
    manifest = store.manifest(digest)
    if manifest.kind != "report":
        raise EvaluationError(f"{short(digest)} is a {manifest.kind}, not a report.", mend="Give a report's digest.")
    attested: dict[str, Any] = next((one for one in reversed(store.attestations(digest)) if "latency" in one), {})
    try:
        cases = _read(store.file(digest, "cases.jsonl"))
        ids = {case["case_id"] for case in cases}
        summary = json.loads(store.file(digest, "summary.json").read_bytes().decode("utf-8", "surrogatepass"))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(digest, f"a line is no case ({error!r})") from None
    if len(ids) < len(cases):
        raise _damaged(digest, "a case is there twice")
    return Report(
        digest=digest,
        suite=manifest.body["suite"],
        subject=manifest.body["subject"],
        scorers=manifest.body["scorers"],
        decoding=manifest.body["decoding"],
        summary=summary,
        latency=attested.get("latency", {}),
        throughput=attested.get("tokens_per_s"),
        cases=cases,
        parents=manifest.parents,
    )


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as lines:
        return [json.loads(line.decode("utf-8", "surrogatepass")) for line in lines]


def _damaged(digest: Digest, what: str) -> EvaluationError:
    return EvaluationError(
        f"The report cannot be read: {what}.",
        where=f"report {short(digest)}",
        mend="Run `budwood verify`, then evaluate again.",
    )
