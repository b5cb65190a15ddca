"""An adapter with token rows, released: served beside others, proven by its probes, merged, and composed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from tests.serve.conftest import Nursery, Soil, loud_adapter
from tests.serve.test_composing import job_of, release_of

from budwood.engine.base import load_base
from budwood.engine.generate import score
from budwood.engine.lora import Adapter, AdapterBank, base_rows, load_adapter
from budwood.engine.lora.compose import Settings
from budwood.engine.probes import replay
from budwood.events import silent
from budwood.pipeline.composing import compose_releases
from budwood.pipeline.merging import merge_release
from budwood.release.measure import make_probes
from budwood.store import open_store

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
ROWS = {EMBEDDING: (258, 259), HEAD: tuple(range(64, 96))}
"""The control tokens before a question and an answer; and, in the head, a good share of what can be answered."""


def with_rows(adapter: Adapter, soil: Soil, *, seed: int = 5) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    rows = {
        path: replace(one, values=torch.randn(one.values.shape, generator=draw) * 0.5)
        for path, one in base_rows(load_base(soil.ref).model, ROWS).items()
    }
    return replace(adapter, rows=rows)


@pytest.fixture(scope="module")
def rowed(soil: Soil) -> Soil:
    """Adapter 0 with token rows, 1 the same without, 2 with other rows."""
    base = load_base(soil.ref)
    plain = loud_adapter(base, 1)
    adapters = [with_rows(plain, soil), plain, with_rows(loud_adapter(base, 2), soil, seed=6)]
    bank = AdapterBank.attach(base.model)
    for place, adapter in enumerate(adapters):
        bank.add(str(place), adapter)
    return Soil(soil.ref, base, bank, adapters, soil.template)


@pytest.fixture
def grown(rowed: Soil, tmp_path: Path) -> Iterator[Nursery]:
    with open_store(tmp_path / ".budwood") as store:
        yield Nursery(rowed, store)


def test_each_request_gets_its_own_adapter_s_rows(grown: Nursery) -> None:
    soil = grown.soil
    for index in range(3):
        grown.promote(grown.release(f"name-{index}", index))
    prompt = soil.template.encode_prompt([{"role": "user", "content": "Where is it?"}])
    wanted = [soil.text(soil.reference(index, prompt, 16)[0]) for index in range(3)]
    assert len(set(wanted)) == 3
    with grown.serving() as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(2):
            for index in range(3):
                body = {"model": f"name-{index}", "messages": [{"role": "user", "content": "Where is it?"}]}
                answer = client.post("/v1/chat/completions", json=body).json()
                assert answer["choices"][0]["message"]["content"] == wanted[index]


def test_probes_stop_the_same_adapter_without_its_rows(grown: Nursery) -> None:
    soil = grown.soil
    prompts = [soil.template.encode_prompt([{"role": "user", "content": text}]) for text in ("alpha", "beta", "gamma")]
    probes = make_probes(soil.ref, prompts, adapter=soil.adapters[0], count=2, max_new_tokens=6, stop_ids=())
    assert {"mixed batch", "merged"} < set(probes.spreads)
    results = []
    for index in (0, 1):
        slot = soil.slot(index)
        results.append(replay(probes, lambda asked, said, slot=slot: score(soil.base, soil.bank, slot, asked, said)).ok)  # type: ignore[misc]
    assert results == [True, False]


@pytest.mark.parametrize("form", ["none", "nf4"])
def test_a_merge_has_the_rows(form: str, grown: Nursery, tmp_path: Path) -> None:
    row = grown.release("support", 0, changes={"quantization": form})
    onto = "original" if form == "none" else "dequantized"
    merged = merge_release(grown.store, row.digest, tmp_path / "out", onto, report=silent)  # type: ignore[arg-type]  # literal
    assert merged.divergences[onto].mean_kl < 1e-5  # type: ignore[index]  # literal
    weight = load_base(grown.soil.ref).model.state_dict()
    found = load_base(replace(grown.soil.ref, folder=tmp_path / "out")).model.state_dict()
    for path, ids in ROWS.items():
        changed = (found[f"{path}.weight"] != weight[f"{path}.weight"]).any(1).nonzero().flatten().tolist()
        assert changed == list(ids)


def test_a_composition_takes_rows_over_with_a_note(grown: Nursery) -> None:
    releases = [release_of(grown, 0), release_of(grown, 1)]
    composed = compose_releases(job_of(grown), releases, Settings("svd", (1.0, 1.0), rank=8))
    assert composed.notes == ("34 token rows taken over as trained, whatever the weights; vLLM loads none.",)
    found = load_adapter(grown.store.folder(composed.adapter), load_base(grown.soil.ref).model)
    assert {path: one.ids for path, one in found.rows.items()} == ROWS
    assert torch.equal(found.rows[HEAD].values, grown.soil.adapters[0].rows[HEAD].values)
    assert grown.store.manifest(composed.adapter).body["token_rows"] == {path: list(ids) for path, ids in ROWS.items()}
