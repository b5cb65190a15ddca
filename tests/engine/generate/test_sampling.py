import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from budwood.engine.generate.request import Request
from budwood.engine.generate.sampling import choose, uniform

VOCAB = 600


def logits(rows: int, *, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * scale


def request(**settings: float) -> Request:
    return Request((1,), **settings)  # type: ignore[arg-type]


def test_greedy_takes_the_likeliest_and_the_first_of_equals() -> None:
    table = logits(3)
    table[1] = 0.0
    assert choose(table, [request()] * 3, [0] * 3).tokens == [int(table[0].argmax()), 0, int(table[2].argmax())]


def test_a_draw_depends_on_seed_and_index_and_not_on_the_neighbours() -> None:
    table = logits(1).expand(6, VOCAB).clone()
    mixed = [
        request(temperature=1.0, seed=7),
        request(temperature=0.5, top_p=0.4, seed=3),
        request(),
        request(temperature=1.0, top_k=600, seed=7),
        request(temperature=1.3, top_k=5, seed=9),
        request(temperature=2.0, top_p=0.999, seed=1),
    ]
    together = choose(table, mixed, [4] * 6).tokens
    for row, alone in enumerate(mixed):
        assert choose(table[:1], [alone], [4]).tokens == together[row : row + 1]
    assert len({choose(table[:1], [mixed[0]], [index]).tokens[0] for index in range(50)}) > 3


def test_numbers_are_even_and_never_one() -> None:
    numbers = [uniform(seed, index) for seed in range(-20, 80) for index in range(100)]
    assert all(0 <= number < 1 for number in numbers)
    counts = Counter(int(number * 10) for number in numbers)
    # 1,000 expected in each tenth, standard deviation 30.
    assert all(abs(counts[tenth] - 1000) < 150 for tenth in range(10))
    assert uniform(1 << 64, 0) != uniform(0, 0)


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"top_k": 20}, {"top_k": 50, "top_p": 0.8}])
def test_draws_follow_the_probabilities(settings: dict[str, float]) -> None:
    table, draws, temperature = logits(1), 4000, 1.5
    probabilities = (table[0].double() / temperature).softmax(0)
    order = probabilities.argsort(descending=True)
    kept = order[: int(settings.get("top_k", VOCAB))]
    mass = probabilities[kept] / probabilities[kept].sum()
    kept = kept[(mass.cumsum(0) - mass) < settings.get("top_p", 1.0)]
    expected = torch.zeros(VOCAB, dtype=torch.float64)
    expected[kept] = probabilities[kept] / probabilities[kept].sum()
    wanted = request(temperature=temperature, **settings)
    counts = Counter(choose(table.expand(draws, VOCAB), [wanted] * draws, list(range(draws))).tokens)
    assert set(counts) <= set(kept.tolist())
    for token in kept[:10].tolist():
        share = float(expected[token])
        # Six standard deviations of a count.
        assert abs(counts[token] / draws - share) < 6 * math.sqrt(share * (1 - share) / draws)


def test_flat_rows_need_more_than_the_shortlist_for_top_p() -> None:
    table, draws = torch.zeros(1, VOCAB), 3000
    wanted = request(temperature=1.0, top_p=0.9)
    drawn = set(choose(table.expand(draws, VOCAB), [wanted] * draws, list(range(draws))).tokens)
    assert 256 < len(drawn) <= math.ceil(0.9 * VOCAB)


def test_a_tiny_temperature_is_greedy() -> None:
    table = logits(4)
    assert choose(table, [request(temperature=1e-9, seed=5)] * 4, [0] * 4).tokens == table.argmax(-1).tolist()


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_fail_alone(settings: dict[str, float], value: float) -> None:
    table = logits(3)
    good = choose(table, [request(**settings)] * 3, [0] * 3).tokens
    table[1, 7] = value
    assert choose(table, [request(**settings)] * 3, [0] * 3).tokens == [good[0], -1, good[2]]


def test_logprobs_are_the_models_own() -> None:
    table = logits(2)
    masked = table.clone()
    masked[0, int(table[0].argmax())] = -math.inf
    found = choose(table, [request(logprobs=3), request()], [0, 0], masked)
    expected = table[0].double().log_softmax(0)
    assert found.tokens[0] == int(table[0].topk(2).indices[1])
    assert found.logprobs[0] == pytest.approx(float(expected[found.tokens[0]]), abs=1e-5)
    assert [token for token, _ in found.top[0]] == table[0].topk(3).indices.tolist()
    assert [value for _, value in found.top[0]] == pytest.approx(expected.topk(3).values.tolist(), abs=1e-5)
    assert found.logprobs[1] is None
    assert found.top[1] == ()


def test_forced_tokens_take_the_place_of_the_chosen() -> None:
    table = logits(1)
    forced = Request((1,), forced=(5, 6), max_new_tokens=2, logprobs=0)
    assert choose(table, [forced], [1]).tokens == [6]
