"""`budwood data forget`: what it prints, its exit codes, and that no word of a row is among it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from budwood.cli.main import build_app
from budwood.errors import BudwoodError
from budwood.store import Store, open_store

Run = Callable[..., Result]
SECRET = "Zyxomorph Quillfeather"
COUNTS = {"read": 3, "kept": 3, "rejected": 0, "train": 2, "validation": 0, "test": 1}


def row(number: int, said: str) -> dict[str, Any]:
    return {
        "row_id": f"{number:016x}",
        "messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "yes"}],
        "source": {"file": "rows.jsonl", "sha256": "ab" * 32, "line": number},
        "group": f"{number:016x}",
        "slices": {"customer": number},
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A snapshot of three rows, one of them the person's, and a run on it."""
    opened = open_store(tmp_path / "store")
    splits = {"train": [row(1, f"I am {SECRET}"), row(2, "hello")], "validation": [], "test": [row(3, "bye")], "rejected": []}
    with opened.draft("snapshot") as draft:
        for split, rows in splits.items():
            (draft.folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        body = {
            "name": "support",
            "counts": COUNTS,
            "rules": [],
            "sources": [],
            "groups": {"by": "", "notes": []},
            "onto": "",
            "settings": {"labels": [], "near_duplicate": 0.8},
        }
        snapshot = draft.commit(body=body)
    with opened.draft("adapter") as draft:
        adapter = draft.commit()
    with opened.draft("run") as draft:
        draft.commit(parents=[snapshot, adapter], body={"result": adapter})
    opened.close()  # who made them no longer works with them
    return opened


@pytest.fixture
def run(store: Store) -> Run:
    def run_command(*arguments: str, stdin: str = "") -> Result:
        line = ["data", "forget", *arguments, "--store", str(store.root)]
        done = CliRunner().invoke(build_app(), line, input=stdin)
        if isinstance(done.exception, BudwoodError):
            raise done.exception
        assert "zyxo" not in done.output.lower()
        return done

    return run_command


def test_the_dry_run_says_what_would_go_in_80_columns(store: Store, run: Run) -> None:
    snapshot, (made,), (trained,) = next(store.objects("snapshot")), store.objects("run"), store.objects("adapter")
    done = run("--match", SECRET)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:17] == [
        "1 row found.",
        "",
        "  what              digest        holds",
        f"  snapshot support  {snapshot[:12]}  1 train",
        "",
        "  split  rows",
        "  train  0000000000000001",
        "",
        "They came from these lines, which are not touched:",
        "  rows.jsonl: 1",
        "",
        "Trained on rows that go; weights cannot be made to forget them:",
        f"  run {made[:12]}: 1 row",
        f"  adapter or model {trained[:12]}",
        "",
        "Not reached by this: the source files, the weights of adapters and models, what was exported or logged elsewhere, "
        "backups, and your shell's own history (`--match -` reads from standard input).",
        "",
    ]
    assert done.stdout.splitlines()[17:] == ["Nothing was changed. To do it, repeat with --yes and --reason WHY."]
    assert store.exists(snapshot)


def test_doing_it_says_what_took_the_place(store: Store, run: Run) -> None:
    snapshot = next(store.objects("snapshot"))
    done = run("--match", "-", "--yes", "--reason", "request 17", "--who", "ben", stdin=f"\n{SECRET.upper()}\n")
    (new,) = store.objects("snapshot")
    assert done.exit_code == 0
    assert f"  snapshot  {snapshot[:12]}  {new[:12]}\n" in done.stdout
    assert "The whole store was looked through again: nothing of it is left." in done.stdout
    assert done.stdout.endswith(
        f"Next:\n  budwood run RECIPE --store {store.root}    # train again, without the rows\n"
        f"  budwood verify --store {store.root}\n"
    )
    verified = CliRunner().invoke(build_app(), ["verify", "--store", str(store.root)])
    stone = store.tombstones()[0]
    assert f"  removed: snapshot {snapshot[:12]} → {new[:12]}, on {stone.at[:10]} by ben: request 17\n" in verified.stdout
    assert verified.exit_code == 0
    listed = json.loads(CliRunner().invoke(build_app(), ["verify", "--json", "--store", str(store.root)]).stdout)["removed"]
    assert [one["successor"] for one in listed] == [new]


def test_what_is_left_is_exit_code_1_and_json_says_all(store: Store, run: Run) -> None:
    (store.root / "notes.txt").write_text(SECRET)
    assert json.loads(run("--column", "customer=1", "--json").stdout)["by_split"]["train"] == 1
    done = run("--match", SECRET, "--yes", "--reason", "request 17", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["complete"] is False
    assert [place["where"] for place in told["left"]["elsewhere"]] == ["notes.txt"]
    assert told["found"]["snapshots"][0]["rows"] == {"train": ["0000000000000001"]}


def test_nothing_found_is_said(store: Store, run: Run) -> None:
    done = run("--row", "ffffff")
    assert done.stdout == "No row here begins with ffffff.\nNothing that could be taken out was found.\n"
    assert run("--match", "nobody at all", "--yes", "--reason", "request 17").exit_code == 0
    assert store.history() == []


def test_what_was_cut_short_is_finished(store: Store, run: Run) -> None:
    assert run("--finish").stdout == "No removal was cut short.\n"
    assert json.loads(run("--finish", "--json").stdout) == {"finished": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing is looked for."),
        (["--match", "x", "--yes"], "A removal needs a reason."),
        (["--match", "-"], "There is no text on standard input."),
        (["--match", "x", "--snapshot", "ffffff"], "No object begins with ffffff."),
        (["--match", "x", "--snapshot", "RUN"], "is a run, not a snapshot."),
    ],
)
def test_mistakes_are_said_and_nothing_is_changed(store: Store, run: Run, arguments: list[str], message: str) -> None:
    made = next(store.objects("run"))
    with pytest.raises(BudwoodError) as caught:
        run(*[made[:12] if word == "RUN" else word for word in arguments])
    assert message in caught.value.what
    assert store.history() == []
