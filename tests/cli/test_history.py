"""`budwood history` and `budwood verify --head`: what was live then, in a zone that is said, and an end that was noted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.cli.moment import read_moment, show_moment
from budwood.errors import StoreError
from budwood.identity import Digest, digest_json
from budwood.store import HistoryEvent, Store, open_store


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-03-03 14:00", "2026-03-03 14:00"),
        ("2026-03-03T14:00:30+01:00", "2026-03-03 13:00:30"),
        ("2026-03-03 14:00 UTC", "2026-03-03 14:00"),
        ("2026-03-03 14:00 Europe/Berlin", "2026-03-03 13:00"),
        ("2026-07-03 14:00 Europe/Berlin", "2026-07-03 12:00"),
        ("2026-03-03", "2026-03-03 00:00"),
    ],
)
def test_a_moment_is_read_in_the_zone_that_it_says(text: str, utc: str) -> None:
    assert read_moment(text) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_local_is_this_machines_zone() -> None:
    assert read_moment("2026-03-03 14:00 local") == datetime(2026, 3, 3, 14).astimezone()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "is no moment"),
        ("2026-03-03 14:00 Mars/Base", "'Mars/Base' is no time zone"),
        ("2026-10-25 02:30 Europe/Berlin", "twice or not at all"),
        ("2026-03-29 02:30 Europe/Berlin", "twice or not at all"),
    ],
)
def test_a_moment_that_is_none_or_two_is_refused(text: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        read_moment(text)


def test_a_moment_is_shown_in_utc_first() -> None:
    assert show_moment(datetime(2026, 3, 3, 15, tzinfo=UTC) - timedelta(hours=1)).startswith("2026-03-03 14:00:00 UTC")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """One release that went live with two approvals, by override; one server acknowledged it."""
    now = [datetime(2026, 3, 3, 13, 59, tzinfo=UTC)]

    def clock() -> datetime:
        now[0] += timedelta(seconds=10)
        return now[0]

    verdict = {"verdict": "REJECT"}
    with open_store(tmp_path / "store", clock=clock) as store:
        with store.draft("release") as draft:
            (draft.folder / "a.txt").write_text("a")
            digest = draft.commit(body={"verdict": verdict})
        store.add_release("support", digest, who="anna", reason="")
        for who in ("ben", "carla"):
            store.add_event(HistoryEvent(0, "", "approved", who, "support", "production", None, digest))
        store.move_alias(
            "support",
            "production",
            digest,
            who="dora",
            reason="customers wait",
            verdict=digest_json(verdict),
            override=True,
            detail={"approvals": {"asked": 2, "rule": 0, "events": [2, 3]}},
        )
        store.observe("gpu-1", "support", "production", digest, True, "")
        yield store


def run(store: Store, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(build_app(), [*arguments, "--store", str(store.root)])
    return done.exit_code, done.stdout


def test_what_was_live_who_moved_it_why_and_on_what(store: Store) -> None:
    digest: Digest = store.releases()[0].digest
    code, text = run(store, "history", "support", "--at", "2026-03-03 14:00")
    lines = [line.split("  (")[0].rstrip() for line in text.splitlines()]
    assert code == 0
    assert lines[0].startswith("support@production at 2026-03-03 14:00:00 UTC")
    assert lines[1:] == [
        f"  desired   support@1 ({digest[:12]})",
        lines[2],
        "  promoted  by dora: customers wait",
        "  verdict   REJECT, override",
        "  approved  by ben, carla",
        "  event     4",
        f"  server gpu-1 answered from support@1 ({digest[:12]})",
    ]
    assert lines[2].startswith("  since     2026-03-03 13:59:50 UTC")
    values = json.loads(run(store, "history", "support", "--at", "2026-03-03 15:00 Europe/Berlin", "--json")[1])
    assert (values["desired"], values["verdict"], values["move"]["who"]) == (digest, "REJECT", "dora")
    assert values["at"] == "2026-03-03T14:00:00+00:00"
    assert "pointed to nothing yet" in run(store, "history", "support", "--at", "2026-03-03 13:00")[1]


def test_an_end_that_was_noted_is_found_again_or_missed(store: Store) -> None:
    code, text = run(store, "history", "--head")
    assert (code, text.strip()) == (0, f"4-{store.history()[-1].digest}")
    assert run(store, "verify", "--head", text.strip())[0] == 0
    code, said = run(store, "verify", "--head", "5-" + "ab" * 32)
    assert code == 1
    assert "history: --head names event 5 (abababababab…), which is not in the catalog" in said
