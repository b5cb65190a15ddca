"""Fused decoder layers against the layers that they stand for, in float32 on the same weights."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.engine.kernels import SETS, take
from tests.engine.tiny import VOCAB, Case, tiny_model
from torch import Tensor, nn

from budwood.engine.attention import register_attention
from budwood.engine.base import head_weight, hidden_states
from budwood.engine.fused import fuse
from budwood.engine.fused.layer import Buffers
from budwood.engine.fused.place import FusedLayer, can_fuse
from budwood.engine.layers import put_back
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, Segments, new_adapter
from budwood.engine.loss import supervised_loss
from budwood.engine.packed import Encoded, pack
from budwood.engine.quant import quantize_linears

WIDE = {"head_dim": 32, "num_key_value_heads": 2}
CASES = [
    Case("llama", "llama", WIDE),
    Case("llama biases", "llama", WIDE | {"attention_bias": True, "mlp_bias": True}),
    Case("llama wide", "llama", {"head_dim": 64, "num_key_value_heads": 1}),
    Case("mistral window", "mistral", WIDE | {"sliding_window": 5}),
    Case("qwen2", "qwen2", {"hidden_size": 128, "num_key_value_heads": 2}),
    Case(
        "qwen2 window",
        "qwen2",
        {"hidden_size": 128, "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    Case("qwen3", "qwen3", WIDE),
    Case("odd sizes", "llama", WIDE | {"hidden_size": 44, "intermediate_size": 50}),
]


@pytest.fixture(autouse=True, params=SETS)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    take(request.param, monkeypatch)
    register_attention()


def rows() -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for length in (9, 3, 40, 1, 33, 2):
        ids = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        made.append(Encoded(tuple(ids), tuple(place > length // 2 for place in range(length))))
    return made


@dataclass
class Trained:
    """A model with an adapter that does something, ready for a pass."""

    model: nn.Module
    bank: AdapterBank
    slot: int

    def loss(self, what: Segments | int | None = None, dropout: torch.Generator | None = None, multiple: int = 1) -> Tensor:
        batch = pack(rows(), multiple=multiple)
        with self.bank.use(self.slot if what is None else what, dropout=dropout):
            hidden = hidden_states(self.model, batch, only=batch.asked)[: len(batch.targets)]
        return supervised_loss(hidden, head_weight(self.model).to(hidden.dtype), batch.targets)

    def gradients(self, **how: object) -> tuple[float, dict[str, Tensor]]:
        loss = self.loss(**how)  # type: ignore[arg-type]  # handed on
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        named = self.bank.named_parameters("training")
        found = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
        for parameter in named.values():
            parameter.grad = None
        return float(loss.detach()), found


def living(model: nn.Module, config: LoraConfig) -> Adapter:
    made = new_adapter(model, config, seed=1)
    generator = torch.Generator().manual_seed(2)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.1, pair.scaling)
        for path, pair in made.pairs.items()
    }
    return Adapter(made.config, pairs)


def trained(case: Case, dtype: torch.dtype, config: LoraConfig, *, quantised: bool = False) -> Trained:
    # Weights are rounded to bfloat16 first: then both dtypes hold the same numbers.
    model = tiny_model(case, "budwood").bfloat16().to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                noise = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(3)) + 0.5
                parameter.copy_(noise.bfloat16())
    if quantised:
        quantize_linears(model)
    bank = AdapterBank.attach(model)
    slot = bank.add("training", living(model, config), trainable=True)
    return Trained(model, bank, slot)


def all_linear(rank: int = 4, dropout: float = 0.0) -> LoraConfig:
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    return LoraConfig(rank, 8.0, dropout=dropout, targets=names)


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Mean over the tensors of the relative distance; none may be far off alone."""
    assert found.keys() == wanted.keys()
    each = [float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted]
    assert max(each) < 0.1
    return sum(each) / len(each)


def no_further_off(found: dict[str, Tensor], plain: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """bfloat16 keeps 8 bits: the layers one by one are off by that, and one node that rounds less often is no further off."""
    return distance(found, wanted) < max(1.1 * distance(plain, wanted), 0.005)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "made again"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loss_and_gradients_are_those_of_the_layers_in_float32(case: Case, keep: bool) -> None:
    wanted_loss, wanted = trained(case, torch.float32, all_linear()).gradients()
    plain_loss, plain = trained(case, torch.bfloat16, all_linear()).gradients()
    ours = trained(case, torch.bfloat16, all_linear())
    assert fuse(ours.model, keep=keep)
    loss, found = ours.gradients()
    assert abs(loss - wanted_loss) <= max(abs(plain_loss - wanted_loss), 2e-3 * wanted_loss)
    assert no_further_off(found, plain, wanted)


@pytest.mark.parametrize("multiple", [7, 32, 64])
@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[4]], ids=lambda case: case.name)
def test_tokens_that_round_the_length_up_change_nothing(case: Case, multiple: int) -> None:
    wanted_loss, wanted = trained(case, torch.float64, all_linear()).gradients()
    loss, found = trained(case, torch.float64, all_linear()).gradients(multiple=multiple)
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert distance(found, wanted) < 1e-11
    ours = trained(case, torch.bfloat16, all_linear())
    _, plain = trained(case, torch.bfloat16, all_linear()).gradients()
    assert fuse(ours.model)
    _, found = ours.gradients(multiple=multiple)
    assert no_further_off(found, plain, {name: gradient.float() for name, gradient in wanted.items()})


def test_a_longer_pass_leaves_no_former_buffer_behind() -> None:
    buffers, like = Buffers(), torch.empty(0, dtype=torch.bfloat16)

    def held() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    def fill(size: int) -> None:
        for number in range(40):
            buffers.take(f"{number}", like, size).fill_(1)

    fill(1 << 20)
    before = held()
    for growth in range(1, 9):
        fill((1 << 20) + growth * 1000)
    assert held() - before < 20e6


