"""Each term against a figure computed by hand."""

from dataclasses import replace

import pytest

from budwood.plan.memory import Load, Method, memory_terms, peak, weight_bytes
from budwood.plan.shape import BaseShape

LOAD = Load(trainable=1_000_000, tokens=2_000, supervised=0.1, compute_bytes=4, keeps_best=True)


def expected(method: Method, shape: BaseShape, load: Load) -> dict[str, float]:
    return {term.name: term.bytes.expected for term in memory_terms(method, shape, load)}


def test_lora_terms(shape: BaseShape) -> None:
    assert expected("lora", shape, LOAD) == {
        "weights": 800e6,  # 4 · 200 M
        "optimiser": 20e6,  # (4 weights + 4 gradients + 8 moments + 4 best) · 1 M
        "activations": 4 * 2_000 * 2 * (12_000 + 3_000 + 500 + 12_000),
        "logits": 3 * 4 * 200 * 10_000,  # 200 supervised positions
        "buffers": 0,
        "runtime": 0.65e9,
    }


def test_qlora_holds_linears_in_four_bits_and_one_buffer(shape: BaseShape) -> None:
    terms = expected("qlora", shape, LOAD)
    assert terms["weights"] == pytest.approx(160e6 * 0.51586914 + 40e6 * 4, rel=1e-6)
    assert terms["buffers"] == 4 * 40e6


def test_eight_bits_hold_a_byte_a_weight_and_a_scale_a_row(shape: BaseShape) -> None:
    assert expected("qlora", shape, replace(LOAD, bits=8))["weights"] == 160e6 + 4 * 28_000 + 40e6 * 4


def test_full_holds_float32_weights_gradients_and_moments(shape: BaseShape) -> None:
    terms = expected("full", shape, replace(LOAD, trainable=200_000_000))
    assert terms["weights"] == 800e6
    assert terms["optimiser"] == 16 * 200e6
    assert terms["logits"] == 3 * 4 * 200 * 10_000 + 8 * 10_000 * 1_000


def test_bfloat16_halves_weights_and_activations(shape: BaseShape) -> None:
    wide, narrow = expected("lora", shape, LOAD), expected("lora", shape, replace(LOAD, compute_bytes=2))
    assert (narrow["weights"], narrow["activations"]) == (wide["weights"] / 2, wide["activations"] / 2)


def test_a_fused_layer_keeps_less(shape: BaseShape) -> None:
    half = replace(LOAD, compute_bytes=2)
    fused = expected("lora", shape, replace(half, fused=True))["activations"]
    assert fused == pytest.approx(1.08 * 2 * 2_000 * 2 * 2 * (1_000 + 1_000 + 500 + 4_000))
    assert fused < expected("lora", shape, half)["activations"]


def test_with_checkpointing_the_inputs_and_one_layer_are_kept(shape: BaseShape) -> None:
    layer = expected("lora", shape, LOAD)["activations"] / 2  # of two layers
    assert expected("lora", shape, replace(LOAD, checkpointing="layer"))["activations"] == 4 * 2_000 * 2 * 1_000 + layer


def test_logits_are_bounded_by_one_piece(shape: BaseShape) -> None:
    assert expected("lora", shape, replace(LOAD, supervised=1.0))["logits"] == 3 * 4 * 512 * 10_000


def test_bounds_are_ordered_and_add_up(shape: BaseShape) -> None:
    terms = memory_terms("lora", shape, LOAD)
    total = peak("lora", shape, LOAD, terms)
    assert total.expected == sum(term.bytes.expected for term in terms)
    assert total.low < total.expected < total.high


def test_loading_counts_where_it_is_the_peak(shape: BaseShape) -> None:
    few, shape = replace(LOAD, tokens=10), replace(shape, expert_parameters=1)
    terms = memory_terms("qlora", shape, few)
    assert sum(term.bytes.expected for term in terms) < 1.4e9
    assert peak("qlora", shape, few, terms).expected == 800e6 + 0.65e9
    dense = replace(shape, expert_parameters=0)  # quantised while it is read
    assert peak("qlora", dense, few, terms).expected == sum(term.bytes.expected for term in terms)


def test_the_published_figure_for_eight_billion_parameters(shape: BaseShape) -> None:
    # memory.md, worked: 6.98 B linear weights in NF4 with double quantisation 3.6 GB, 1.05 B others in 16 bits 2.1 GB.
    llama = replace(shape, parameters=8_030_000_000, linears={"one": (6_980_000, 1_000)})
    assert weight_bytes("qlora", llama, 2) / 1e9 == pytest.approx(3.6 + 2.1, abs=0.05)
