from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.train.order import Step, plan_steps


def plan(
    lengths: list[int],
    *,
    weights: list[float] | None = None,
    epochs: float = 1.0,
    step: int = 100,
    budget: int = 40,
    seed: int = 0,
) -> list[Step]:
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
