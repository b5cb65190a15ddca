"""AdamW against its definition (arXiv:1711.05101), clipping, decay on matrices only, and going on from a saved state."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from budwood.train.optimiser import Optimiser
from budwood.train.settings import TrainSettings


def parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "matrix": nn.Parameter(torch.randn(3, 4, generator=generator)),
        "vector": nn.Parameter(torch.randn(4, generator=generator)),
    }


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {"matrix": torch.randn(3, 4, generator=generator), "vector": torch.randn(4, generator=generator)}


def take(optimiser: Optimiser, named: dict[str, nn.Parameter], step: int, rate: float) -> float:
    for name, gradient in gradients(step).items():
        named[name].grad = gradient
    norm = optimiser.measure()
    optimiser.update(rate, norm)
    return norm


def test_updates_are_those_of_the_definition(settings: TrainSettings) -> None:
    chosen = replace(settings, weight_decay=0.1, beta2=0.95, clip=1.5)
    named = parameters()
    optimiser = Optimiser(named, chosen)
    values = {name: parameter.detach().double().clone() for name, parameter in named.items()}
    first = {name: torch.zeros_like(value) for name, value in values.items()}
    second = {name: torch.zeros_like(value) for name, value in values.items()}
    for step in range(1, 6):
        rate = 0.01 * step
        norm = take(optimiser, named, step, rate)
        raw = {name: gradient.double() for name, gradient in gradients(step).items()}
        expected_norm = float(torch.cat([gradient.flatten() for gradient in raw.values()]).norm())
        assert norm == pytest.approx(expected_norm, rel=1e-6)
        for name, gradient in raw.items():
            clipped = gradient * min(1.0, 1.5 / expected_norm)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.95 * second[name] + 0.05 * clipped**2
            decay = 0.1 if name == "matrix" else 0.0
            ratio = (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.95**step)).sqrt() + 1e-8)
            values[name] = values[name] * (1 - rate * decay) - rate * ratio
    for name, parameter in named.items():
        torch.testing.assert_close(parameter.detach().double(), values[name], rtol=1e-5, atol=1e-6)


def test_a_restored_optimiser_goes_on_bit_for_bit(settings: TrainSettings) -> None:
    named = parameters()
    optimiser = Optimiser(named, settings)
    for step in range(3):
        take(optimiser, named, step, 0.01)
    copies = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in named.items()}
    other = Optimiser(copies, settings)
    other.restore({name: tensor.clone() for name, tensor in optimiser.state().items()}, updates=3)
    for step in range(3, 6):
        take(optimiser, named, step, 0.01)
        take(other, copies, step, 0.01)
    for name in named:
        assert torch.equal(named[name], copies[name])


def test_measuring_changes_nothing(settings: TrainSettings) -> None:
    named = parameters()
    before = named["matrix"].detach().clone()
    named["matrix"].grad = torch.full((3, 4), float("nan"))
    assert optimiser_norm_is_nan(Optimiser(named, settings))
    assert torch.equal(named["matrix"], before)


def optimiser_norm_is_nan(optimiser: Optimiser) -> bool:
    norm = optimiser.measure()
    return norm != norm


def test_b_matrices_learn_faster_by_the_ratio_as_in_peft(settings: TrainSettings) -> None:
    """One step of LoRA+, beside peft's own grouping of the same parameters."""
    optimizer_of = pytest.importorskip("peft.optimizers", reason="the second witness").create_loraplus_optimizer
    generator = torch.Generator().manual_seed(0)
    shapes = {"layer.q_proj.lora_A": (2, 4), "layer.q_proj.lora_B": (3, 2)}
    ours = {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}
    theirs = nn.Module()
    for name, parameter in ours.items():
        theirs.register_parameter(name.replace(".", "_"), nn.Parameter(parameter.detach().clone()))
    chosen = replace(settings, weight_decay=0.0, clip=1e9, b_rate_ratio=16.0)
    witness = optimizer_of(
        theirs, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16.0, betas=(0.9, chosen.beta2), weight_decay=0.0
    )
    optimiser = Optimiser(ours, chosen)
    for step in range(3):
        for index, (name, parameter) in enumerate(ours.items()):
            gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(10 * step + index))
            parameter.grad = gradient
            theirs.get_parameter(name.replace(".", "_")).grad = gradient.clone()
        optimiser.update(0.01, optimiser.measure())
        witness.step()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs.get_parameter(name.replace(".", "_")), rtol=1e-6, atol=1e-7)


def test_a_ratio_of_one_leaves_the_name_of_a_training_as_it_was(settings: TrainSettings) -> None:
    assert "b_rate_ratio" not in settings.as_body()
    assert replace(settings, b_rate_ratio=16.0).as_body()["b_rate_ratio"] == 16.0
    assert "b_rate_ratio" not in replace(settings, method="full", b_rate_ratio=16.0).as_body()
