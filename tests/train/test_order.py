from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.engine.packed import plan_passes
from budwood.train.order import StepPlan, plan_steps


def plan(
    lengths: list[int],
    *,
    weights: list[float] | None = None,
    epochs: float = 1.0,
    step: int = 100,
    budget: int = 40,
    seed: int = 0,
) -> StepPlan:
    return plan_steps(
        lengths,
        weights or [1.0] * len(lengths),
        [f"row{index}" for index in range(len(lengths))],
        epochs=epochs,
        tokens_per_step=step,
        tokens_per_pass=budget,
        seed=seed,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 3), st.integers(0, 5))
def test_every_row_comes_once_in_each_epoch_and_budgets_hold(lengths: list[int], epochs: int, seed: int) -> None:
    steps = plan(lengths, epochs=epochs, seed=seed)
    for epoch in range(epochs):
        seen = Counter(row for step in steps if step.epoch == epoch for row in step.rows)
        assert seen == Counter(range(len(lengths)))
    for step in steps:
        for rows in step.passes:
            assert len(rows) == 1 or sum(lengths[row] for row in rows) <= 40
        assert len(step.passes) == 1 or sum(lengths[row] for row in step.rows) <= 100
    assert steps == plan(lengths, epochs=epochs, seed=seed)


def test_a_pass_budget_above_the_step_budget_does_not_make_larger_steps() -> None:
    for step in plan([10] * 50, step=40, budget=400):
        assert sum(10 for _ in step.rows) <= 40


def test_seed_and_epoch_change_who_meets_whom() -> None:
    first, second = plan([10] * 40, epochs=2)[:4], plan([10] * 40, epochs=2, seed=1)[:4]
    assert [step.passes for step in first] != [step.passes for step in second]
    whole = plan([10] * 40, epochs=2)
    assert [s.passes for s in whole if s.epoch == 0] != [s.passes for s in whole if s.epoch == 1]


def test_a_broken_last_epoch_takes_its_share_of_steps() -> None:
    whole = len(plan([10] * 100, epochs=1))
    assert len(plan([10] * 100, epochs=2.5)) == 2 * whole + -(-whole // 2)


def test_weights_are_times_an_epoch() -> None:
    steps = plan([5] * 4, weights=[1.0, 2.0, 0.5, 0.25], epochs=8)
    seen = Counter(row for step in steps for row in step.rows)
    assert (seen[0], seen[1]) == (8, 16)
    assert seen[2] == 4
    assert seen[3] == 2


def slowly(lengths: list[int], budget: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The passes as they are defined, row by row."""
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = generator.permutation(len(lengths))
    window = max(1, int(16 * budget / max(1.0, float(np.mean(lengths)))))
    passes: list[list[int]] = []
    for start in range(0, len(order), window):
        filling: list[int] = []
        for row in sorted(order[start : start + window].tolist(), key=lambda row: lengths[row]):
            if filling and sum(lengths[index] for index in filling) + lengths[row] > budget:
                passes.append(filling)
                filling = []
            filling.append(row)
        passes.append(filling)
    return [passes[index] for index in generator.permutation(len(passes)).tolist()]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 200), st.integers(0, 3), st.integers(0, 3))
def test_passes_and_steps_are_those_of_their_definition(lengths: list[int], budget: int, seed: int, epoch: int) -> None:
    wanted = slowly(lengths, budget, seed=seed, epoch=epoch)
    assert plan_passes(lengths, budget, seed=seed, epoch=epoch) == wanted
    steps = plan(lengths, epochs=epoch + 1, budget=budget, step=2 * budget, seed=seed)
    last = [step for step in steps if step.epoch == epoch]
    assert [list(rows) for step in last for rows in step.passes] == wanted
    sizes = [sum(lengths[row] for row in step.rows) for step in steps]
    assert steps.tokens.tolist() == sizes
    for step, following in pairwise(last):
        first = sum(lengths[row] for row in following.passes[0])
        assert sum(lengths[row] for row in step.rows) + first > 2 * budget
