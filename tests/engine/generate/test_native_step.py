"""Steps through C beside the model's own layers: same cache, same tokens, and both beside the same sums in float32."""

from typing import Literal

import pytest
import torch
from tests.engine.kernels import SETS, take
from tests.engine.tiny import VOCAB, Case, tiny_model
from torch import Tensor, nn

from budwood.engine.attention import register_attention
from budwood.engine.generate import native_step
from budwood.engine.generate.attend import Piece, StepAttention
from budwood.engine.generate.cache import SlotCache
from budwood.engine.generate.forward import step_hidden
from budwood.engine.generate.native_step import NativeStep
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, Segments, new_adapter
from budwood.engine.quant import quantize_linears

WIDE = {"hidden_size": 96, "intermediate_size": 160, "head_dim": 32, "num_key_value_heads": 2}
LLAMA = Case("llama", "llama", WIDE)
CASES = [
    LLAMA,
    Case("llama biases", "llama", WIDE | {"attention_bias": True, "mlp_bias": True}),
    Case("mistral window", "mistral", WIDE | {"sliding_window": 7}),
    Case("qwen2", "qwen2", WIDE | {"hidden_size": 128}),
    Case("qwen3", "qwen3", WIDE),
]
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(autouse=True, params=SETS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)
    register_attention()


def model_of(case: Case, dtype: torch.dtype) -> nn.Module:
    """Weights are rounded to bfloat16 first: then both dtypes hold the same numbers."""
    return tiny_model(case, "budwood").bfloat16().to(dtype).eval()


def with_bank(model: nn.Module, ranks: tuple[int, ...], *, dora: bool = False) -> tuple[AdapterBank, list[int]]:
    bank = AdapterBank.attach(model)
    slots = []
    for number, rank in enumerate(ranks):
        made = new_adapter(model, LoraConfig(rank, 8.0, targets=NAMES[number:], dora=dora), seed=number)
        generator = torch.Generator().manual_seed(number)
        pairs = {
            path: Pair(
                pair.a.bfloat16().float(),
                (torch.randn(pair.b.shape, generator=generator) * 0.2).bfloat16().float(),
                pair.scaling,
                magnitude=torch.ones(len(pair.b)) if dora else None,
            )
            for path, pair in made.pairs.items()
        }
        slots.append(bank.add(str(number), Adapter(made.config, pairs)))
    return bank, slots


def steps_of(slots: list[int]) -> list[tuple[list[Piece], Segments]]:
    """A prompt of each adapter, one of them in two pieces, then decoding, with one more prompt coming in."""
    one, two = slots
    return [
        ([Piece(0, 30, 0, 0), Piece(30, 9, 1, 0), Piece(39, 20, 2, 0)], Segments((0, 30, 39, 59), (-1, one, two))),
        ([Piece(0, 1, 0, 30), Piece(1, 1, 1, 9), Piece(2, 17, 2, 20)], Segments((0, 1, 2, 19), (-1, one, two))),
        (
            [Piece(0, 1, 0, 31), Piece(1, 1, 1, 10), Piece(2, 3, 3, 0), Piece(5, 1, 2, 37)],
            Segments((0, 1, 5, 6), (-1, one, two)),
        ),
    ]


