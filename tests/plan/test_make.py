"""The plan as a whole: choice, learning rate, rank, warnings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from budwood.errors import AdapterError, BaseError
from budwood.plan.lengths import Lengths
from budwood.plan.machine import Machine
from budwood.plan.make import Plan, make_plan
from budwood.plan.shape import BaseShape
from budwood.recipe import Recipe, recipe_from_mapping


def recipe_with(**train: Any) -> Recipe:
    return recipe_from_mapping({"name": "plan", "source": [{"path": "rows.jsonl"}], "train": train}, folder=Path("."))


def peaks(plan: Plan) -> dict[str, float]:
    return {option.method: option.peak_bytes.expected for option in plan.options}


@pytest.mark.parametrize(
    ("memory", "method", "reason"),
    [
        (10e9, "lora", "LoRA: the base fits unquantised"),
        (2.8e9, "qlora", "QLoRA: the base fits only in 4 bits"),
        (0.5e9, "qlora", "QLoRA: nothing is expected to fit"),
    ],
)
def test_auto_takes_the_fastest_that_fits(
    shape: BaseShape, machine: Machine, lengths: Lengths, memory: float, method: str, reason: str
) -> None:
    # A small pass, so that the weights decide. Loading takes 2.25 GB with either method, LoRA's steps 2.5 GB.
    recipe = recipe_with(tokens_per_pass=512, tokens_per_step=512)
    heavy = replace(shape, parameters=400_000_000, linears={f"{i}.q_proj": (20_000, 1_000) for i in range(19)})
    plan = make_plan(recipe, heavy, lengths, replace(machine, memory_bytes=int(memory), free_bytes=int(memory)))
    assert plan.method == method, peaks(plan)
    assert plan.why[0].startswith(reason)
    assert len(plan.why) == 2
    assert f"of {memory / 1e9:.1f} GB" in plan.why[1]


def test_auto_takes_full_where_no_adapter_can_hold_the_data(shape: BaseShape, machine: Machine) -> None:
    # Rank 256 holds 256 · 56,000 = 14.3 M parameters, 28.7 M tokens at 2 bits a parameter.
    many = Lengths.of([100] * 400_000, supervised_tokens=30_000_000)
    plan = make_plan(recipe_with(), shape, many, machine)
    assert plan.method == "full"
    assert plan.rank_check is None
    small = make_plan(recipe_with(), shape, Lengths.of([100] * 400_000, supervised_tokens=28_000_000), machine)
    assert small.method == "lora"


def test_rows_of_tokens_are_an_adapter_s(shape: BaseShape, machine: Machine) -> None:
    many = Lengths.of([100] * 400_000, supervised_tokens=30_000_000)
    assert make_plan(recipe_with(token_rows=[7]), shape, many, machine).method == "lora"
    plain = make_plan(recipe_with(), shape, many, machine)
    for rows, count in (([3, 4], 2), ({"embed_tokens": [3, 4], "lm_head": [3]}, 3)):
        made = make_plan(recipe_with(token_rows=rows), shape, many, machine)
        found = [option.trainable - other.trainable for option, other in zip(made.options, plain.options, strict=True)]
        assert found == [count * shape.hidden, count * shape.hidden, 0]


def test_a_method_that_the_recipe_names_is_taken(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    plan = make_plan(recipe_with(method="full"), shape, lengths, replace(machine, memory_bytes=1_000_000_000))
    assert plan.method == "full"
    assert plan.why[0].startswith("Method full, as the recipe says. It is not expected to fit.")


def test_what_fits_leaves_fifteen_percent_free(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    recipe = recipe_with(checkpointing="none")
    need = peaks(make_plan(recipe, shape, lengths, machine))["lora"]
    for memory, fits in ((need / 0.85 + 10, True), (need / 0.85 - 10, False)):
        plan = make_plan(recipe, shape, lengths, replace(machine, memory_bytes=int(memory)))
        assert plan.options[0].fits is fits


def test_auto_keeps_everything_unless_only_the_layers_inputs_fit(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    whole = make_plan(recipe_with(method="lora", checkpointing="none"), shape, lengths, machine).chosen
    inputs = make_plan(recipe_with(method="lora", checkpointing="layer"), shape, lengths, machine).chosen
    assert inputs.peak_bytes.expected < whole.peak_bytes.expected
    assert inputs.seconds is not None
    assert whole.seconds is not None
    assert 1.2 < inputs.seconds / whole.seconds < 1.5
    for memory, kept in ((whole.peak_bytes.expected, "none"), (inputs.peak_bytes.expected, "layer"), (1e8, "layer")):
        small = replace(machine, memory_bytes=int(memory / 0.85) + 10)
        plan = make_plan(recipe_with(method="lora"), shape, lengths, small)
        assert plan.chosen.checkpointing == kept
        assert ('checkpointing = "layer"' in plan.why[0]) is (kept == "layer")


def test_learning_rates_and_their_source(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    small = replace(shape, parameters=7_000_000)
    large = replace(shape, hidden=8_000)
    for base, method, rate in ((small, "lora", 4e-3), (small, "full", 4e-4), (large, "lora", 1e-4), (large, "full", 1e-5)):
        plan = make_plan(recipe_with(method=method), base, lengths, machine)
        assert plan.learning_rate == pytest.approx(rate)
        assert plan.learning_rate_source
    given = make_plan(recipe_with(learning_rate=7e-4), shape, lengths, machine)
    assert (given.learning_rate, given.learning_rate_source) == (7e-4, "the recipe")


def test_rank_is_checked_against_the_data(shape: BaseShape, machine: Machine, recipe: Recipe) -> None:
    # One rank adds 2 · (14,000 + 14,000) = 56,000 parameters: 112,000 tokens.
    many = Lengths.of([100] * 40_000, supervised_tokens=2_000_000)
    plan = make_plan(recipe, shape, many, machine)
    assert plan.rank_check is not None
    assert (plan.rank_check.needed_parameters, plan.rank_check.needed_rank) == (1_000_000, 18)
    assert not plan.rank_check.enough
    assert any("ask for rank 18; the recipe has 16" in warning for warning in plan.warnings)
    assert plan.adapter_scale == 2.0
    assert make_plan(recipe_with(rslora=True), shape, many, machine).adapter_scale == 8.0


def test_ordinary_settings_raise_no_warning(shape: BaseShape, machine: Machine) -> None:
    assert make_plan(recipe_with(), shape, Lengths.of([200] * 100, supervised_tokens=1_000), machine).warnings == ()


@pytest.mark.parametrize(
    ("train", "rows", "part"),
    [
        ({"epochs": 4.0}, [200] * 100, "4 epochs: above 3"),
        ({}, [100] * 100, "About 41 rows a step"),
        ({"target_modules": ["q_proj"]}, [200] * 100, "Only attention layers"),
        ({"tokens_per_pass": 128, "tokens_per_step": 512}, [200] * 100, "The longest row has 200 tokens"),
    ],
)
def test_warnings(shape: BaseShape, machine: Machine, train: dict[str, Any], rows: list[int], part: str) -> None:
    plan = make_plan(recipe_with(**train), shape, Lengths.of(rows, supervised_tokens=100), machine)
    assert any(part in warning for warning in plan.warnings), plan.warnings


def test_little_free_memory_is_a_warning_and_no_other_choice(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    plan = make_plan(recipe_with(), shape, lengths, replace(machine, free_bytes=100_000_000))
    assert plan.method == "lora"
    assert plan.warnings[-1].startswith("0.1 GB are free now")


def test_before_the_rows_are_known_there_is_no_time(shape: BaseShape, machine: Machine, recipe: Recipe) -> None:
    plan = make_plan(recipe, shape, None, machine)
    assert plan.rank_check is None
    assert plan.steps is None
    assert all(option.seconds is None for option in plan.options)


def test_a_plan_is_json(shape: BaseShape, machine: Machine, lengths: Lengths, recipe: Recipe) -> None:
    value = json.loads(make_plan(recipe, shape, lengths, machine).to_json())
    assert [option["method"] for option in value["options"]] == ["lora", "qlora", "full"]
    assert value["steps"] == round(2 * 10_000 / 4_096)


def test_targets_that_the_base_does_not_have_are_refused(shape: BaseShape, machine: Machine) -> None:
    with pytest.raises(AdapterError, match="q_prj"):
        make_plan(recipe_with(target_modules=["q_prj"]), shape, None, machine)


@pytest.mark.parametrize(
    ("train", "where"),
    [({"rank": 4_001}, "[train] rank"), ({"target_modules": ["q_prj"]}, "[train] target_modules")],
)
def test_what_does_not_fit_the_base_is_told_with_its_key(
    shape: BaseShape, machine: Machine, train: dict[str, Any], where: str
) -> None:
    with pytest.raises(AdapterError) as caught:
        make_plan(recipe_with(**train), shape, None, machine)
    assert caught.value.where == where


def test_a_base_stored_in_four_bits_is_trained_on_in_four_bits(shape: BaseShape, machine: Machine, lengths: Lengths) -> None:
    stored = replace(shape, four_bits=True)
    assert make_plan(recipe_with(), stored, lengths, machine).method == "qlora"
    for train in ({"method": "lora"}, {"method": "full"}, {"method": "qlora", "bits": 8}):
        with pytest.raises(BaseError, match="stored in 4 bits"):
            make_plan(recipe_with(**train), stored, lengths, machine)
