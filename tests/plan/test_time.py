from dataclasses import replace

import pytest

from budwood.plan.lengths import Lengths
from budwood.plan.machine import Machine
from budwood.plan.shape import BaseShape
from budwood.plan.time import EFFICIENCY, Work, operations, seconds


@pytest.fixture
def work(lengths: Lengths) -> Work:
    return Work(lengths, epochs=2.0, validations=3, tokens_per_pass=1_000, precision="float32")


TOKENS, SUPERVISED = 10_000, 1_000
ATTENTION = 6 * 2 * 1_000 * 100 * 100**2
FORWARD = 2_000 * (2 * 160e6 + 2 * 10_000 * 1_000 * 0.1)


def test_lora_counts_four_a_weight_and_six_of_its_own(shape: BaseShape, work: Work) -> None:
    epoch = 4 * 160e6 * TOKENS + 6 * 1e6 * TOKENS + 4 * 10_000 * 1_000 * SUPERVISED + ATTENTION
    assert operations("lora", shape, 1_000_000, work) == pytest.approx(2 * epoch + 3 * FORWARD)


def test_full_counts_six(shape: BaseShape, work: Work) -> None:
    epoch = 6 * 160e6 * TOKENS + 6 * 10_000 * 1_000 * SUPERVISED + ATTENTION
    assert operations("full", shape, 200_000_000, work) == pytest.approx(2 * epoch + 3 * FORWARD)


def test_only_the_experts_that_a_token_meets_count(shape: BaseShape, work: Work) -> None:
    experts = replace(shape, expert_parameters=80_000_000, expert_share=0.25)
    more = operations("lora", experts, 0, work) - operations("lora", shape, 0, work)
    assert more == pytest.approx(20e6 * (4 * TOKENS * 2 + 2 * 2_000 * 3))


def test_seconds_follow_the_measured_rate(shape: BaseShape, work: Work, machine: Machine) -> None:
    count = operations("lora", shape, 1_000_000, work)
    assert seconds("lora", shape, 1_000_000, work, machine) == pytest.approx(count / (1e11 * EFFICIENCY["float32"]))
    faster = seconds("lora", shape, 1_000_000, replace(work, precision="bfloat16"), machine)
    assert faster == pytest.approx(count / (4e11 * EFFICIENCY["bfloat16"]))


def test_qlora_expands_each_weight_twice_a_pass(shape: BaseShape, work: Work, machine: Machine) -> None:
    more = seconds("qlora", shape, 1_000_000, work, machine) - seconds("lora", shape, 1_000_000, work, machine)
    passes, validating = 2 * 10, 3 * 2
    assert more == pytest.approx((2 * passes + validating) * 160e6 / 1e8)
