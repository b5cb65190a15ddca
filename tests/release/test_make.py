"""Making a release: what it binds, and which parts do not belong together."""

import json
from dataclasses import replace
from typing import Any

import pytest

from budwood.engine.probes import read_probes
from budwood.errors import ReleaseError, StoreError
from budwood.identity import digest_bytes
from budwood.recipe import recipe_from_mapping
from budwood.release.make import Decoding, ResultRef, make_release
from budwood.store import Store

from .conftest import IDENTITY, PROBES, TEMPLATE, Releaser, put, verdict_of


def test_a_release_binds_everything(store: Store, release: Releaser) -> None:
    made = release()
    manifest = store.manifest(made.digest)
    body = manifest.body
    assert body["base"] == {**IDENTITY, "quantization": "none", "precision": "float32", "object": made.base}
    assert body["result"] == {"kind": "adapter", "digest": made.adapter}
    assert body["decoding"] == {"temperature": 0.0, "max_new_tokens": 64, "stop_ids": [2]}
    assert (body["snapshot"], body["report"], body["run"]) == (made.snapshot, made.report, made.run)
    assert body["verdict"]["verdict"] == "PROMOTE"
    assert set(manifest.parents) == {made.base, made.adapter, made.snapshot, made.report, made.run}
    assert json.loads(store.file(made.digest, "release.json").read_bytes()) == body
    assert store.file(made.digest, "template.jinja").read_text() == TEMPLATE
    assert read_probes(store.file(made.digest, "probes.json")) == PROBES
    assert store.releases("support")[0].version == made.version == 1
    assert store.attestations(made.digest)[0]["who"] == "anna"


def test_the_same_parts_are_the_same_release(store: Store, release: Releaser) -> None:
    first, again, other = release(1), release(1), release(2)
    assert (first.digest, first.version) == (again.digest, again.version)
    assert (other.version, len(store.releases())) == (2, 2)


def test_a_release_that_has_gone_live_is_not_released_again(store: Store, release: Releaser) -> None:
    """Running the same recipe again meets its own release as the live one, judged without a champion."""
    first = release(1)
    second = release(2, champion=first)
    again = release(2, parent=second.digest)
    assert (again.digest, again.version) == (second.digest, second.version)
    assert release(2, parent=second.digest, decoding=Decoding(0.5, 64, (2,))).version == 3
    policy = replace(verdict_of(second.report), policy_digest=digest_bytes(b"stricter"))
    assert release(2, parent=second.digest, verdict=policy).version == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization": "nf4"},
        {"precision": "bfloat16"},
        {"template_source": TEMPLATE + " "},
        {"system": "Be brief."},
        {"decoding": Decoding(0.1, 64, (2,))},
        {"decision": "INCONCLUSIVE"},
    ],
)
def test_every_part_changes_the_digest(release: Releaser, changes: dict[str, Any]) -> None:
    assert release().digest != release(**changes).digest


def test_a_plain_base_can_be_released(store: Store, release: Releaser) -> None:
    base = put(store, "base", body=dict(IDENTITY))
    made = release(decision=None, result=None, run=None, report=None)
    body = store.manifest(made.digest).body
    assert body["result"] == {"kind": "none", "digest": None}
    assert body["verdict"] is None
    assert base in store.manifest(made.digest).parents


def test_parts_of_another_release_are_refused(store: Store, release: Releaser) -> None:
    first, second = release(1), release(2)
    before = len(list(store.objects()))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"run": second.run}, "was not made from adapter"),
        ({"report": second.report}, "was not made from adapter"),
        ({"result": ResultRef("model", first.adapter)}, "is a adapter, a model is needed"),
        ({"snapshot": first.adapter}, "is a adapter, a snapshot is needed"),
        ({"base_object": first.snapshot}, "is a snapshot, a base is needed"),
        ({"base_identity": {**IDENTITY, "weights_digest": digest_bytes(b"other")}}, "has weights"),
        ({"verdict": verdict_of(second.report)}, "the verdict is about report"),
    ]
    for changes, words in wrong:
        with pytest.raises(ReleaseError, match=words):
            release(1, **changes)
    with pytest.raises(StoreError, match="There is no object"):
        release(1, run=digest_bytes(b"nowhere"))
    assert len(list(store.objects())) == before
    assert len(store.releases()) == 2


@pytest.mark.parametrize("base_id", ["support", "org/Support@abc", "models/support/"])
def test_bad_49_a_release_cannot_be_named_like_its_base(release: Releaser, base_id: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        release(base_identity={**IDENTITY, "id": base_id})
    assert str(caught.value) == (
        'The release name "support" is the base model\'s own: nobody could tell which of them answers. '
        'In the recipe, name.\n    Choose another, e.g. "support-tuned".'
    )


def test_names_of_recipes_fit_the_store(store: Store, release: Releaser) -> None:
    """The recipe and the store each have a rule for names; what one lets through the other must take."""
    made = release()
    for name in ("a", "support-triage_2.1", "9lives", "facade", "x" * 64):
        recipe = recipe_from_mapping({"name": name, "source": [{"path": "x"}]}, folder=store.root)
        assert store.add_release(recipe.name, made.digest, who="x", reason="") == 1
    assert make_release is not None
