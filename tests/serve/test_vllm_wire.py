"""What is said to vLLM, what is understood of its answers, and which adapters it is given."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from budwood.engine.generate import Request
from budwood.engine.lora import Adapter, LoraConfig, Pair, load_adapter
from budwood.errors import AdapterError, ServeError
from budwood.serve.backend import ParameterError
from budwood.serve.vllm.adapters import check_adapter, uniform, write_adapter
from budwood.serve.vllm.wire import SAME, SETTLED, check_honoured, completion_body, read_event, signed_seed, tokens_of

END = 9


def body(**fields: Any) -> dict[str, Any]:
    return completion_body(Request((1, 2, 3), **fields), model="m", salt="s")


def test_every_field_of_a_request_has_its_place() -> None:
    assert {field.name for field in dataclasses.fields(Request)} <= SAME.keys() | SETTLED


def test_a_field_that_is_new_is_refused_and_not_lost() -> None:
    @dataclasses.dataclass(frozen=True)
    class Newer(Request):
        charm: float = 0.0

    check_honoured(Newer((1,)), end=END)
    with pytest.raises(ParameterError, match="charm is not passed on to vLLM"):
        check_honoured(Newer((1,), charm=0.5), end=END)


def test_a_sampled_request_is_said_exactly() -> None:
    said = body(temperature=0.7, top_p=0.9, top_k=40, seed=5, stop_ids=(END, 8), max_new_tokens=17, logprobs=3)
    wanted = {"model": "m", "prompt": [1, 2, 3], "temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 5, "max_tokens": 17}
    wanted |= {"stop_token_ids": [END, 8], "ignore_eos": True, "logprobs": 3, "cache_salt": "s", "stream": True}
    assert {key: said[key] for key in wanted} == wanted


def test_a_greedy_request_has_no_seed_and_a_schema_goes_as_structured_output() -> None:
    said = body(json_schema='{"type": "object"}')
    assert "seed" not in said
    assert said["structured_outputs"] == {"json": {"type": "object"}}


@given(st.integers(-(1 << 70), 1 << 70))
def test_seeds_fit_64_bits_and_never_mean_none(seed: int) -> None:
    folded = signed_seed(seed)
    assert -(1 << 63) <= folded < 1 << 63
    assert folded != -1
    assert (folded - seed) % (1 << 64) == 0 or folded == -2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.009}, "temperature"),
        ({"json_schema": "{}", "stop_ids": (8,)}, "response_format"),
    ],
)
def test_what_vllm_would_bend_is_refused_by_name(fields: Mapping[str, Any], param: str) -> None:
    with pytest.raises(ParameterError) as refused:
        check_honoured(Request((1,), **fields), end=END)
    assert refused.value.param == param


def event(**choice: Any) -> str:
    return "data: " + json.dumps({"choices": [choice]})


def test_several_tokens_of_one_event_come_in_order_with_their_own_figures() -> None:
    logprobs = {
        "token_logprobs": [-0.5, -3.0],
        "top_logprobs": [
            {"token_id:4": -0.5, "token_id:7": -1.0},
            {"token_id:5": -3.0, "token_id:6": -0.1, "token_id:8": -2.0},
        ],
    }
    reply = read_event(event(token_ids=[4, 5], logprobs=logprobs, finish_reason="length"))
    assert reply is not None
    first, second = tokens_of(reply, Request((1,), max_new_tokens=2, logprobs=2), 0)
    assert (first.token, first.logprob, first.top, first.finish) == (4, -0.5, ((4, -0.5), (7, -1.0)), None)
    # The chosen token is the third here, and two were asked for.
    assert (second.token, second.logprob, second.top, second.finish) == (5, -3.0, ((6, -0.1), (8, -2.0)), "length")


def test_an_end_token_that_vllm_keeps_to_itself_is_told() -> None:
    reply = read_event(event(token_ids=[4], finish_reason="stop", stop_reason=END))
    assert reply is not None
    tokens = list(tokens_of(reply, Request((1,), stop_ids=(END,)), 0))
    assert [(token.token, token.finish) for token in tokens] == [(4, None), (END, "stop")]


def test_values_that_are_not_finite_fail_the_request() -> None:
    logprobs = {"token_logprobs": [None], "top_logprobs": [None]}
    reply = read_event(event(token_ids=[0], logprobs=logprobs, finish_reason=None))
    assert reply is not None
    assert [token.finish for token in tokens_of(reply, Request((1,), logprobs=0), 0)] == ["failed"]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"token_ids": [4], "finish_reason": "length"}, "after 1 of 128 tokens"),
        ({"token_ids": [4], "finish_reason": "abort"}, "'abort'"),
        ({"token_ids": [4], "finish_reason": "stop"}, "without one of its end tokens"),
    ],
)
def test_an_answer_that_ends_otherwise_than_asked_is_an_error(choice: dict[str, Any], told: str) -> None:
    reply = read_event(event(**choice))
    assert reply is not None
    with pytest.raises(ServeError, match=told):
        list(tokens_of(reply, Request((1,)), 0))


@pytest.mark.parametrize("line", ["data: {", "data: {}", 'data: {"choices": [{"token_ids": ["x"]}]}', "data: []", 'data: "x"'])
def test_lines_of_another_form_are_refused(line: str) -> None:
    with pytest.raises(ServeError):
        read_event(line)


def test_an_error_in_the_middle_is_told() -> None:
    with pytest.raises(ServeError, match="out of memory"):
        read_event('data: {"error": {"message": "out of memory"}}')


@pytest.mark.parametrize("line", ["", ": ping", "data: [DONE]", 'data: {"choices": []}'])
def test_lines_that_say_nothing_of_tokens_are_passed_over(line: str) -> None:
    assert read_event(line) is None


def adapter(*ranks: int, alphas: tuple[float, ...] = (), rslora: bool = False, dora: bool = False) -> Adapter:
    paths = [f"model.layers.{place}.self_attn.q_proj" for place in range(len(ranks))]
    patterns = {"rank_pattern": dict(zip(paths, ranks, strict=True)), "alpha_pattern": dict(zip(paths, alphas, strict=False))}
    config = LoraConfig(ranks[0], 8.0, rslora=rslora, targets=("q_proj",), dora=dora, **patterns)  # type: ignore[arg-type]
    made = torch.Generator().manual_seed(3)
    pairs = {
        path: Pair(torch.randn(rank, 6, generator=made), torch.randn(5, rank, generator=made), config.scaling_of(path))
        for path, rank in zip(paths, ranks, strict=True)
    }
    return Adapter(config, pairs)


@pytest.mark.parametrize("rslora", [False, True])
def test_folding_ranks_and_scales_changes_no_delta(rslora: bool, tmp_path: Path) -> None:
    uneven = adapter(2, 4, 3, alphas=(8.0, 1.0, 5.0), rslora=rslora)
    level = uniform(uneven)
    assert {pair.a.shape[0] for pair in level.pairs.values()} == {4}
    for path, pair in uneven.pairs.items():
        torch.testing.assert_close(level.pairs[path].delta(), pair.delta(), rtol=1e-6, atol=1e-6)
    write_adapter(uneven, tmp_path / "out", base_id="x")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings.get("rank_pattern"), settings.get("use_rslora")) == (
        4,
        4,
        {},
        False,
    )
    again = load_adapter(tmp_path / "out", dict.fromkeys(uneven.pairs, (5, 6)))
    for path, pair in uneven.pairs.items():
        torch.testing.assert_close(again.pairs[path].delta(), pair.delta(), rtol=1e-6, atol=1e-6)


def test_an_adapter_that_is_uniform_is_written_as_it_is() -> None:
    even = replace(adapter(4, 4), config=LoraConfig(4, 8.0, targets=("q_proj",)))
    assert uniform(even) is even


def test_every_reason_against_an_adapter_is_named_at_once() -> None:
    with pytest.raises(AdapterError) as refused:
        check_adapter(adapter(32, dora=True), max_rank=16, where="release x@1")
    assert "use_dora" in refused.value.what
    assert "its rank is 32, and this vLLM takes up to 16" in refused.value.what
