import pytest

from budwood.engine.packed import Encoded
from budwood.errors import TrainingError
from budwood.train.curve import Point
from budwood.train.health import check_course, check_finite
from budwood.train.rows import TrainRow

ROWS = [TrainRow(Encoded((), ()), f"a07e{number}", "tickets.jsonl", number, 1.0) for number in range(1, 7)]


def curve(*losses: float) -> list[Point]:
    return [Point(step + 1, loss, None, 1e-3, 1.0, 0) for step, loss in enumerate(losses)]


def test_a_loss_that_is_nan_names_step_rows_and_checkpoint() -> None:
    with pytest.raises(TrainingError) as caught:
        check_finite(float("nan"), "Loss", 312, ROWS[:2], curve(2.1, 1.84), 300)
    assert str(caught.value) == (
        "Loss became NaN at step 312 (last finite loss 1.84), with rows a07e1 (tickets.jsonl line 1), a07e2 (tickets.jsonl "
        "line 2). The checkpoint at step 300 is whole.\n"
        "    Look at those rows first; then train again with a smaller [train] learning_rate."
    )


def test_infinity_at_the_first_step_names_one_row() -> None:
    with pytest.raises(TrainingError) as caught:
        check_finite(float("inf"), "The gradient norm", 1, ROWS[:1], [], None)
    assert caught.value.what == (
        "The gradient norm became infinite at step 1, with row a07e1 (tickets.jsonl line 1). There is no checkpoint yet."
    )


def test_a_loss_far_above_its_start_is_divergence() -> None:
    check_course(curve(*[2.0] * 8, *[3.4] * 8), ROWS, None)
    with pytest.raises(TrainingError) as caught:
        check_course(curve(*[2.0] * 8, *[3.6] * 8), ROWS, 10)
    assert caught.value.what.startswith("The loss diverged: 2 over the first 8 steps, 3.6 over the last, at step 16, with rows")
    assert "and 2 more" in caught.value.what


def test_a_few_steps_are_no_course() -> None:
    check_course(curve(0.1, *[9.0] * 14), ROWS, None)
