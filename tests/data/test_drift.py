"""A verdict is stale when production has left the held-out set behind by more than the margin, and only then."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from budwood.data.drift import measure_drift, record_drift
from budwood.errors import DataError
from budwood.events import Event
from budwood.release.status import status
from budwood.serve.directory import Directory
from budwood.serve.drift import DriftWatch
from budwood.serve.metrics import Metrics
from budwood.store import Store, open_store, traffic
from budwood.store.store import utc_now

REFUND, PASSWORD = ("refund", "invoice", "charged", "card", "twice"), ("password", "login", "reset", "locked", "account")


def asked(number: int, words: Sequence[str]) -> str:
    draw = random.Random(number)
    return f"Please help with my {draw.choice(words)} and {draw.choice(words)}, case {draw.randrange(10**6)}?"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def put(store: Store, kind: Any, files: dict[str, str], **parts: Any) -> Any:
    with store.draft(kind) as draft:
        for name, text in files.items():
            (draft.folder / name).write_text(text, "utf-8")
        return draft.commit(**parts)


def judged_on(store: Store, prompts: Sequence[str], **body: Any) -> Any:
    """A live release whose report has these cases."""
    cases = [
        {"case_id": f"{number:064x}", "group": f"g{number}", "prompt": [{"role": "user", "content": text}]}
        for number, text in enumerate(prompts)
    ]
    report = put(store, "report", {"cases.jsonl": "".join(json.dumps(case) + "\n" for case in cases)}, body={"cases": 1})
    release = put(store, "release", {}, parents=[report], body={"report": report, "verdict": None, **body})
    store.add_release("support", release, who="t", reason="")
    store.move_alias("support", "production", release, who="t", reason="")
    return release


def sampled(store: Store, prompts: Sequence[str], *, days_ago: int = 0, model: str = "support", start: int = 0) -> None:
    at = utc_now() - timedelta(days=days_ago)
    path = traffic.place(store.root, "support", "served", at.date(), "s")
    records = [
        {
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}],
            "model": model,
            "request": f"chatcmpl-{start + number}",
            "choice": 0,
            "at": at.isoformat(),
        }
        for number, text in enumerate(prompts)
    ]
    traffic.append(path, [json.dumps(record).encode() for record in records])


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.history("support")][2:]


def test_the_same_questions_leave_the_verdict_and_others_make_it_stale_until_they_are_gone(store: Store) -> None:
    live = judged_on(store, [asked(number, REFUND) for number in range(150)])
    sampled(store, [asked(1_000 + number, REFUND) for number in range(150)])
    found = measure_drift(store, "support", "production", days=7, margin=0.1)
    assert (found.finding, found.comparison.sizes) == ("fresh", (150, 150))
    assert not record_drift(store, found, who="t")
    assert kinds(store) == []

    sampled(store, [asked(2_000 + number, PASSWORD) for number in range(300)], start=150)
    drifted = measure_drift(store, "support", "production", days=7, margin=0.1)
    assert drifted.finding == "stale"
    assert record_drift(store, drifted, who="t")
    assert not record_drift(store, drifted, who="t")
    assert kinds(store) == ["verdict_stale"]
    event = store.history("support")[-1]
    assert (event.to, event.detail["margin"]) == (live, 0.1)
    assert event.detail["auc"]["low"] > 0.6
    (alias,) = status(store, "support").aliases
    assert "stale" in alias.line()
    assert "differs" in alias.stale

    assert measure_drift(store, "support", "production", days=7, margin=0.5).finding == "fresh"
    for path in traffic.files(store.root):
        traffic.shorten(path, lambda line: b"chatcmpl-" in line and int(line.split(b"chatcmpl-")[1].split(b'"')[0]) < 150)
    assert record_drift(store, measure_drift(store, "support", "production", days=7, margin=0.1), who="t")
    assert kinds(store) == ["verdict_stale", "verdict_fresh"]
    assert status(store, "support").aliases[0].stale == ""
    assert store.verify().ok


def test_only_requests_of_the_alias_and_of_late_count_and_few_of_them_change_nothing(store: Store) -> None:
    judged_on(store, [asked(number, REFUND) for number in range(60)])
    sampled(store, [asked(number, PASSWORD) for number in range(60)], days_ago=9)
    sampled(store, [asked(number, PASSWORD) for number in range(60)], model="support@staging")
    sampled(store, [asked(number, PASSWORD) for number in range(5)])
    with next(iter(traffic.files(store.root))).open("ab") as torn:
        torn.write(b'{"messages": [')
    found = measure_drift(store, "support", "production", days=7, margin=0.1)
    assert (found.finding, found.comparison.sizes) == ("untestable", (60, 5))
    assert not record_drift(store, found, who="t")
    assert store.drifts.rows() == {}
    with pytest.raises(DataError, match="Nothing is live as support@staging"):
        measure_drift(store, "support", "staging", days=7, margin=0.1)


def test_a_server_measures_when_it_is_time_and_shows_what_is_known(store: Store) -> None:
    live = judged_on(store, ["a"])
    now = [0.0]
    measured: list[tuple[str, str]] = []
    told: list[Event] = []

    class Names(Directory):
        def aliases(self) -> Any:
            return {("support", "production"): type("Live", (), {"digest": live, "concrete": "support@1-abc"})}

    def measure(name: str, alias: str) -> str:
        measured.append((name, alias))
        return "no file can be read" if len(measured) > 1 else ""

    metrics = Metrics()
    watch = DriftWatch(store, Names(), metrics, measure=measure, hours=1.0, report=told.append, clock=lambda: now[0])
    watch.look()
    assert measured == []
    store.drifts.put("support", "production", live, stale=True, says="It differs.", detail={}, who="t")
    for _ in range(2):
        now[0] += 3600
        watch.look()
    assert measured == [("support", "production")] * 2
    assert [event.message for event in told] == ["Drift of support@production could not be measured: no file can be read"]
    assert 'budwood_verdict_stale{release="support@1-abc"} 1.0' in metrics.text().decode()
