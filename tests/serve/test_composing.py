"""Adapters of several releases made into one, with the releases as its parents."""

import json
from pathlib import Path

import pytest
import torch
from tests.serve.conftest import Nursery

from budwood.engine.lora import linear_shapes, load_adapter
from budwood.engine.lora.compose import Settings
from budwood.errors import ReleaseError
from budwood.events import silent
from budwood.identity import Digest
from budwood.pipeline.composing import compose_releases
from budwood.pipeline.job import Job
from budwood.recipe import recipe_from_mapping
from budwood.release.lineage import lineage


def job_of(nursery: Nursery) -> Job:
    mapping = {"name": "both", "source": [{"path": "rows.jsonl"}], "base": {"id": str(nursery.soil.ref.folder)}}
    return Job(recipe_from_mapping(mapping, folder=Path(".")), nursery.store, silent, who="anna")


def release_of(nursery: Nursery, adapter: int, *, quantization: str = "none", weights: str = "") -> Digest:
    """A release with its own snapshot, as far as composing looks at it."""
    store, identity = nursery.store, nursery.soil.base.identity
    with store.draft("snapshot") as draft:
        snapshot = draft.commit(body={"name": f"rows {adapter}"})
    result = nursery.adapter_object(adapter)
    bound = {"id": identity.id, "weights_digest": weights or identity.weights_digest}
    body = {
        "name": f"part-{adapter}",
        "base": {**bound, "quantization": quantization, "precision": "float32"},
        "result": {"kind": "adapter", "digest": result},
        "snapshot": snapshot,
    }
    with store.draft("release") as draft:
        return draft.commit(parents=[nursery.base_object(), result, snapshot], body=body)


def test_the_sum_of_two_is_stored_with_its_parents(nursery: Nursery) -> None:
    first, second = release_of(nursery, 0), release_of(nursery, 1)
    job = job_of(nursery)
    composed = compose_releases(job, [first, second], Settings("concatenate", (0.5, 2.0)))
    found = load_adapter(nursery.store.folder(composed.adapter), linear_shapes(nursery.soil.base.model))
    one, other = nursery.soil.adapters
    for path, pair in found.pairs.items():
        wanted = 0.5 * one.pairs[path].delta() + 2.0 * other.pairs[path].delta()
        torch.testing.assert_close(pair.delta(), wanted, rtol=1e-5, atol=1e-5)
    assert composed.rank == 8
    assert composed.lost == pytest.approx(0, abs=1e-6)
    run = nursery.store.manifest(composed.run)
    assert run.body["method"] == "compose"
    assert run.body["settings"]["weights"] == [0.5, 2.0]
    snapshots = [nursery.store.manifest(release).body["snapshot"] for release in (first, second)]
    assert {composed.adapter, first, second, *snapshots} < set(run.parents)
    assert {node.digest for node in lineage(nursery.store, composed.adapter).nodes} > {first, second, *snapshots}
    assert compose_releases(job, [first, second], Settings("concatenate", (0.5, 2.0))).adapter == composed.adapter


def test_a_rank_that_vllm_does_not_take_is_noted(nursery: Nursery) -> None:
    first, second = release_of(nursery, 0), release_of(nursery, 1)
    composed = compose_releases(job_of(nursery), [first, second], Settings("svd", (1.0, 1.0), rank=5))
    assert composed.notes == ("Rank 5 is none that vLLM can be told; start it with --max-lora-rank 8.",)
    assert 0 < composed.lost < 1
    json.dumps(composed.as_dict())


def test_what_does_not_belong_together_is_refused(nursery: Nursery) -> None:
    job, first = job_of(nursery), release_of(nursery, 0)
    halves = Settings("concatenate", (0.5, 0.5))
    with pytest.raises(ReleaseError, match=r"different forms of the base: nf4/float32, none/float32"):
        compose_releases(job, [first, release_of(nursery, 1, quantization="nf4")], halves)
    with pytest.raises(ReleaseError, match=r"It stands on base .* with weights ffffffffffff"):
        compose_releases(job, [first, release_of(nursery, 1, weights="f" * 64)], halves)
    with pytest.raises(ReleaseError, match="Only releases of adapters"):
        compose_releases(job, [first, nursery.base_object()], halves)
    with pytest.raises(ReleaseError, match="Only releases of adapters"):
        compose_releases(job, [first, nursery.release("plain", None).digest], halves)
