"""Linear4bit against plain autograd on the expanded weight, and whole models in 4 bits."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.pytorch_utils import Conv1D

from budwood.engine.quant import Linear4bit, Workspace, dequantize, quantize, quantize_linears
from budwood.errors import BaseError


def tiny(family: str, **fields: Any) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=61, bos_token_id=1, eos_token_id=2, pad_token_id=0, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)  # type: ignore[no-untyped-call]
    assert isinstance(model, nn.Module)
    return model.eval().requires_grad_(False)


LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
MOE = {
    **LLAMA,
    "num_key_value_heads": 4,
    "num_experts": 4,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
    "decoder_sparse_step": 1,
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_equal_plain_autograd_on_the_expanded_weight(transposed: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    quantized = quantize(torch.randn((24, 40) if transposed else (40, 24)))
    bias = torch.randn(40).to(dtype)
    layer = Linear4bit(quantized, bias=bias, workspace=Workspace(), transposed=transposed)
    weight = dequantize(quantized, dtype)
    weight = weight.T if transposed else weight
    x = torch.randn(2, 3, 24).to(dtype).requires_grad_()
    plain = x.detach().clone().requires_grad_()
    upstream = torch.randn(2, 3, 40).to(dtype)
    y, wanted = layer(x), torch.nn.functional.linear(plain, weight, bias)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    (exact,) = torch.autograd.grad(wanted, plain, upstream)
    # The same product in the same dtype; addmm may sum in another order than linear.
    rtol, atol = (1e-6, 1e-5) if dtype == torch.float32 else (1e-2, 1e-1)
    assert torch.allclose(y, wanted, rtol=rtol, atol=atol)
    assert torch.allclose(gradient, exact, rtol=rtol, atol=atol)
    assert y.shape == (2, 3, 40)


def test_layers_share_one_buffer_and_gradients_survive_that() -> None:
    torch.manual_seed(0)
    workspace = Workspace()
    quantized = [quantize(torch.randn(24, 24)) for _ in range(3)]
    layers = nn.Sequential(*[Linear4bit(weight, bias=None, workspace=workspace) for weight in quantized])
    x = torch.randn(5, 24, requires_grad=True)
    (gradient,) = torch.autograd.grad(layers(x).square().sum(), x)
    exact = x.detach().double().requires_grad_()
    y: Tensor = exact
    for weight in quantized:
        y = y @ dequantize(weight, torch.float32).double().T
    (wanted,) = torch.autograd.grad(y.square().sum(), exact)
    assert torch.allclose(gradient.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert workspace.size_bytes == 24 * 24 * 4


def test_no_float_copy_of_a_weight_lives_after_the_forward_pass() -> None:
    workspace = Workspace()
    layers = nn.Sequential(*[Linear4bit(quantize(torch.randn(64, 64)), bias=None, workspace=workspace) for _ in range(4)])
    x = torch.randn(2, 64, requires_grad=True)
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layers(x)
    gc.collect()
    tensors = [item for item in gc.get_objects() if type(item) is Tensor]
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.shape == (64, 64)]
    assert floats == []
    assert saved == []
    assert y.requires_grad
    assert workspace.size_bytes == 64 * 64 * 4


def test_bias_and_bytes_get_no_gradient() -> None:
    layer = Linear4bit(quantize(torch.randn(8, 8)), bias=torch.ones(8), workspace=Workspace())
    x = torch.randn(2, 8, requires_grad=True)
    torch.autograd.backward(layer(x).sum())
    assert layer.bias is not None
    assert layer.bias.grad is None
    assert all(not buffer.requires_grad for buffer in layer.buffers())
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


@pytest.mark.parametrize(("family", "fields"), [("llama", LLAMA), ("gpt2", GPT2), ("qwen2_moe", MOE)])
def test_a_model_in_4_bits_is_the_model_with_expanded_weights(family: str, fields: dict[str, Any]) -> None:
    model, plain = tiny(family, **fields), tiny(family, **fields)
    summary = quantize_linears(model)
    with torch.no_grad():
        for path in summary.layers:
            inner = plain.get_submodule(path)
            assert isinstance(inner, nn.Linear | Conv1D)
            weight = inner.weight
            assert isinstance(weight, Tensor)
            weight.copy_(dequantize(quantize(weight), torch.float32))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-5)
    left = [path for path, module in model.named_modules() if type(module) in (nn.Linear, Conv1D)]
    assert all(path == "lm_head" or path.endswith("shared_expert_gate") for path in left)
    assert summary.bytes_after < 0.15 * summary.bytes_before  # 4.127 of 32 bits
    assert summary.parameters * 4 == summary.bytes_before


def test_named_layers_are_left_and_refusals_name_the_layer() -> None:
    model = tiny("llama", **LLAMA)
    summary = quantize_linears(model, skip=("o_proj", "layers.0.mlp.up_proj"))
    assert not any(path.endswith("o_proj") for path in summary.layers)
    assert "model.layers.0.mlp.up_proj" not in summary.layers
    assert "model.layers.1.mlp.up_proj" in summary.layers
    with pytest.raises(BaseError, match="no linear layer to quantise"):
        quantize_linears(nn.Embedding(3, 4))
    broken = tiny("llama", **LLAMA)
    with torch.no_grad():
        broken.get_submodule("model.layers.1.mlp.up_proj").weight[0, 0] = float("nan")  # type: ignore[operator]
    with pytest.raises(BaseError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has 1 values"):
        quantize_linears(broken)


def test_a_workspace_first_used_in_inference_trains_later() -> None:
    layer = Linear4bit(quantize(torch.randn(8, 16)), bias=None, workspace=Workspace())
    x = torch.randn(2, 16)
    with torch.inference_mode():
        before = layer(x)
    y = layer(x.requires_grad_())
    torch.autograd.backward(y.sum())
    assert torch.equal(before, y)
