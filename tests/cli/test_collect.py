"""`budwood collect`: says first, removes then, and never what a release was made from."""

import json
from pathlib import Path

from typer.testing import CliRunner

from budwood.cli.main import build_app
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
        done = CliRunner().invoke(build_app(), ["collect", *arguments, "--store", str(store.root)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    assert run() == "To be removed: 0 objects, 0 bytes. What is younger than 7 days stays.\n"
    assert run("--older-than", "0").splitlines() == [
        "  kind      digest        name     bytes",
        f"  snapshot  {loose[:12]}  support  1,003",
        "",
        "To be removed: 1 object, 1,003 bytes. What is younger than 0 days stays.",
        "Nothing was changed. To do it, repeat with --yes.",
    ]
    assert store.exists(loose)
    done = json.loads(run("--older-than", "0", "--yes", "--json"))
    assert (done["removed"], done["bytes"], [one["digest"] for one in done["objects"]]) == (True, 1003, [loose])
    assert list(store.objects("snapshot")) == [kept]
    assert not (store.root / "cache" / loose).exists()
    assert store.verify().ok
