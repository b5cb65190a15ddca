"""A report without some of its cases: what stays keeps its lines, the figures are counted again."""

import json

from budwood.data.forget.found import InReport
from budwood.data.forget.lines import read_lines
from budwood.evaluate.report import encode
from budwood.evaluate.summary import summarise
from budwood.identity import Digest, digest_json
from budwood.store import Store

MEASURED = ("latency", "tokens_per_s", "seconds")
"""What was measured when the cases were answered, and holds for those that stay."""


def without_cases(store: Store, hit: InReport, snapshot: Digest, *, who: str) -> Digest | None:
    """Store the report that lacks the cases; None where no case is left.

    It says that it is of another suite: reports that lost the same cases can be compared, and no others. A verdict that was
    given on all of them stands in its release as it was given.

    Args:
        store: the store.
        hit: the report, and which cases go.
        snapshot: what stands in the place of the one that its cases came from.
        who: acts; noted beside the report.
    """
    if len(hit.cases) == hit.total:
        return None
    manifest = store.manifest(hit.digest)
    forgets = {"of": hit.digest, "cases": len(hit.cases)}
    with store.draft("report") as draft:
        kept = [(line, case) for line, case in read_lines(store, hit.digest, "cases.jsonl") if case["case_id"] not in hit.cases]
        (draft.folder / "cases.jsonl").write_bytes(b"".join(line for line, _ in kept))
        summary = summarise([case for _, case in kept])
        (draft.folder / "summary.json").write_bytes(encode(summary, indent=1))
        suite = digest_json({"suite": hit.suite, "without": sorted(hit.cases)})
        body = {**manifest.body, "suite": suite, "metrics": json.loads(encode(summary))["metrics"], "forgets": forgets}
        parents = [snapshot, *manifest.parents[1:], hit.digest]
        return draft.commit(parents=parents, body=body, attestation={"who": who, **forgets, **_measured(store, hit.digest)})


def _measured(store: Store, digest: Digest) -> dict[str, object]:
    newest: dict[str, object] = next((one for one in reversed(store.attestations(digest)) if "latency" in one), {})
    return {key: newest[key] for key in MEASURED if key in newest}
