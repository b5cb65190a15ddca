"""`budwood gc` and `budwood delete`: said first, removed then, and never what is needed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from budwood.cli.main import build_app
from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import Kind, Store, open_store


def put(store: Store, kind: Kind, text: str, *parents: Digest) -> Digest:
    with store.draft(kind) as draft:
        (draft.folder / "a.txt").write_text(text)
        return draft.commit(parents=parents, body={"name": "support"})


def test_it_says_first_and_removes_then(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        kept, loose = put(store, "snapshot", "12345"), put(store, "snapshot", "123")
        store.add_release("support", put(store, "release", "r", kept), who="anna", reason="")
        (store.cache(loose) / "tokens").write_bytes(bytes(1000))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(build_app(), ["gc", *arguments, "--store", str(store.root)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    assert run("--dry-run") == "To be removed: 0 objects, 0 bytes. What is younger than 7 days stays.\n"
    assert run("--dry-run", "--older-than", "0").splitlines() == [
        "  kind      digest        name     bytes",
        f"  snapshot  {loose[:12]}  support  1,003",
        "",
        "To be removed: 1 object, 1,003 bytes. What is younger than 0 days stays.",
        "Nothing was changed.",
        "",
        "Next:",
        f"  budwood gc --older-than 0 --store {store.root}",
    ]
    assert store.exists(loose)
    done = json.loads(run("--older-than", "0", "--json"))
    assert (done["removed"], done["bytes"], [one["digest"] for one in done["objects"]]) == (True, 1003, [loose])
    assert list(store.objects("snapshot")) == [kept]
    assert not (store.root / "cache" / loose).exists()
    assert store.verify().ok


def test_a_release_is_deleted_by_its_name_and_what_is_live_is_not(tmp_path: Path) -> None:
    with open_store(tmp_path / "store") as store:
        for text in ("1", "2"):
            store.add_release("support", put(store, "release", text, put(store, "adapter", text)), who="anna", reason="")
        store.move_alias("support", "production", store.find_release("support@1").digest, who="anna", reason="")

    def run(*arguments: str) -> tuple[int, str, BaseException | None]:
        done = CliRunner().invoke(build_app(), [*arguments, "--store", str(store.root)])
        return done.exit_code, done.stdout, done.exception

    assert "is live: support@production points to it" in str(run("delete", "support@1", "--reason", "x")[2])
    assert run("delete", "support@2")[0] == 2, "a reason is asked for"
    code, said, _ = run("delete", "support@2", "--reason", "wrong export", "--who", "ben")
    digest = store.find_release("support@2").digest
    assert (code, said.splitlines()[0]) == (
        0,
        f"Deleted support@2 ({digest[:12]}). What only it was made from goes with the next gc.",
    )
    assert "deleted   ben" in run("history", "support")[1]
    assert "1 object, 1 bytes" in run("gc", "--older-than", "0")[1]
    assert store.verify().ok
    with pytest.raises(StoreError, match=r"The bytes of release .* were removed on .* by ben: wrong export"):
        store.manifest(digest)
