"""Names to layers, and fresh adapters."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from budwood.engine.lora import AdapterBank, LoraConfig, new_adapter, resolve_pattern, target_paths
from budwood.engine.lora.targets import layer_of, linear_shapes, short_targets
from budwood.errors import AdapterError

ModelOf = Callable[[str], nn.Module]

EXPECTED = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen2": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "gpt_neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "qwen2_moe": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
}


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_all_linear_is_every_linear_layer_but_head_routers_and_experts(model_of: ModelOf, family: str) -> None:
    model = model_of(family)
    paths = target_paths(model, "all-linear")
    assert {path.rsplit(".", 1)[-1] for path in paths} == EXPECTED[family]
    assert short_targets(linear_shapes(model), paths) == tuple(sorted(EXPECTED[family]))
    AdapterBank.attach(model)
    assert target_paths(model, "all-linear") == paths


def test_names_match_path_endings_and_whole_paths(llama: nn.Module) -> None:
    assert target_paths(llama, ["q_proj"]) == ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj")
    assert target_paths(llama, ["self_attn.q_proj", "model.layers.1.mlp.up_proj"]) == (
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    )
    one = ("model.layers.1.mlp.up_proj",)
    assert short_targets(linear_shapes(llama), one) == one


def test_unknown_names_are_all_named_with_the_nearest(llama: nn.Module) -> None:
    with pytest.raises(AdapterError) as caught:
        target_paths(llama, ["q_prj", "v_proj", "lm_head", "proj"])
    assert str(caught.value) == (
        'target_modules[0]: "q_prj" matches no linear layer of this base (nearest: q_proj, v_proj, o_proj). '
        'target_modules[2]: "lm_head" matches no linear layer of this base. '
        'target_modules[3]: "proj" matches no linear layer of this base (nearest: v_proj, q_proj, o_proj). '
        "In target_modules.\n"
        '    Correct the name, or write "all-linear". The output head, routers and experts are no targets.'
    )
    with pytest.raises(AdapterError, match="target_modules names no layer"):
        target_paths(llama, [])


def test_routers_are_no_targets(model_of: ModelOf) -> None:
    with pytest.raises(AdapterError, match="matches no linear layer"):
        target_paths(model_of("qwen2_moe"), ["shared_expert_gate"])


def test_a_rank_above_a_layers_side_is_refused_with_its_sizes(llama: nn.Module) -> None:
    with pytest.raises(AdapterError) as caught:
        new_adapter(llama, LoraConfig(rank=17, alpha=8, targets=("q_proj", "k_proj")), seed=0)
    assert str(caught.value) == (
        "Rank 17 is larger than a side of model.layers.0.self_attn.k_proj (32 in, 16 out) and 1 more. In rank.\n"
        "    Use a rank of at most 16, or leave such layers out of target_modules."
    )


def test_a_layers_start_depends_on_seed_and_path_alone(llama: nn.Module) -> None:
    both = new_adapter(llama, LoraConfig(4, 8, targets=("v_proj", "q_proj")), seed=3)
    turned = new_adapter(llama, LoraConfig(4, 8, targets=("q_proj", "v_proj")), seed=3)
    alone = new_adapter(llama, LoraConfig(4, 8, targets=("q_proj",)), seed=3)
    other = new_adapter(llama, LoraConfig(4, 8, targets=("q_proj",)), seed=4)
    assert both.config == turned.config
    for path in alone.pairs:
        assert torch.equal(both.pairs[path].a, alone.pairs[path].a)
        assert torch.equal(turned.pairs[path].a, alone.pairs[path].a)
        assert not torch.equal(other.pairs[path].a, alone.pairs[path].a)
    first, second = alone.pairs.values()
    assert not torch.equal(first.a, second.a)


def test_a_starts_uniform_within_one_over_root_d_in_and_b_at_zero(llama: nn.Module) -> None:
    adapter = new_adapter(llama, LoraConfig(16, 8, targets=("q_proj", "down_proj")), seed=0)
    for path, pair in adapter.pairs.items():
        d_in = 48 if path.endswith("down_proj") else 32
        assert pair.a.shape == (16, d_in)
        assert not pair.b.any()
        spread = pair.a * d_in**0.5
        assert 0.9 < float(spread.abs().max()) <= 1
        assert abs(float(spread.std()) - 3**-0.5) < 0.05  # uniform on ±1; 512 draws, five standard errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank is 0, not a whole number from 1 to 65536"),
        ({"rank": True}, "rank is True"),
        ({"alpha": float("inf")}, "alpha is inf, not a number above 0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0, outside 0 to 1"),
        ({"rank_pattern": {"q": 0}}, "rank is 0"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        LoraConfig(**{"rank": 4, "alpha": 8, **fields})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (r"regex:.*\.1\..*\.(q|v)_proj", ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj")),
        (["regex:.*up_proj", "o_proj"], None),
    ],
)
def test_an_expression_has_to_fit_a_whole_path(
    llama: nn.Module, wanted: str | list[str], paths: tuple[str, ...] | None
) -> None:
    found = target_paths(llama, wanted)
    if paths is None:
        paths = tuple(path for path in target_paths(llama, "all-linear") if path.endswith(("up_proj", "o_proj")))
    assert found == paths


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("regex:up_proj", "matches no linear layer"), ("regex:(q_proj", "is no regular expression: missing \\)")],
)
def test_expressions_that_mean_nothing_are_refused(llama: nn.Module, wanted: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        target_paths(llama, wanted)


@pytest.mark.parametrize(("layers", "kept"), [("1-", {1}), ("0", {0}), ("0-1", {0, 1}), ("0,1", {0, 1}), (" 1 - 1 ", {1})])
def test_a_range_of_layers(llama: nn.Module, layers: str, kept: set[int]) -> None:
    found = target_paths(llama, "all-linear", layers=layers)
    assert {layer_of(path) for path in found} == kept
    assert len(found) == 7 * len(kept)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("2-", r"layers = '2-' reaches beyond this base's 2 layers \(0 to 1\)"),
        ("0-7", "reaches beyond"),
        ("1-0", "'1-0' ends before it begins"),
        ("first", "'first' is no range of layers"),
        ("-1", "'-1' is no range of layers"),
        ("0,,1", "'' is no range of layers"),
    ],
)
def test_ranges_that_are_none_are_refused(llama: nn.Module, layers: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        target_paths(llama, "all-linear", layers=layers)
    assert caught.value.where == "[train] layers"


def test_a_pattern_gives_values_by_path(llama: nn.Module) -> None:
    paths = target_paths(llama, ["q_proj", "up_proj"])
    found = resolve_pattern("rank_pattern", {"up_proj": 8, r"regex:.*\.1\..*q_proj": 2}, paths)
    assert found == {
        "model.layers.0.mlp.up_proj": 8,
        "model.layers.1.mlp.up_proj": 8,
        "model.layers.1.self_attn.q_proj": 2,
    }
    with pytest.raises(AdapterError, match=r'"down_proj" matches no linear layer'):
        resolve_pattern("rank_pattern", {"down_proj": 8}, paths)
    with pytest.raises(AdapterError, match=r"rank_pattern has both 8 and 4 for model\.layers\.1\.mlp\.up_proj"):
        resolve_pattern("rank_pattern", {"up_proj": 8, r"regex:.*\.1\.mlp.*": 4}, paths)