def run(
    model: nn.Module, bank: AdapterBank, steps: list[tuple[list[Piece], Segments]], native: NativeStep | None
) -> list[Tensor]:
    cache = SlotCache(max_rows=8, max_columns=128, budget=1024)
    assert cache.reserve(4, 64)
    found = []
    for number, (pieces, segments) in enumerate(steps):
        count = pieces[-1].start + pieces[-1].count
        ids = torch.randint(VOCAB, (count,), generator=torch.Generator().manual_seed(number))
        positions = torch.tensor([position for piece in pieces for position in range(piece.past, piece.past + piece.count)])
        with torch.inference_mode(), bank.use(segments):
            if native is None:
                found.append(step_hidden(model, ids, positions, StepAttention(cache, pieces, ids.device)).float().clone())
            else:
                assert native.takes([slot for slot in segments.adapter if slot >= 0])
                found.append(native.hidden(ids, positions, pieces, cache, segments).float().clone())
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_step_is_no_further_from_exact_than_the_models_own(case: Case) -> None:
    model, exact = model_of(case, torch.bfloat16), model_of(case, torch.float32)
    bank, slots = with_bank(model, (16, 24))
    exact_bank, exact_slots = with_bank(exact, (16, 24))
    native = NativeStep.of(model)
    assert native is not None
    assert NativeStep.of(exact) is None
    wanted = run(exact, exact_bank, steps_of(exact_slots), None)
    own, ours = run(model, bank, steps_of(slots), None), run(model, bank, steps_of(slots), native)
    for reference, plain, found in zip(wanted, own, ours, strict=True):
        # It rounds less often than the model's own layers do.
        assert (found - reference).norm() <= 1.1 * (plain - reference).norm()


def test_long_pieces_of_a_prompt_go_another_way_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(LLAMA, torch.bfloat16)
    bank, slots = with_bank(model, (8, 40))
    native = NativeStep.of(model)
    assert native is not None
    token_by_token = run(model, bank, steps_of(slots), native)
    monkeypatch.setattr(native_step, "MANY_PAIRS", 30)
    for one, other in zip(token_by_token, run(model, bank, steps_of(slots), native), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.05)


def test_a_tokens_bytes_do_not_depend_on_what_shares_its_step() -> None:
    model = model_of(LLAMA, torch.bfloat16)
    bank, slots = with_bank(model, (16, 32))
    native = NativeStep.of(model)
    assert native is not None

    def state(others: int) -> Tensor:
        cache = SlotCache(max_rows=64, max_columns=64, budget=4096)
        cache.reserve(64, 64)
        pieces = [Piece(number, 1, number, 0) for number in range(others)]
        pieces.append(Piece(others, 21, others, 0))
        ids = torch.cat([torch.arange(others) % VOCAB, torch.arange(21)])
        positions = torch.cat([torch.zeros(others, dtype=torch.int64), torch.arange(21)])
        segments = Segments((0, others // 2, others, others + 21), (-1, slots[0], slots[1]))
        with torch.inference_mode(), bank.use(segments):
            return native.hidden(ids, positions, pieces, cache, segments)[others:].clone()

    alone = state(0)
    for others in (1, 7, 16, 45):
        assert torch.equal(alone, state(others))


@pytest.mark.parametrize("skip", [(), ("gate_proj",), ("up_proj", "q_proj")])
@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_weights_of_few_bits_give_what_their_expanded_ones_give(form: Literal["nf4", "int8"], skip: tuple[str, ...]) -> None:
    quantised = model_of(LLAMA, torch.bfloat16)
    quantize_linears(quantised, form, skip=skip)
    bank, slots = with_bank(quantised, (16, 8))
    expanded = model_of(LLAMA, torch.bfloat16)
    for name, module in quantised.named_modules():
        if hasattr(module, "dequantized"):
            expanded.get_submodule(name.removesuffix(".base")).weight.data = module.dequantized()
    other_bank, other_slots = with_bank(expanded, (16, 8))
    native, other = NativeStep.of(quantised), NativeStep.of(expanded)
    assert native is not None
    assert other is not None
    found = run(quantised, bank, steps_of(slots), native)
    for one, same in zip(found, run(expanded, other_bank, steps_of(other_slots), other), strict=True):
        assert torch.equal(one, same)


def test_what_it_cannot_do_goes_the_models_own_way() -> None:
    model = model_of(LLAMA, torch.bfloat16)
    _, slots = with_bank(model, (8,), dora=True)
    native = NativeStep.of(model)
    assert native is not None
    assert not native.takes(slots)
    assert native.takes([])
