"""NF4 against its own definition: tables, corners, refusals. bitsandbytes is in the file beside."""

import hashlib

import pytest
import torch
from torch import Tensor

from budwood.engine.quant import Quantized, Workspace, dequantize, quantize
from budwood.engine.quant.nf4 import block_scales, code_table, dynamic_map, one_thread_mean
from budwood.errors import BaseError

CPU = torch.device("cpu")


def sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def test_the_tables_are_those_of_the_paper_and_of_bitsandbytes() -> None:
    assert sha256(code_table(CPU)) == "8501941daa1b8a90ad1bbfeb632e5101b5dddbc4bb52d6e55abcfd777e60c06a"
    assert sha256(dynamic_map(CPU)) == "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c"


def test_each_value_goes_to_the_nearest_level_and_a_tie_down() -> None:
    code = code_table(CPU)
    middles = (code[:-1] + code[1:]) / 2
    above = torch.nextafter(middles, torch.ones(15))
    weight = torch.cat([torch.tensor([-1.0, 1.0]), middles, above, code, torch.zeros(16)])  # absmax 1: nothing is rescaled
    assert weight.numel() == 64
    found = dequantize(quantize(weight, double=False), torch.float32)
    wanted = torch.cat([torch.tensor([-1.0, 1.0]), code[:-1], code[1:], code, torch.zeros(16)])
    assert torch.equal(found, wanted)


def test_every_value_near_a_threshold_or_a_bins_edge_is_put_where_bucketize_puts_it() -> None:
    torch.manual_seed(0)
    code = code_table(CPU)
    thresholds = (code[:-1] + code[1:]) / 2
    marks = torch.cat([thresholds, torch.arange(-128, 129) / 128])
    up, down = torch.full_like(marks, 2), torch.full_like(marks, -2)
    close = torch.cat([marks, torch.nextafter(marks, up), torch.nextafter(marks, down), torch.rand(200_000) * 2 - 1])
    ones = torch.ones(close.numel())  # absmax of every block is 1, so that nothing is rescaled
    blocks = torch.stack([close.clamp(-1, 1), ones], dim=1).reshape(-1)
    wanted = torch.bucketize(close.clamp(-1, 1), thresholds)
    packed = quantize(blocks, double=False).packed
    assert torch.equal((packed >> 4).long(), wanted)


def test_the_even_element_is_in_the_high_nibble_and_an_odd_end_is_filled_with_seven() -> None:
    quantized = quantize(torch.tensor([-1.0, 1.0, 1.0]), double=False)
    assert quantized.packed.tolist() == [0x0F, 0xF7]


def test_zero_blocks() -> None:
    quantized = quantize(torch.zeros(70), double=False)
    assert set(quantized.packed.tolist()) == {0x77}
    assert quantized.absmax[0] == 0  # a full block
    assert quantized.absmax[1] == torch.tensor(1e-38)  # the ragged tail keeps the floor
    for double in (False, True):
        assert not dequantize(quantize(torch.zeros(64, 64), double=double), torch.float32).any()


def test_the_error_on_a_gaussian_is_that_of_nf4() -> None:
    torch.manual_seed(0)
    weight = torch.randn(512, 512)
    for double in (False, True):
        error = dequantize(quantize(weight, double=double), torch.float32) - weight
        assert 0.090 < float(error.std()) < 0.094  # 9.2 % of the standard deviation; FP4 would give 12.2 %


def test_double_quantisation_takes_4_127_bits() -> None:
    quantized = quantize(torch.randn(1024, 1024))
    assert quantized.size_bytes * 8 / 1024**2 == pytest.approx(4.127, abs=1e-3)


@pytest.mark.parametrize("shape", [(64, 128), (3, 7), (1, 1), (63, 65), (5, 13), (64, 257), (300, 1000)])
@pytest.mark.parametrize("double", [False, True])
def test_the_fast_way_back_has_the_bits_of_the_reference(shape: tuple[int, ...], double: bool) -> None:
    torch.manual_seed(0)
    workspace = Workspace()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        quantized = quantize(torch.randn(shape).to(dtype), double=double)
        assert torch.equal(bits(workspace.weight(quantized, dtype)), bits(dequantize(quantized, dtype)))


def test_a_stale_longer_weight_in_the_buffer_does_not_show() -> None:
    workspace = Workspace()
    workspace.weight(quantize(torch.full((64, 64), 5.0)), torch.float32)
    small = quantize(torch.randn(5, 13))
    assert torch.equal(workspace.weight(small, torch.float32), dequantize(small, torch.float32))


def test_the_offset_does_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    try:
        for size in (1, 100, 32_768, 32_769, 262_144, 917_504):
            values = torch.rand(size)
            torch.set_num_threads(1)
            plain = values.mean()
            for threads in (1, 2, 4):
                torch.set_num_threads(threads)
                assert torch.equal(one_thread_mean(values), plain)
    finally:
        torch.set_num_threads(before)


def test_scales_of_an_unnested_weight_are_the_largest_magnitudes() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 64)
    assert torch.equal(block_scales(quantize(weight, double=False)), weight.abs().amax(dim=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    weight = torch.randn(8, 16)
    weight[3, 4] = value
    with pytest.raises(BaseError) as caught:
        quantize(weight, name="layers.0.q_proj.weight")
    assert str(caught.value) == (
        "layers.0.q_proj.weight has 1 values that are NaN or infinite.\n    The base is damaged: fetch it again."
    )


@pytest.mark.parametrize(
    "weight", [torch.zeros(0, 4), torch.zeros(4, 4, dtype=torch.int8), torch.zeros(4, dtype=torch.float64)]
)
def test_other_tensors_are_refused(weight: Tensor) -> None:
    with pytest.raises(BaseError, match="weight cannot be quantised"):
        quantize(weight)


def test_the_input_is_not_changed() -> None:
    weight = torch.randn(8, 16)
    copy = weight.clone()
    assert isinstance(quantize(weight), Quantized)
    assert torch.equal(weight, copy)
