"""Exports that other programs read: PEFT folder, merged model, GGUF adapter."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from tests.serve.conftest import Nursery, loud_adapter
from torch import Tensor

from budwood.engine.base import load_base, resolve_base
from budwood.engine.lora import Adapter, Pair
from budwood.engine.lora.gguf_file import GgufBase, write_gguf
from budwood.errors import AdapterError, ReleaseError
from budwood.events import silent
from budwood.identity import digest_bytes
from budwood.pipeline.exporting import Wish, export_release


def test_a_peft_folder_holds_the_adapters_own_bytes(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    export_release(nursery.store, row, tmp_path / "out", Wish("peft"), report=silent)
    adapter = nursery.store.folder(nursery.store.manifest(row.digest).body["result"]["digest"])
    facts = json.loads((tmp_path / "out" / "budwood.json").read_bytes())
    assert facts["release"] == row.digest
    assert set(facts["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
    for name, digest in facts["files"].items():
        data = (tmp_path / "out" / name).read_bytes()
        assert data == (adapter / name).read_bytes()
        assert digest == digest_bytes(data)
    with pytest.raises(ReleaseError, match="is there already"):
        export_release(nursery.store, row, tmp_path / "out", Wish("peft"), report=silent)
    plain = nursery.release("plain", None)
    with pytest.raises(ReleaseError, match="has no adapter"):
        export_release(nursery.store, plain, tmp_path / "more", Wish("peft"), report=silent)


@pytest.mark.slow
def test_peft_gives_the_same_logits(nursery: Nursery, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    row = nursery.release("support", 0)
    export_release(nursery.store, row, tmp_path / "out", Wish("peft"), report=silent)
    export_release(nursery.store, row, tmp_path / "merged", Wish("merged"), report=silent)
    ids = torch.tensor([[5, 9, 77, 3]])
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(nursery.soil.ref.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for names that it will drop
            theirs = PeftModel.from_pretrained(base, tmp_path / "out")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    torch.testing.assert_close(theirs, merged, rtol=1e-4, atol=1e-4)


def test_a_merged_folder_is_a_whole_model(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    export_release(nursery.store, row, tmp_path / "out", Wish("merged"), report=silent)
    found = load_base(resolve_base(str(tmp_path / "out"))).identity
    assert found.parameters == nursery.soil.base.identity.parameters
    assert found.template_digest == nursery.soil.base.identity.template_digest
    assert found.weights_digest != nursery.soil.base.identity.weights_digest
    assert json.loads((tmp_path / "out" / "budwood.json").read_bytes())["base"]["base_weights"]


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}


def test_a_gguf_adapter_is_the_same_delta_in_llama_cpps_order(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    done = export_release(nursery.store, row, tmp_path / "out.gguf", Wish("gguf"), report=silent)
    fields, tensors = read_gguf(tmp_path / "out.gguf")
    assert (fields["general.type"], fields["adapter.type"], fields["general.architecture"]) == ("adapter", "lora", "llama")
    assert (fields["adapter.lora.alpha"], fields["budwood.release"]) == (8.0, row.digest)
    assert done.digest == digest_bytes((tmp_path / "out.gguf").read_bytes())
    adapter = nursery.soil.adapters[0]
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down"}
    assert len(tensors) == 2 * len(adapter.pairs)
    for path, pair in adapter.pairs.items():
        layer, rest = path.removeprefix("model.layers.").split(".", 1)
        place = f"blk.{layer}.{names[rest]}.weight"
        a, b = tensors[f"{place}.lora_a"], tensors[f"{place}.lora_b"]
        delta = (b @ a) * (fields["adapter.lora.alpha"] / b.shape[1])
        heads = {"attn_q": 4, "attn_k": 2}.get(names[rest])
        expected = pair.delta() if heads is None else interleaved(pair.delta(), heads)
        torch.testing.assert_close(delta, expected, rtol=1e-5, atol=1e-6)


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Row by row, as llama.cpp's rotary embedding pairs neighbours where transformers' pairs halves."""
    out = torch.empty_like(weight)
    size = weight.shape[0] // heads
    for head in range(heads):
        for half in range(2):
            for place in range(size // 2):
                out[head * size + 2 * place + half] = weight[head * size + half * (size // 2) + place]
    return out


def test_what_gguf_cannot_carry_is_refused_by_name(nursery: Nursery, tmp_path: Path) -> None:
    adapter = loud_adapter(nursery.soil.base, 3)
    base = GgufBase("llama", 2, 4, 2)
    path, pair = next(iter(adapter.pairs.items()))
    long = replace(pair, magnitude=torch.ones(pair.b.shape[0]))
    other_scale = Pair(pair.a, pair.b, pair.scaling * 2)
    for changed, family, words in (
        (Adapter(adapter.config, {**adapter.pairs, path: long}), base, "DoRA's magnitudes"),
        (Adapter(adapter.config, {**adapter.pairs, path: other_scale}), base, "not one alpha"),
        (adapter, replace(base, model_type="gpt2"), "the family 'gpt2'"),
    ):
        with pytest.raises(AdapterError, match=words):
            write_gguf(changed, family, tmp_path / "out.gguf", facts={})
    assert not (tmp_path / "out.gguf").exists()


def test_a_cut_to_plain_lora_says_what_it_costs(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    same = export_release(nursery.store, row, tmp_path / "same", Wish("peft", max_rank=8), report=silent).converted
    cut = export_release(nursery.store, row, tmp_path / "cut", Wish("peft", max_rank=1), report=silent).converted
    assert same is not None
    assert cut is not None
    assert (same.most_lost, same.divergence.other_choice) == (0.0, 0.0)
    assert same.divergence.mean_kl < 1e-6 < cut.divergence.mean_kl
    assert 0 < cut.most_lost < 1
    assert json.loads((tmp_path / "cut" / "adapter_config.json").read_bytes())["r"] == 1
    assert json.loads((tmp_path / "cut" / "budwood.json").read_bytes())["converted"]["rank"] == 1
