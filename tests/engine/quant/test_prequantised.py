"""Bases that are stored in bitsandbytes' 4 bits: theirs load here, ours load there, and nothing is quantised twice."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.tiny import CASES, Case, byte_tokenizer, save_tiny
from torch import Tensor

from budwood.engine.attention import register_attention
from budwood.engine.base import Quantization, hidden_states, identify_base, load_base, logits, resolve_base
from budwood.engine.packed import Encoded, pack
from budwood.engine.quant import Linear4bit
from budwood.engine.quant.bnb_files import save_bnb_model
from budwood.errors import BaseError

pytest.importorskip("bitsandbytes", reason="the second witness")
register = pytest.fixture(autouse=True)(register_attention)
IDS = (3, 4, 5, 6, 7, 8)
# Rows of whole blocks: bitsandbytes' own way back is wrong for others on some processors.
WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2}
CHOSEN = [
    Case("llama", "llama", WIDE),
    Case("llama tied", "llama", WIDE | {"tie_word_embeddings": True}),
    Case("qwen2", "qwen2", WIDE),
]


def ours(folder: Path) -> Tensor:
    base = load_base(resolve_base(str(folder)), quantization="nf4")
    with torch.no_grad():
        return logits(base.model, hidden_states(base.model, pack([Encoded(IDS, (False,) * len(IDS))])))


def in_transformers(folder: Path, **how: Any) -> Any:
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load.from_pretrained(folder, dtype=torch.float32, **how)


def theirs(model: Any) -> Tensor:
    # In training their product is the plain one on expanded weights; in eval mode a CPU kernel of theirs keeps fewer bits.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = model.train()(torch.tensor([IDS])).logits[0]
    return found.detach()


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_their_checkpoint_loads_here_with_the_same_bytes(case: Case, tmp_path: Path) -> None:
    from transformers import BitsAndBytesConfig

    save_tiny(tmp_path / "base", case)
    make: Any = BitsAndBytesConfig  # has no annotations
    how = make(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
    )
    model = in_transformers(tmp_path / "base", quantization_config=how)
    model.save_pretrained(tmp_path / "packed")
    byte_tokenizer().save_pretrained(tmp_path / "packed")
    torch.testing.assert_close(ours(tmp_path / "packed"), theirs(model), rtol=1e-4, atol=1e-4)
    plain, packed = (identify_base(resolve_base(str(tmp_path / name))) for name in ("base", "packed"))
    assert packed.parameters == sum(tensor.numel() for tensor in in_transformers(tmp_path / "base").parameters())
    assert packed.weights_digest != plain.weights_digest
    again = load_base(resolve_base(str(tmp_path / "base")), quantization="nf4").model
    for name, module in load_base(resolve_base(str(tmp_path / "packed")), quantization="nf4").model.named_modules():
        if isinstance(module, Linear4bit):
            mine = again.get_submodule(name)
            assert torch.equal(module.packed, mine.packed)  # type: ignore[arg-type]  # a Linear4bit, too
            assert torch.equal(module.absmax, mine.absmax)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_ours_loads_there_and_here_again(case: Case, tmp_path: Path) -> None:
    save_tiny(tmp_path / "base", case)
    base = load_base(resolve_base(str(tmp_path / "base")), quantization="nf4")
    save_bnb_model(base.model, tmp_path / "packed")
    byte_tokenizer().save_pretrained(tmp_path / "packed")
    wanted = ours(tmp_path / "base")
    assert torch.equal(ours(tmp_path / "packed"), wanted)
    torch.testing.assert_close(theirs(in_transformers(tmp_path / "packed")), wanted, rtol=1e-4, atol=1e-4)


def test_it_is_had_in_four_bits_alone(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base", CHOSEN[0])
    save_bnb_model(load_base(resolve_base(str(tmp_path / "base")), quantization="nf4").model, tmp_path / "packed")
    byte_tokenizer().save_pretrained(tmp_path / "packed")
    forms: tuple[Quantization, ...] = ("none", "int8")
    for form in forms:
        with pytest.raises(BaseError, match=f"stored in 4 bits \\(NF4\\) and cannot be had as '{form}'"):
            load_base(resolve_base(str(tmp_path / "packed")), quantization=form)


def test_damage_is_named(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base", CHOSEN[0])
    folder = tmp_path / "packed"
    save_bnb_model(load_base(resolve_base(str(tmp_path / "base")), quantization="nf4").model, folder)
    byte_tokenizer().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    path = "model.layers.0.mlp.up_proj.weight"
    for change, message in (
        ({f"{path}.absmax": None}, "it has the parts"),
        ({"model.norm.weight": None}, "tensors are missing"),
        ({"model.extra": torch.ones(2)}, "1 tensors do not belong, first model.extra"),
        ({path: tensors[path][:-4]}, "its weight is"),
    ):
        changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BaseError, match=message):
            load_base(resolve_base(str(folder)), quantization="nf4")


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "bitsandbytes fp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
    ],
)
def test_other_forms_are_refused_by_name(told: dict[str, Any], named: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, CASES[0])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": told}))
    with pytest.raises(BaseError, match=named):
        identify_base(resolve_base(str(tmp_path)))
