"""Compiled layers: the losses and gradients of eager ones, one piece of code for all layers of a kind, and failures told.

Most tests trace as the compiler does but run what was traced eagerly, which takes a tenth of the time; slow ones compile.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.engine.test_families import rows
from tests.engine.tiny import CASES, Case, tiny_model
from torch import Tensor, nn

from budwood.engine import compiled
from budwood.engine.attention import register_attention
from budwood.engine.compiled import CACHE, CompiledLayer
from budwood.engine.layers import StandIn, decoder_layers
from budwood.engine.lora import AdapterBank, LoraConfig, new_adapter
from budwood.engine.packed import Encoded, pack
from budwood.engine.quant import quantize_linears
from budwood.engine.recompute import RecomputedLayer
from budwood.train.trainable import AdapterTraining, FullTraining

Compile = Callable[..., Any]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing compiled before, and a cache that is kept between tests but not beyond them."""
    monkeypatch.setenv(CACHE, str(tmp_path_factory.getbasetemp() / "compiled"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and split as the compiler does, then run eagerly."""
    replaced(monkeypatch, "eager")


def replaced(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    original: Compile = torch.compile

    def compile_(function: Any, **named: Any) -> Any:
        return original(function, **{name: value for name, value in named.items() if name != "options"}, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_)


def training(case: Case, *, compiled: bool, dropout: float = 0.0, **named: Any) -> AdapterTraining:
    register_attention()
    model = tiny_model(case, "budwood")
    targets = {"gpt2": ("c_attn", "c_proj"), "gpt_neox": ("query_key_value",), "phi3": ("qkv_proj", "gate_up_proj")}
    config = LoraConfig(3, 6.0, dropout=dropout, targets=targets.get(case.model_type, ("q_proj", "o_proj")))
    return filled(AdapterTraining(model, new_adapter(model, config, seed=0), compiled=compiled, **named))


def filled(made: AdapterTraining) -> AdapterTraining:
    """Give every parameter a value: with B = 0 the gradients of A say nothing, and with large ones they are mostly rounding."""
    for parameter in made.parameters.values():
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return made


def outcome(made: AdapterTraining | FullTraining, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    loss = made.loss_sum(pack(rows(seed)), dropout=torch.Generator().manual_seed(1))
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    return loss.detach(), {name: parameter.grad for name, parameter in made.parameters.items() if parameter.grad is not None}


def assert_near(found: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        scale = gradient.abs().max()
        torch.testing.assert_close(found[1][name] / scale, gradient / scale, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name == "llama" else pytest.mark.slow) for case in CASES],
    ids=lambda case: case.name,
)
def test_losses_and_gradients_are_those_of_eager_layers(case: Case) -> None:
    ours = training(case, compiled=True, dropout=0.2)
    assert ours.uncompiled is None
    assert ours.way == "compiled layers, attention: torch"
    assert all(parameter.grad is None for parameter in ours.parameters.values())
    model = ours._model
    assert all(isinstance(layer, CompiledLayer) for layer in decoder_layers(model))
    assert_near(outcome(ours), outcome(training(case, compiled=False, dropout=0.2)))
    ours.release()
    assert not any(isinstance(layer, StandIn) for layer in decoder_layers(model))
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_layers_share_code_and_other_numbers_of_tokens_compile_nothing() -> None:
    made = {}
    for layers in (3, 5):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        case = Case("gemma2", "gemma2", CASES[7].settings | {"num_hidden_layers": layers})
        trained = training(case, compiled=True)
        made[layers] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for lengths in ((5,), (9, 30), (2, 3, 4, 17)):
            batch = pack([Encoded(tuple(range(3, 3 + length)), (True,) * length) for length in lengths])
            trained.loss_sum(batch, dropout=None).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made[layers]
    assert made[3] == made[5] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_compiled_layers_are_computed_twice_where_memory_asks_for_it() -> None:
    once, twice = (training(CASES[7], compiled=True, dropout=0.3, checkpointing=kept) for kept in ("none", "layer"))
    assert twice.uncompiled is None
    assert all(isinstance(layer, RecomputedLayer) for layer in decoder_layers(twice._model))
    (loss, wanted), (again, found) = outcome(once), outcome(twice)
    assert torch.equal(loss, again)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_full_fine_tuning_and_quantised_bases_compile_too() -> None:
    register_attention()
    ours, theirs = (FullTraining(tiny_model(CASES[9], "budwood"), torch.float32, compiled=on) for on in (True, False))
    assert ours.uncompiled is None
    assert_near(outcome(ours), outcome(theirs))
    results = []
    for on in (True, False):
        model = tiny_model(CASES[0], "budwood")
        workspace = quantize_linears(model).workspace
        adapter = new_adapter(model, LoraConfig(3, 6.0, targets=("q_proj",)), seed=0)
        made = AdapterTraining(model, adapter, compiled=on)
        assert workspace.compiled == on
        results.append(outcome(filled(made)))
        made.release()
        assert not workspace.compiled
    assert_near(*results)


def refusing(graph: Any, inputs: Any) -> Any:
    raise OSError("no compiler was found\nwith a long tale")


def test_a_compiler_that_fails_is_told_and_training_goes_on_as_if_it_had_not_been_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced(monkeypatch, refusing)
    made = training(CASES[0], compiled=True)
    assert made.uncompiled is not None
    assert "no compiler was found" in made.uncompiled
    assert "\n" not in made.uncompiled
    assert made.way == training(CASES[0], compiled=False).way
    assert not any(isinstance(layer, StandIn) for layer in decoder_layers(made._model))
    assert_near(outcome(made), outcome(training(CASES[0], compiled=False)))


def test_a_broken_c_compiler_is_told() -> None:
    import torch._inductor.config as settings

    with settings.patch({"cpp.cxx": ("/bin/false",), "force_disable_caches": True}):
        made = training(CASES[0], compiled=True)
    assert made.uncompiled is not None
    assert "false" in made.uncompiled or "compile" in made.uncompiled.lower()


def test_what_is_no_compilers_fault_is_raised() -> None:
    def out_of_memory() -> None:
        raise torch.OutOfMemoryError("none left")

    with pytest.raises(torch.OutOfMemoryError):
        compiled.complaint(out_of_memory)


def test_past_the_limit_nothing_goes_on_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LIMITS", compiled.LIMITS | {"recompile_limit": 1})
    replaced(monkeypatch, "eager")
    assert "RecompileLimit" in (training(CASES[0], compiled=True).uncompiled or "")


@pytest.mark.slow
@pytest.mark.parametrize("case", [CASES[3], CASES[7], CASES[9], CASES[10]], ids=lambda case: case.name)
def test_what_the_compiler_makes_computes_what_eager_layers_do(case: Case) -> None:
    ours = training(case, compiled=True)
    assert ours.uncompiled is None
    assert_near(outcome(ours), outcome(training(case, compiled=False)))


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_one_compiled() -> None:
    training(CASES[10], compiled=True)
    hits = torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    training(CASES[10], compiled=True)
    found = torch._dynamo.utils.counters
    assert found["aot_autograd"]["autograd_cache_hit"] + found["inductor"]["fxgraph_cache_hit"] > hits
    assert found["inductor"]["fxgraph_cache_miss"] == 0


def test_a_bank_that_was_in_use_before_is_none_the_wiser() -> None:
    model = tiny_model(CASES[0], "budwood")
    bank = AdapterBank.attach(model)
    assert compiled.trial_batch(model, torch.device("cpu")).max_length == 64
    assert not any("forward" in vars(module) for module in model.modules())
    bank.detach(model)
