"""Many adapters on one base: each token its own, each the same as alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, Segments, new_adapter
from budwood.engine.lora.layer import LoraLinear
from budwood.errors import AdapterError

AdapterOf = Callable[..., Adapter]
ModelOf = Callable[[str], nn.Module]
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Base(nn.Module):
    """Two linear layers without attention, so that tokens do not see each other and float64 is one line."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(12, 20)
        self.down = nn.Linear(20, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = torch.tanh(self.up(x))
        y: Tensor = self.down(hidden)
        return y


def plain(base: Base, x: Tensor, adapter: Adapter | None) -> Tensor:
    """The same in float64 on multiplied-out weights."""

    def weight(name: str) -> Tensor:
        inner = getattr(base, name)
        inner = inner.base if isinstance(inner, LoraLinear) else inner
        assert isinstance(inner, nn.Linear)
        whole = inner.weight.detach().double()
        if adapter is not None and name in adapter.pairs:
            pair = adapter.pairs[name]
            whole = whole + pair.scaling * (pair.b.double() @ pair.a.double())
        return whole

    bias = base.up.base.bias if isinstance(base.up, LoraLinear) else base.up.bias
    assert isinstance(bias, Tensor)
    hidden = torch.tanh(x.double() @ weight("up").T + bias.detach().double())
    return hidden @ weight("down").T


def adapters(adapter_of: AdapterOf, base: nn.Module) -> list[Adapter]:
    """Mixed ranks, mixed targets, mixed scales."""
    return [
        adapter_of(base, LoraConfig(rank=4, alpha=8, targets=("up", "down")), seed=1),
        adapter_of(base, LoraConfig(rank=1, alpha=3, targets=("down",)), seed=2),
        adapter_of(base, LoraConfig(rank=7, alpha=7, rslora=True, targets=("up",)), seed=3),
    ]


LAYOUTS = [
    (Segments((0, 5, 9, 20), (0, -1, 2)), "a few long runs"),
    (Segments(tuple(range(7)), (0, 1, 2, -1, 2, 0)), "one token each"),
    (Segments((0, 3, 6, 9), (0, 1, 2)), "equal runs"),
    (Segments((0, 2, 2, 4, 5), (1, 0, 1, 2)), "an empty run between neighbours that share an adapter"),
    (Segments((0, 3, 5, 6, 8), (0, 1, -1, 2)), "ragged runs with a gap"),
    (Segments((0, 6), (-1,)), "base only"),
]


@pytest.mark.parametrize(("segments", "name"), LAYOUTS, ids=[name for _, name in LAYOUTS])
@pytest.mark.parametrize("grad", [False, True])
def test_each_token_gets_its_own_adapter(adapter_of: AdapterOf, segments: Segments, name: str, grad: bool) -> None:
    torch.manual_seed(0)
    base = Base()
    made = adapters(adapter_of, base)
    bank = AdapterBank.attach(base)
    slots = [bank.add(str(index), adapter) for index, adapter in enumerate(made)]
    given = Segments(segments.starts, tuple(slots[index] if index >= 0 else -1 for index in segments.adapter))
    x = torch.randn(segments.starts[-1], 12, requires_grad=grad)
    with torch.set_grad_enabled(grad), bank.use(given):
        y = base(x)
        again = base(x)
    assert torch.equal(y, again)
    for start, end, index in zip(segments.starts, segments.starts[1:], segments.adapter, strict=False):
        wanted = plain(base, x[start:end].detach(), made[index] if index >= 0 else None)
        assert torch.allclose(y[start:end].detach().double(), wanted, rtol=0, atol=2e-6)


def test_tokens_of_the_base_are_exactly_those_of_the_base(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    bank = AdapterBank.attach(base)
    slots = [bank.add(str(seed), adapter_of(base, LoraConfig(2, 4, targets=("up", "down")), seed=seed)) for seed in range(3)]
    x = torch.randn(6, 12)
    with torch.no_grad():
        alone = base(x)
        with bank.use(Segments((0, 1, 2, 5, 6), (slots[0], slots[1], -1, slots[2]))):
            mixed = base(x)
    assert torch.equal(mixed[2:5], alone[2:5])
    assert not torch.equal(mixed[:2], alone[:2])


def test_one_adapter_for_all_equals_one_segment_for_all_and_nests(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    bank = AdapterBank.attach(base)
    slot = bank.add("a", adapter_of(base, LoraConfig(4, 8, targets=("up", "down")), seed=1))
    x = torch.randn(2, 3, 12)
    with torch.no_grad():
        before = base(x)
        with bank.use(slot):
            whole = base(x)
            with bank.use(None):
                assert torch.equal(base(x), before)
            with bank.use(-1):
                assert torch.equal(base(x), before)
            assert torch.equal(base(x), whole)
        with bank.use(Segments((0, 6), (slot,))):
            assert torch.equal(base(x), whole)
        assert torch.equal(base(x), before)
    assert not torch.equal(whole, before)


def test_a_fresh_adapter_changes_nothing(llama: nn.Module) -> None:
    ids = torch.arange(9)[None]
    with torch.no_grad():
        before = llama(ids).logits
        bank = AdapterBank.attach(llama)
        with bank.use(bank.add("new", new_adapter(llama, LoraConfig(4, 8, targets=ALL), seed=0))):
            assert torch.equal(llama(ids).logits, before)


def test_training_gradients_equal_those_of_plain_autograd(llama: nn.Module, adapter_of: AdapterOf, model_of: ModelOf) -> None:
    """The whole tiny model in float64 with W + scaling B A as weights is the reference."""
    adapter = adapter_of(llama, LoraConfig(3, 6, targets=ALL), seed=5)
    ids = torch.arange(11)[None]
    bank = AdapterBank.attach(llama)
    slot = bank.add("a", adapter, trainable=True)
    with bank.use(slot):
        logits = llama(ids).logits
    logits.square().sum().backward()

    exact = model_of("llama").double().requires_grad_(False)
    leaves = {
        path: (pair.a.double().requires_grad_(), pair.b.double().requires_grad_()) for path, pair in adapter.pairs.items()
    }
    weights = {name: parameter.detach() for name, parameter in exact.named_parameters()}
    for path, (a, b) in leaves.items():
        weights[f"{path}.weight"] = weights[f"{path}.weight"] + 2.0 * (b @ a)
    wanted = torch.func.functional_call(exact, weights, (ids,)).logits
    wanted.square().sum().backward()

    assert torch.allclose(logits.detach().double(), wanted.detach(), rtol=0, atol=1e-4 * float(wanted.detach().abs().max()))
    named = bank.named_parameters("a")
    assert len(named) == 2 * len(adapter.pairs)
    for path, (a, b) in leaves.items():
        for tail, leaf in (("lora_A", a), ("lora_B", b)):
            found = named[f"{path}.{tail}"].grad
            assert found is not None
            assert leaf.grad is not None
            # float32 through two layers with softmax and norms, weights five times the stock init.
            assert (found.double() - leaf.grad).norm() / leaf.grad.norm() < 1e-4, f"{path}.{tail}"
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_each_arm_of_a_mixed_training_batch_gets_the_gradient_it_gets_alone(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    made = adapters(adapter_of, base)
    bank = AdapterBank.attach(base)
    slots = [bank.add(str(index), adapter, trainable=True) for index, adapter in enumerate(made)]
    x = torch.randn(12, 12)
    with bank.use(Segments((0, 4, 8, 12), slots)):
        base(x).square().sum().backward()
    together = [[parameter.grad for parameter in bank.parameters(str(index))] for index in range(3)]
    for index, slot in enumerate(slots):
        for parameter in bank.parameters(str(index)):
            parameter.grad = None
        with bank.use(slot):
            base(x[4 * index : 4 * index + 4]).square().sum().backward()
        for parameter, gradient in zip(bank.parameters(str(index)), together[index], strict=True):
            assert parameter.grad is not None
            assert gradient is not None
            assert torch.allclose(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


def test_evaluation_sees_the_trained_numbers_at_once(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    bank = AdapterBank.attach(base)
    config = LoraConfig(2, 4, targets=("up", "down"))
    slots = [bank.add(str(seed), adapter_of(base, config, seed=seed), trainable=True) for seed in range(3)]
    x = torch.randn(3, 12)
    segments = Segments((0, 1, 2, 3), slots)
    with torch.no_grad(), bank.use(segments):
        before = base(x)
        for parameter in bank.parameters("1"):
            parameter.add_(0.5)
        after = base(x)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])
    assert torch.allclose(after[1].double(), plain(base, x[1], bank.adapter("1")), atol=2e-6)


def test_the_bank_copies_what_it_is_given_and_gives_copies(adapter_of: AdapterOf) -> None:
    base = Base()
    bank = AdapterBank.attach(base)
    adapter = adapter_of(base, LoraConfig(2, 4, targets=("up",)), seed=1)
    original = adapter.pairs["up"].a.clone()
    bank.add("a", adapter, trainable=True)
    adapter.pairs["up"].a.zero_()
    given = bank.adapter("a")
    assert torch.equal(given.pairs["up"].a, original)
    assert given.config == adapter.config
    given.pairs["up"].a.zero_()
    assert torch.equal(bank.adapter("a").pairs["up"].a, original)


def test_a_removed_adapter_leaves_no_number_behind_and_its_slot_is_an_error(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    bank = AdapterBank.attach(base)
    config = LoraConfig(2, 4, targets=("up", "down"))
    slots = [bank.add(str(seed), adapter_of(base, config, seed=seed)) for seed in range(3)]
    x = torch.randn(3, 12)
    with torch.no_grad(), bank.use(Segments((0, 1, 2, 3), slots)):
        before = base(x)
    bank.remove("1")
    new = bank.add("4", adapter_of(base, config, seed=4))
    assert new not in slots
    assert bank.keys == ("0", "2", "4")
    with pytest.raises(AdapterError, match="no adapter in slot 1"), bank.use(Segments((0, 1), (slots[1],))):
        pass
    with pytest.raises(AdapterError, match='no adapter "1"'):
        bank.slot("1")
    with torch.no_grad(), bank.use(Segments((0, 1, 2, 3), (slots[0], new, slots[2]))):
        after = base(x)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert torch.allclose(after[1].double(), plain(base, x[1], bank.adapter("4")), atol=2e-6)
    layers = [module for module in base.modules() if isinstance(module, LoraLinear)]
    assert all(set(layer.pairs) == {slots[0], slots[2], new} for layer in layers)
    assert bank.size_bytes == 2 * 2 * 3 * 2 * (12 + 20) * 4  # two layers; pairs, and stacks of the last batch
    for key in ("0", "2", "4"):
        bank.remove(key)
    assert bank.size_bytes == 0


def test_replacing_gives_a_new_slot_and_a_misfit_leaves_the_old_one(adapter_of: AdapterOf) -> None:
    base = Base()
    bank = AdapterBank.attach(base)
    config = LoraConfig(2, 4, targets=("up",))
    old = bank.add("a", adapter_of(base, config, seed=1))
    misfit = Adapter(
        config, {"up": Pair(torch.ones(2, 3), torch.ones(4, 2), 1.0), "upp": Pair(torch.ones(1, 1), torch.ones(1, 1), 1)}
    )
    with pytest.raises(AdapterError) as caught:
        bank.replace("a", misfit)
    assert str(caught.value) == (
        'Adapter "a" does not fit this base: up needs A (r, 12) and B (20, r), the adapter has (2, 3) and (4, 2); '
        "upp is no layer of this base (nearest: up).\n    Load the base that it was trained on."
    )
    assert bank.slot("a") == old
    assert bank.replace("a", adapter_of(base, config, seed=2)) != old


def test_refusals_of_the_bank(adapter_of: AdapterOf) -> None:
    base = Base()
    bank = AdapterBank.attach(base)
    slot = bank.add("a", adapter_of(base, LoraConfig(2, 4, targets=("up",)), seed=1))
    with pytest.raises(AdapterError, match='has an adapter "a" already'):
        bank.add("a", adapter_of(base, LoraConfig(2, 4, targets=("up",)), seed=1))
    with pytest.raises(AdapterError, match="not trainable"):
        bank.parameters("a")
    with pytest.raises(AdapterError, match="attached to this base already"):
        AdapterBank.attach(base)
    with pytest.raises(AdapterError, match="no linear layer"):
        AdapterBank.attach(nn.Embedding(3, 4))
    for starts, index in (((0, 4, 2), (slot, slot)), ((1, 2), (slot,)), ((0, 2), (slot, slot))):
        with pytest.raises(AdapterError, match="do not cover the tokens"), bank.use(Segments(starts, index)):
            pass
    with pytest.raises(AdapterError, match="Segments are for 3 tokens, up got 4"), bank.use(Segments((0, 3), (slot,))):
        base(torch.zeros(4, 12))
    with pytest.raises(AdapterError, match="no adapter in slot -2"), bank.use(Segments((0, 3), (-2,))):
        pass


def test_detaching_gives_the_base_back(llama: nn.Module, adapter_of: AdapterOf) -> None:
    names = [name for name, _ in llama.named_modules()]
    bank = AdapterBank.attach(llama)
    bank.add("a", adapter_of(llama, LoraConfig(2, 4, targets=ALL), seed=1))
    bank.detach(llama)
    assert [name for name, _ in llama.named_modules()] == names
    assert bank.keys == ()
    AdapterBank.attach(llama)


def test_dropout_needs_a_generator_follows_it_and_stops_without_gradients(adapter_of: AdapterOf) -> None:
    torch.manual_seed(0)
    base = Base()
    bank = AdapterBank.attach(base)
    adapter = adapter_of(base, LoraConfig(2, 4, dropout=0.5, targets=("up", "down")), seed=1)
    slot = bank.add("a", adapter, trainable=True)
    x = torch.randn(64, 12)

    def compute(seed: int) -> Tensor:
        with bank.use(slot, dropout=torch.Generator().manual_seed(seed)):
            y: Tensor = base(x)
            assert torch.equal(y, base(x))  # computed again in one context: the same inputs are dropped
        return y.detach()

    with pytest.raises(AdapterError, match=r"dropout 0\.5, but no generator"), bank.use(slot):
        pass
    assert torch.equal(compute(1), compute(1))
    assert not torch.equal(compute(1), compute(2))
    with torch.no_grad(), bank.use(slot):
        assert torch.allclose(base(x).double(), plain(base, x, adapter), atol=2e-6)


def test_slots_are_freed_under_inference_mode_and_used_in_training_later(adapter_of: AdapterOf) -> None:
    base = Base()
    with torch.inference_mode():
        bank = AdapterBank.attach(base)
        slot = bank.add("a", adapter_of(base, LoraConfig(2, 4, targets=("up",)), seed=1), trainable=True)
    with bank.use(slot):
        base(torch.randn(3, 12)).sum().backward()
    assert all(parameter.grad is not None for parameter in bank.parameters("a"))
