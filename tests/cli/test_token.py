"""`budwood token`: made once, shown once, listed, revoked; and `budwood ask` with it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from budwood.cli import token as token_command
from budwood.cli.ask import TOKEN_VARIABLE, _token
from budwood.cli.main import build_app
from budwood.errors import BudwoodError, ServeError, StoreError
from budwood.serve.access.secret import digest_of, prefix_of
from budwood.store import open_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with open_store(tmp_path / "store"):
        return tmp_path / "store"


def run(root: Path, *words: str) -> Result:
    app = typer.Typer()
    token_command.register(app)
    # A typer with one group only would take its commands for its own.
    app.command("other")(lambda: None)
    done = CliRunner().invoke(app, ["token", *words, "--store", str(root)])
    if done.exception is not None:
        raise done.exception
    return done


def test_a_token_is_shown_once_and_its_digest_is_kept(root: Path) -> None:
    shown = run(root, "create", "--name", "ci", "--scope", "inference, admin", "--expires", "30d").stdout.splitlines()[0]
    with open_store(root) as store:
        (row,) = store.access.rows()
    assert (row.prefix, row.digest) == (prefix_of(shown), digest_of(shown))
    listed = run(root, "list").stdout
    assert shown not in listed
    assert row.prefix in listed
    assert "live" in listed
    run(root, "revoke", "ci", "--reason", "leaked")
    (told,) = json.loads(run(root, "list", "--json").stdout)
    assert told["state"] == "revoked"
    assert "digest" not in told
    assert "No calls yet" in run(root, "calls").stdout


def test_the_history_says_which_token_it_was(root: Path) -> None:
    shown = run(root, "create", "--name", "ci", "--scope", "inference, admin").stdout.splitlines()[0]
    run(root, "revoke", "ci", "--reason", "leaked")
    told = CliRunner().invoke(build_app(), ["history", "--store", str(root)]).stdout
    lines = [line for line in told.splitlines() if "token" in line]
    assert [line.split()[2] for line in lines] == ["token_created", "token_revoked"]
    assert all(f"token ci ({prefix_of(shown)}…) inference, admin" in line for line in lines)
    assert shown not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scope", "root"], "There is no scope 'root'"),
        (["--scope", ","], "There is no scope ''"),
        (["--expires", "soon"], "no time that a token may count"),
        (["--expires", "0d"], "no time that a token may count"),
        (["--expires", "9999d"], "no time that a token may count"),
        (["--models", "nobody"], 'unknown release name "nobody"'),
    ],
)
def test_what_is_wrong_is_said_and_no_token_made(root: Path, words: list[str], said: str) -> None:
    with pytest.raises(BudwoodError, match=said):
        run(root, "create", "--name", "ci", *words)
    assert "No tokens yet" in run(root, "list").stdout


def test_a_name_that_was_used_is_refused(root: Path) -> None:
    run(root, "create", "--name", "ci")
    with pytest.raises(StoreError, match="one token for good"):
        run(root, "create", "--name", "ci")


def test_ask_takes_its_token_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, " bw_x \n")
    assert _token() == "bw_x"
    monkeypatch.setenv(TOKEN_VARIABLE, "a\nHost: evil")
    with pytest.raises(ServeError, match="no access token"):
        _token()
