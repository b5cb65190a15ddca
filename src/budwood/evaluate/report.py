"""A stored report, read back."""

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
        cases: every case record, in the suite's order.
    """

    digest: Digest
    suite: str
    subject: Mapping[str, Any]
    scorers: Mapping[str, int]
    decoding: Mapping[str, Any]
    summary: Mapping[str, Any]
    latency: Mapping[str, float]
    cases: Sequence[Mapping[str, Any]]

    @property
    def metrics(self) -> Mapping[str, float | None]:
        metrics: Mapping[str, float | None] = self.summary["metrics"]
        return metrics

    @cached_property
    def by_id(self) -> Mapping[str, Mapping[str, Any]]:
        return {case["case_id"]: case for case in self.cases}


def load_report(store: "Store", digest: Digest) -> Report:
    """Read a report.

    Raises:
        EvaluationError: the object is no report.
        StoreError: there is no such object.
    """
    manifest = store.manifest(digest)
    if manifest.kind != "report":
        raise EvaluationError(f"{short(digest)} is a {manifest.kind}, not a report.", mend="Give a report's digest.")
    attested: dict[str, Any] = next((one for one in store.attestations(digest) if "latency" in one), {})
    return Report(
        digest=digest,
        suite=manifest.body["suite"],
        subject=manifest.body["subject"],
        scorers=manifest.body["scorers"],
        decoding=manifest.body["decoding"],
        summary=json.loads(store.file(digest, "summary.json").read_text("utf-8")),
        latency=attested.get("latency", {}),
        cases=_read(store.file(digest, "cases.jsonl")),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as lines:
        return [json.loads(line.decode("utf-8", "surrogatepass")) for line in lines]