def test_what_is_kept_or_made_again_gives_the_same_bytes() -> None:
    results = []
    for keep in (True, False):
        ours = trained(CASES[0], torch.bfloat16, all_linear())
        fuse(ours.model, keep=keep)
        results.append(ours.gradients())
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


@pytest.mark.parametrize(
    "targets", [("q_proj", "v_proj"), ("down_proj",), ("model.layers.1.mlp.up_proj", "model.layers.2.self_attn.k_proj")]
)
def test_some_targets_only(targets: tuple[str, ...]) -> None:
    config = LoraConfig(3, 6.0, targets=targets)
    _, wanted = trained(CASES[4], torch.float32, config).gradients()
    _, plain = trained(CASES[4], torch.bfloat16, config).gradients()
    ours = trained(CASES[4], torch.bfloat16, config)
    fuse(ours.model)
    _, found = ours.gradients()
    assert no_further_off(found, plain, wanted)


def test_dropout_drops_the_same_inputs_as_the_layers() -> None:
    config = all_linear(dropout=0.3)
    _, wanted = trained(CASES[0], torch.float32, config).gradients(dropout=torch.Generator().manual_seed(5))
    _, plain = trained(CASES[0], torch.bfloat16, config).gradients(dropout=torch.Generator().manual_seed(5))
    ours = trained(CASES[0], torch.bfloat16, config)
    fuse(ours.model)
    _, found = ours.gradients(dropout=torch.Generator().manual_seed(5))
    assert no_further_off(found, plain, wanted)


def test_a_quantised_base() -> None:
    case = Case("whole blocks", "llama", WIDE | {"hidden_size": 64, "intermediate_size": 128})
    _, wanted = trained(case, torch.float32, all_linear(), quantised=True).gradients()
    _, plain = trained(case, torch.bfloat16, all_linear(), quantised=True).gradients()
    ours = trained(case, torch.bfloat16, all_linear(), quantised=True)
    assert fuse(ours.model)
    _, found = ours.gradients()
    assert no_further_off(found, plain, wanted)


def test_rows_of_their_own_adapter_and_rows_without() -> None:
    def two(dtype: torch.dtype) -> tuple[Trained, Segments]:
        made = trained(CASES[0], dtype, all_linear())
        other = made.bank.add("other", living(made.model, all_linear(rank=2)))
        return made, Segments((0, 12, 52, 88), (made.slot, -1, other))

    exact, segments = two(torch.float32)
    _, wanted = exact.gradients(what=segments)
    layers, segments = two(torch.bfloat16)
    _, plain = layers.gradients(what=segments)
    ours, segments = two(torch.bfloat16)
    fuse(ours.model)
    _, found = ours.gradients(what=segments)
    assert no_further_off(found, plain, wanted)


def test_all_states_or_some_are_the_same() -> None:
    ours = trained(CASES[0], torch.bfloat16, all_linear())
    fuse(ours.model)
    batch = pack(rows())
    with torch.no_grad(), ours.bank.use(ours.slot):
        every = hidden_states(ours.model, batch)
        some = hidden_states(ours.model, batch, only=batch.supervised)
    assert torch.equal(every[batch.supervised], some)


def test_nothing_is_computed_backward_below_the_lowest_pair() -> None:
    ours = trained(CASES[0], torch.bfloat16, LoraConfig(4, 8.0, targets=("model.layers.2.mlp.up_proj",)))
    fuse(ours.model)
    seen: list[bool] = []
    for index in (0, 1, 2):
        layer = ours.model.get_submodule(f"model.layers.{index}")
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.requires_grad))
    ours.gradients()
    assert seen == [False, False, True]


def test_it_is_put_in_place_and_taken_back() -> None:
    ours = trained(CASES[0], torch.bfloat16, all_linear())
    before = [name for name, _ in ours.model.named_modules()]
    own = list(ours.model.get_submodule("model.layers"))  # type: ignore[call-overload]  # a ModuleList
    keys = list(ours.model.state_dict())
    fuse(ours.model)
    assert isinstance(ours.model.get_submodule("model.layers.0"), FusedLayer)
    assert [name for name, _ in ours.model.named_modules()] == before
    assert list(ours.model.state_dict()) == keys
    put_back(ours.model)
    assert all(a is b for a, b in zip(own, ours.model.get_submodule("model.layers"), strict=True))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "case",
    [
        Case("narrow heads", "llama", {"num_key_value_heads": 2}),
        Case("another activation", "llama", WIDE | {"hidden_act": "gelu"}),
        Case("another family", "olmo2", WIDE),
    ],
    ids=lambda case: case.name,
)
def test_what_it_cannot_do_stays_as_it_was(case: Case) -> None:
    ours = trained(case, torch.bfloat16, LoraConfig(4, 8.0, targets=("q_proj",)))
    kinds = [type(module) for module in ours.model.modules()]
    assert not can_fuse(ours.model)
    assert not fuse(ours.model)
    assert [type(module) for module in ours.model.modules()] == kinds


def test_float32_is_not_fused() -> None:
    assert not can_fuse(copy.deepcopy(trained(CASES[0], torch.float32, all_linear()).model))


def test_a_number_that_is_none_is_not_hidden() -> None:
    ours = trained(CASES[0], torch.bfloat16, all_linear())
    fuse(ours.model)
    with torch.no_grad():
        ours.model.get_submodule("model.layers.1.mlp.up_proj").weight[0, 0] = float("nan")  # type: ignore[operator]
        assert not bool(torch.isfinite(ours.loss()))
