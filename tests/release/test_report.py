"""Reading report objects: what a gate takes from them, and which it refuses."""

import json
import math
from typing import Any

import pytest

from budwood.errors import ReleaseError
from budwood.identity import Digest
from budwood.release.report import read_report
from budwood.store import Store

from .conftest import put

LINE: dict[str, Any] = {
    "case_id": "c1",
    "group": "g1",
    "slices": {},
    "expected": "yes",
    "output": "yes",
    "finish": "stop",
    "tokens": 1,
    "scores": {"exact": 1.0, "chrf": None},
    "style": [],
    "policy": ["forbidden"],
    "schema_ok": None,
}


def write(store: Store, text: str, *, attestation: dict[str, Any] | None = None, **body: Any) -> Digest:
    whole = {
        "suite": "d11c",
        "scorers": {"exact": 1},
        "decoding": {"temperature": 0},
        "subject": {"kind": "adapter", "digest": "ab" * 32},
    }
    return put(store, "report", {"cases.jsonl": text}, body=whole | body, attestation=attestation or {})


def test_a_report_is_read(store: Store) -> None:
    digest = write(store, json.dumps(LINE) + "\n", attestation={"latency": {"seconds_per_token_median": 0.02}})
    report = read_report(store, digest)
    assert (report.suite, report.subject) == ("d11c", "ab" * 32)
    assert report.latency == {"seconds_per_token_median": 0.02}
    read = report.cases["c1"]
    assert read.scores == {"exact": 1.0, "chrf": None}
    assert (read.group, read.policy, read.style, read.schema_ok) == ("g1", True, False, None)


def test_scores_that_are_not_finite_are_unknown(store: Store) -> None:
    line = json.dumps({**LINE, "scores": {"exact": float("nan"), "chrf": "0.5", "flag": True}})
    scores = read_report(store, write(store, line)).cases["c1"].scores
    assert scores["flag"] == 1.0
    assert all(math.isnan(scores[name] or 0.0) for name in ("exact", "chrf"))


def test_the_newest_latency_counts_and_nonsense_does_not(store: Store) -> None:
    digest = write(store, "", attestation={"latency": {"seconds_per_token_median": 0.02}})
    store.attest(digest, {"latency": {"seconds_per_token_median": 0.03}})
    store.attest(digest, {"latency": {"seconds_per_token_median": -1}})
    store.attest(digest, {"host": "b"})
    assert read_report(store, digest).latency == {"seconds_per_token_median": 0.03}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Line 1 of cases.jsonl is no case"),
        (json.dumps(LINE) + "\n[]", "Line 2 of cases.jsonl is no case"),
        (json.dumps({key: value for key, value in LINE.items() if key != "policy"}), "is no case: KeyError"),
        (json.dumps(LINE) + "\n" + json.dumps(LINE), "Case c1 is there twice"),
    ],
)
def test_lines_that_are_no_cases_are_refused(store: Store, text: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        read_report(store, write(store, text))


def test_bad_69_a_report_edited_after_it_was_made_is_refused(store: Store) -> None:
    digest = write(store, json.dumps({**LINE, "scores": {"exact": 0.0}}))
    path = store.file(digest, "cases.jsonl")
    path.chmod(0o644)
    path.write_text(path.read_text().replace("0.0", "1.0"))
    with pytest.raises(ReleaseError, match=r"damaged or edited: cases\.jsonl was altered"):
        read_report(store, digest)


def test_other_objects_are_no_reports(store: Store) -> None:
    with pytest.raises(ReleaseError, match="is a run, not a report"):
        read_report(store, put(store, "run"))
    with pytest.raises(ReleaseError, match="lacks 'suite'"):
        read_report(store, put(store, "report", {"cases.jsonl": ""}))
