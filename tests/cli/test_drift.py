"""`budwood drift` as a server runs it: in a process of its own, on the catalog that the store has, wherever that is."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data.test_drift import PASSWORD, REFUND, asked, judged_on, sampled
from tests.store.conftest import empty

from budwood.cli.serve import drift_measure
from budwood.recipe import ServeSection
from budwood.store import Store, open_store

SETTINGS = ServeSection(drift_margin=0.1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A live release, and production that asks something else. On PostgreSQL the catalog is named by BUDWOOD_CATALOG alone."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    monkeypatch.delenv("BUDWOOD_CATALOG", raising=False)
    if url:
        empty(url)
        monkeypatch.setenv("BUDWOOD_CATALOG", url)
    with open_store(tmp_path / "store", url=url) as opened:
        judged_on(opened, [asked(number, REFUND) for number in range(150)])
        sampled(opened, [asked(1_000 + number, PASSWORD) for number in range(150)])
        yield opened


def test_a_finding_is_in_the_catalog_of_the_store_and_nowhere_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = drift_measure(store.root, SETTINGS)
    assert measure("support", "production") == ""
    (row,) = store.drifts.rows().values()
    assert row.stale
    event = store.history("support")[-1]
    assert (event.kind, event.who) == ("verdict_stale", "server (drift)")
    assert (store.root / "catalog.sqlite").exists() is ("://" not in store.catalog_place())
    assert store.verify().ok
    # Without the variable the folder itself says where its catalog is.
    monkeypatch.delenv("BUDWOOD_CATALOG", raising=False)
    assert measure("support", "production") == ""
    assert len(store.history("support")) == event.seq
    monkeypatch.setenv("BUDWOOD_CATALOG", "postgresql+psycopg://nobody@/elsewhere")
    said = measure("support", "production")
    assert "its catalog in" in said
    assert len(store.history("support")) == event.seq


def test_what_hinders_it_is_said(store: Store) -> None:
    assert "Nothing is live as support@staging" in drift_measure(store.root, SETTINGS)("support", "staging")


def test_a_process_that_is_killed_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script: Any = tmp_path / "killed"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    os.chmod(script, stat.S_IRWXU)
    monkeypatch.setattr("budwood.cli.serve.sys.executable", str(script))
    said = drift_measure(tmp_path, SETTINGS)("support", "production")
    assert said == f"`budwood drift` ended with code {-signal.SIGKILL}"
