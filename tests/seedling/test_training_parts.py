"""The training form against the plain one: same losses and gradients, same logits as transformers, bytes that resume."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from tools.seedling import export
from tools.seedling.muon import Optimiser, orthogonalise
from tools.seedling.network import Network, Shape
from tools.seedling.schedule import Schedule
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

SMALL = Shape(vocab_size=96, hidden_size=32, intermediate_size=48, layers=2, heads=2)


def network() -> Network:
    return Network(SMALL, generator=torch.Generator().manual_seed(0))


def ids(rows: int = 3, length: int = 20) -> torch.Tensor:
    return torch.randint(0, SMALL.vocab_size, (rows, length), generator=torch.Generator().manual_seed(1))


def test_tied_loss_equals_plain_cross_entropy_and_its_gradients() -> None:
    net, tokens = network(), ids()
    targets = tokens.roll(-1, 1)
    targets[0, :7] = -100
    torch.autograd.backward(net(tokens, targets))
    made = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    logits = net.hidden(tokens) @ net.embedding.weight.T
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    torch.autograd.backward(plain)
    torch.testing.assert_close(net(tokens, targets), plain)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(made[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_exported_form_gives_the_same_logits() -> None:
    net, tokens = network(), ids()
    config = LlamaConfig(
        vocab_size=SMALL.vocab_size,
        hidden_size=SMALL.hidden_size,
        intermediate_size=SMALL.intermediate_size,
        num_hidden_layers=SMALL.layers,
        num_attention_heads=SMALL.heads,
        rms_norm_eps=SMALL.norm_eps,
        tie_word_embeddings=True,
    )
    llama = LlamaForCausalLM(config)
    named = {name: p.detach().bfloat16().float() for name, p in net.named_parameters()}
    net.load_state_dict(named)
    llama.load_state_dict({name: t.float() for name, t in export.to_llama(named, SMALL).items()}, strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(net.hidden(tokens) @ net.embedding.weight.T, llama(tokens).logits, rtol=1e-4, atol=1e-5)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.5


def test_training_goes_on_after_reloading_the_optimiser(tmp_path: Path) -> None:
    def train(net: Network, optimiser: Optimiser, first: int, last: int) -> None:
        for number in range(first, last):
            torch.autograd.backward(net(ids(), ids().roll(-1, 1)))
            optimiser.step(rate=1e-3, number=number + 1)

    whole = network()
    train(whole, Optimiser(whole, weight_decay=0.05), 0, 4)
    half = network()
    before = Optimiser(half, weight_decay=0.05)
    train(half, before, 0, 2)
    after_net = network()
    after = Optimiser(after_net, weight_decay=0.05)
    after.load({name: t.clone() for name, t in before.tensors().items()}.items())
    train(after_net, after, 2, 4)
    for one, other in zip(whole.parameters(), after_net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_schedule_warms_up_stays_and_decays_to_nothing() -> None:
    schedule = Schedule(decay_from=100, decay_steps=50)
    rates = [schedule.rate(step) for step in range(150)]
    assert rates[0] < rates[schedule.warmup] == schedule.peak == rates[99]
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 0.05 * schedule.peak
    assert {schedule.length(step) for step in range(150)} == {256, 512, 1024}
    assert asdict(schedule)["tokens"] % 1024 == 0
