"""A base and a machine in round numbers, for tables computed by hand."""

from pathlib import Path

import pytest

from budwood.plan.lengths import Lengths
from budwood.plan.machine import Machine
from budwood.plan.shape import BaseShape
from budwood.recipe import Recipe, recipe_from_mapping


@pytest.fixture
def shape() -> BaseShape:
    """Two layers with two linears each: 2 · (4·10 + 10·4) · 1e6 = 160 M linear parameters of 200 M."""
    linears = {}
    for layer in range(2):
        linears[f"model.layers.{layer}.self_attn.q_proj"] = (4_000, 10_000)
        linears[f"model.layers.{layer}.mlp.up_proj"] = (10_000, 4_000)
    return BaseShape(
        model_type="llama",
        parameters=200_000_000,
        linears=linears,
        expert_parameters=0,
        expert_share=1.0,
        layers=2,
        hidden=1_000,
        query=1_000,
        key=500,
        ffn=4_000,
        vocab=10_000,
        context=4_096,
    )


@pytest.fixture
def machine() -> Machine:
    return Machine(
        device="cpu",
        name="CPU",
        cores=2,
        memory_bytes=10_000_000_000,
        free_bytes=8_000_000_000,
        matmul={"float32": 1e11, "bfloat16": 4e11},
        dequantized_per_s=1e8,
    )


@pytest.fixture
def lengths() -> Lengths:
    """100 rows of 100 tokens, a tenth supervised."""
    return Lengths.of([100] * 100, supervised_tokens=1_000, validation_tokens=2_000)


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from_mapping({"name": "plan", "source": [{"path": "rows.jsonl"}]}, folder=Path("."))
