"""The second witness: bitsandbytes' CPU path gives the same bytes, and files pass both ways."""

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from budwood.engine.quant import Linear4bit, Workspace, dequantize, dequantize8, quantize, quantize8
from budwood.engine.quant.bnb_files import bnb_tensors, read_bnb
from budwood.engine.quant.nf4 import CODE
from budwood.errors import BaseError

bnb: Any = pytest.importorskip("bitsandbytes", reason="the second witness for NF4")

KINDS = ("gaussian", "zeros", "constant", "half zeros", "outliers")


def weight_of(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    torch.manual_seed(0)
    weight = torch.randn(shape) * 0.05
    if kind == "zeros":
        weight.zero_()
    elif kind == "constant":
        weight.fill_(0.3)
    elif kind == "half zeros":
        weight.view(-1)[: weight.numel() // 2] = 0
    elif kind == "outliers":
        weight.view(-1)[::97] *= 1000
    return weight.to(dtype)


def theirs(weight: Tensor, *, double: bool) -> tuple[Tensor, Any]:
    """Quantise with one thread: their offset depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)
    finally:
        torch.set_num_threads(before)
    return packed, state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 128), (3, 7), (1, 1), (5, 13), (63, 65), (64, 257), (130, 126)])
@pytest.mark.parametrize("double", [False, True])
def test_the_same_bytes(kind: str, shape: tuple[int, ...], double: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = weight_of(kind, shape, dtype)
        packed, state = theirs(weight, double=double)
        ours = quantize(weight, double=double)
        assert torch.equal(packed.reshape(-1), ours.packed)
        assert torch.equal(state.absmax, ours.absmax)
        if double:
            assert ours.nested is not None
            assert torch.equal(state.offset, ours.nested.offset)
            assert torch.equal(state.state2.absmax, ours.nested.absmax)


def test_a_ragged_tail_is_divided_and_a_whole_block_multiplied() -> None:
    """The two differ in one nibble of ten million, so such a pair of numbers is looked for first."""
    torch.manual_seed(0)
    code = torch.tensor(CODE)
    largest = torch.rand(200_000) + 0.5
    value = largest * ((code[8] + code[9]) / 2)
    value = torch.cat([value, torch.nextafter(value, largest), torch.nextafter(value, torch.zeros(1))])
    largest = largest.repeat(3)
    divided, multiplied = value / largest, value * (1.0 / largest)
    threshold = (code[8] + code[9]) / 2
    which = int(((divided > threshold) != (multiplied > threshold)).nonzero()[0])
    for size, scaled in ((3, divided), (64, multiplied)):
        weight = torch.zeros(size)
        weight[0], weight[1] = value[which], largest[which]
        ours = quantize(weight, double=False)
        assert int(ours.packed[0] >> 4) == (9 if scaled[which] > threshold else 8)
        assert torch.equal(theirs(weight, double=False)[0].reshape(-1), ours.packed)


@pytest.mark.parametrize("threads", [1, 4])
def test_the_same_bytes_above_32768_blocks_whatever_the_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.manual_seed(3)
    weight = torch.randn(1024, 2100)  # 33,600 blocks
    packed, state = theirs(weight, double=True)
    torch.set_num_threads(threads)
    try:
        ours = quantize(weight)
    finally:
        torch.set_num_threads(before)
    assert ours.nested is not None
    assert torch.equal(packed.reshape(-1), ours.packed)
    assert torch.equal(state.absmax, ours.absmax)
    assert torch.equal(state.offset, ours.nested.offset)
    assert torch.equal(state.state2.absmax, ours.nested.absmax)


# Not with rows of 16 but not 64 elements, such as 96: there their AVX-512 kernel (0.50.2) takes the scale of the row's own
# blocks although blocks run across rows, and is far off the weight that it quantised. The next test shows that we are not.
@pytest.mark.parametrize("shape", [(64, 128), (6, 18), (130, 126), (20, 40)])
@pytest.mark.parametrize("double", [False, True])
def test_the_same_bits_on_the_way_back(shape: tuple[int, ...], double: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = weight_of("gaussian", shape, dtype)
        packed, state = theirs(weight, double=double)
        back = bnb.functional.dequantize_4bit(packed, state)
        ours = dequantize(quantize(weight, double=double), dtype)
        assert torch.equal(back.view(torch.uint8), ours.view(torch.uint8))


@pytest.mark.parametrize("shape", [(40, 96), (40, 48)])
def test_rows_that_end_inside_a_block(shape: tuple[int, ...]) -> None:
    weight = weight_of("gaussian", shape, torch.float32)
    packed, state = theirs(weight, double=False)
    state.shape = torch.Size((1, weight.numel()))  # as one row their kernel is right too
    back = bnb.functional.dequantize_4bit(packed, state).reshape(shape)
    assert torch.equal(back, dequantize(quantize(weight, double=False), torch.float32))
    assert float((back - weight).abs().max()) < 0.16 * float(weight.abs().max())  # half the widest step between two levels


def their_layer(*, double: bool) -> Any:
    torch.manual_seed(5)
    layer = bnb.nn.Linear4bit(128, 40, quant_type="nf4", compress_statistics=double, compute_dtype=torch.float32)
    return layer.to("cpu")  # quantises


@pytest.mark.parametrize("double", [False, True])
def test_their_file_is_read_and_ours_is_the_same_tensors(double: bool) -> None:
    layer = their_layer(double=double)
    state = {f"model.q.{name}": tensor for name, tensor in layer.state_dict().items()}
    ours = read_bnb("model.q", load(save(state)), workspace=Workspace())
    x = torch.randn(3, 128)
    with torch.no_grad():
        assert torch.allclose(ours(x), torch.nn.functional.linear(x, bnb.functional.dequantize_4bit(
            layer.weight.data, layer.weight.quant_state), layer.bias), rtol=1e-6, atol=1e-6)  # fmt: skip
    written = bnb_tensors("model.q", ours)
    assert written.keys() == state.keys()
    for name, tensor in state.items():
        assert written[name].dtype == tensor.dtype
        assert torch.equal(written[name], tensor), name


def test_our_file_is_read_by_them() -> None:
    torch.manual_seed(6)
    weight = torch.randn(40, 128).to(torch.bfloat16)
    layer = Linear4bit(quantize(weight), bias=None, workspace=Workspace())
    tensors = load(save(bnb_tensors("q", layer)))
    stats = {name.removeprefix("q.weight."): tensor for name, tensor in tensors.items() if name != "q.weight"}
    loaded = bnb.nn.Params4bit.from_prequantized(data=tensors["q.weight"], quantized_stats=stats, device="cpu")
    back = bnb.functional.dequantize_4bit(loaded.data, loaded.quant_state)
    assert torch.equal(back, dequantize(layer.quantized, torch.bfloat16))


def damaged(**changes: Any) -> dict[str, Tensor]:
    torch.manual_seed(6)
    tensors = bnb_tensors("q", Linear4bit(quantize(torch.randn(40, 96)), bias=None, workspace=Workspace()))
    for name, change in changes.items():
        key = name.replace("__", ".") if not name.startswith("state_") else "q.weight.quant_state.bitsandbytes__nf4"
        if name.startswith("state_"):
            text = bytes(tensors[key].tolist()).decode().replace(*change)
            tensors[key] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        elif change is None:
            del tensors[key]
        else:
            tensors[key] = change
    return tensors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q__weight__absmax": None}, "it has the parts nested_absmax, nested_quant_map, quant_map, not weight, absmax, "),
        ({"q__weight__extra": torch.ones(1)}, "it has the parts absmax, extra, "),
        ({"q__weight__quant_map": torch.ones(16)}, "its quant_map is not the table of NF4"),
        ({"q__weight__nested_quant_map": torch.ones(256)}, "its nested_quant_map is not the table"),
        ({"q__weight": torch.ones(3, 1, dtype=torch.uint8)}, r"its weight is torch.uint8 \(3,\), not torch.uint8 \(1920,\)"),
        ({"q__weight__nested_absmax": torch.tensor([float("nan")])}, "its nested_absmax has NaN"),
        ({"state_type": ('"nf4"', '"fp4"')}, "its quant_type is 'fp4', not 'nf4'"),
        ({"state_block": ('"blocksize": 64', '"blocksize": 128')}, "its blocksize is 128, not 64"),
        ({"state_dtype": ('"dtype": "float32"', '"dtype": "int8"')}, "its dtype is 'int8'"),
        ({"state_shape": ("[40, 96]", "[40, -96]")}, r"its shape is \[40, -96\]"),
        ({"state_json": ("{", "(")}, "is not JSON"),
        ({"state_offset": ('"nested_offset": ', '"nested_offset": "x", "y": ')}, "its nested_offset is 'x'"),
    ],
)
def test_damaged_files_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BaseError, match=message):
        read_bnb("q", damaged(**changes), workspace=Workspace())


def test_a_layer_that_is_not_there_and_one_that_they_cannot_hold() -> None:
    with pytest.raises(BaseError, match="4-bit layer v cannot be read: its quantisation state is missing"):
        read_bnb("v", damaged(), workspace=Workspace())
    layer = Linear4bit(quantize(torch.randn(40, 96)), bias=None, workspace=Workspace(), transposed=True)
    with pytest.raises(BaseError, match="c is a Conv1D"):
        bnb_tensors("c", layer)


@pytest.mark.parametrize("shape", [(64, 128), (3, 7), (1, 1), (130, 126)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_int8_by_rows_has_the_same_bytes_and_the_same_way_back(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = weight_of("outliers", shape, dtype)
    q, scale, _ = bnb.functional.int8_vectorwise_quant(weight.clone())
    ours = quantize8(weight)
    assert torch.equal(q, ours.q)
    assert torch.equal(scale, ours.scale)
    assert torch.equal(bnb.functional.int8_vectorwise_dequant(q, scale), dequantize8(ours, torch.float32))
