"""A base quantised while it is read is the base that is loaded first and quantised then, for every family, in less memory."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.tiny import CASES, Case, save_tiny
from torch import nn

from budwood.engine import base as loading
from budwood.engine.attention import NAME, register_attention
from budwood.engine.base import BaseRef, hidden_states, load_base, read_config, resolve_base
from budwood.engine.packed import Encoded, pack
from budwood.engine.quant import Form, Linear4bit, Linear8bit, QuantizedLinear
from budwood.engine.quant.stream import load_streamed
from budwood.engine.weights import read_tensors, weight_files
from budwood.errors import BaseError

register = pytest.fixture(autouse=True)(register_attention)
MIXTURES = ("mixtral", "qwen2_moe")


def streamed(folder: Path, form: Form = "nf4", dtype: torch.dtype = torch.float32) -> nn.Module | None:
    ref = resolve_base(str(folder))
    entries = read_tensors(weight_files(folder))
    return load_streamed(read_config(ref), entries, form, dtype=dtype, attention=NAME)


def whole(folder: Path, form: Form, dtype: torch.dtype) -> nn.Module:
    return loading._load_whole(resolve_base(str(folder)), dtype, form)


@pytest.mark.parametrize("form", ["nf4", "int8"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_tensors_and_the_same_numbers(case: Case, form: Form, tmp_path: Path) -> None:
    save_tiny(tmp_path, case, shard="20KB")
    model = streamed(tmp_path, form, torch.bfloat16)
    if case.model_type in MIXTURES:
        assert model is None  # their experts lie in the files one by one
        return
    assert model is not None
    wanted = whole(tmp_path, form, torch.bfloat16)
    ours, theirs = model.state_dict(), wanted.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in theirs)
    buffers = dict(wanted.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.named_buffers())
    batch = pack([Encoded((3, 4, 5, 6, 7), (False,) * 5), Encoded((8, 9), (False,) * 2)])
    with torch.no_grad():
        assert torch.equal(hidden_states(model.eval(), batch), hidden_states(wanted.eval(), batch))


@pytest.mark.parametrize("case", [CASES[0], CASES[13]], ids=lambda case: case.name)
def test_loading_takes_either_way(case: Case, tmp_path: Path) -> None:
    save_tiny(tmp_path, case)
    base = load_base(resolve_base(str(tmp_path)), quantization="int8")
    kinds = [module for module in base.model.modules() if isinstance(module, QuantizedLinear)]
    assert kinds
    assert all(isinstance(module, Linear8bit) for module in kinds)
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in base.model.parameters())
    assert not base.model.training


def test_tied_embeddings_stay_one_tensor(tmp_path: Path) -> None:
    save_tiny(tmp_path, CASES[1])
    model: Any = streamed(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_what_is_missing_or_left_over_is_named_as_ever(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for change, message in (
        ({"model.norm.weight": None}, "1 tensors are missing, first model.norm.weight"),
        ({"model.extra.weight": torch.zeros(2)}, "1 do not belong, first model.extra.weight"),
    ):
        changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
        save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
        assert streamed(tmp_path) is None
        with pytest.raises(BaseError, match=message):
            load_base(resolve_base(str(tmp_path)), quantization="nf4")


def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("inf")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has 1 values that are NaN or infinite"):
        load_base(resolve_base(str(tmp_path)), quantization="nf4")


def test_the_float_weights_are_not_kept(tmp_path: Path) -> None:
    """No two of them have numbers at once."""
    save_tiny(tmp_path)
    alive: list[int] = []
    made = Linear4bit.__init__

    def counting(layer: Linear4bit, *given: Any, **named: Any) -> None:
        made(layer, *given, **named)
        tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
        alive.append(sum(tensor.shape == (48, 32) and not tensor.is_meta for tensor in tensors))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Linear4bit, "__init__", counting)
        model = streamed(tmp_path)
    assert model is not None
    assert max(alive) <= min(alive) + 1


def test_an_index_of_several_files_is_streamed(tmp_path: Path) -> None:
    save_tiny(tmp_path, shard="20KB")
    assert len(weight_files(tmp_path)) > 1
    assert streamed(tmp_path) is not None
    assert isinstance(resolve_base(str(tmp_path)), BaseRef)
