"""`budwood release show` and `diff` on releases of a real adapter."""

import json
from typing import Any

from tests.serve.conftest import Nursery
from typer.testing import CliRunner, Result

from budwood.cli.main import build_app
from budwood.release.diff import diff


def run(nursery: Nursery, *words: str) -> Result:
    return CliRunner().invoke(build_app(), ["release", *words, "--store", str(nursery.store.root)], catch_exceptions=False)


def test_show_names_all_that_is_bound(nursery: Nursery) -> None:
    row = nursery.release("support", 0, system="Be brief.")
    nursery.promote(row)
    done = run(nursery, "show", "support@production")
    assert done.exit_code == 0
    for text in (row.digest, "support@1", "support@production", nursery.soil.base.identity.weights_digest, "Be brief.", "4"):
        assert text in done.stdout
    shown: dict[str, Any] = json.loads(run(nursery, "show", "support@1", "--json").stdout)
    assert shown["body"] == json.loads(json.dumps(dict(nursery.store.manifest(row.digest).body)))
    assert (shown["names"], shown["adapter"]["r"], len(shown["probes"])) == (["support@1"], 4, 2)


def test_diff_says_what_differs_and_what_does_not(nursery: Nursery) -> None:
    first = nursery.release("support", 0)
    second = nursery.release("support", 1, system="Be brief.")
    noted = nursery.release("support", 0, note="the same adapter again")
    found = diff(nursery.store, first.digest, second.digest)
    assert {(change.group, change.what) for change in found.changes} >= {("answers", "system"), ("result", "digest")}
    assert not found.same_answers
    assert found.modules
    assert all(module.difference > 0 for module in found.modules)
    assert list(found.modules) == sorted(found.modules, key=lambda one: -one.difference)
    assert diff(nursery.store, first.digest, noted.digest).same_answers
    said = run(nursery, "diff", "support@1", "support@2", "--modules", "3").stdout
    assert "system: – → Be brief." in said
    assert f"{len(found.modules)} of {len(found.modules)} modules differ" in said


def test_a_template_is_compared_line_by_line(nursery: Nursery) -> None:
    before = nursery.release("support", 0)
    after = _with_template(nursery, nursery.soil.template.source + "\n{# more #}")
    found = diff(nursery.store, before.digest, after)
    assert "+{# more #}" in found.template
    assert not found.same_answers


def _with_template(nursery: Nursery, source: str) -> Any:
    row = nursery.release("support", 0, note="x")
    manifest = nursery.store.manifest(row.digest)
    with nursery.store.draft("release") as draft:
        for name in ("release.json", "probes.json"):
            (draft.folder / name).write_bytes(nursery.store.file(row.digest, name).read_bytes())
        (draft.folder / "template.jinja").write_text(source)
        digest = draft.commit(parents=list(manifest.parents), body=dict(manifest.body))
    nursery.store.add_release("support", digest, who="test", reason="test")
    return digest
