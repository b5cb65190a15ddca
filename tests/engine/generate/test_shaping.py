"""Penalties, biases and cuts beside plain loops over tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.engine.generate.reference import reference_choice, reference_shape
from budwood.engine.generate.request import GenerationError, Request
from budwood.engine.generate.sampling import choose
from budwood.engine.generate.shaping import shape_logits

VOCAB = 300
TOKENS = st.integers(0, VOCAB - 1)
REQUESTS = st.builds(
    Request,
    prompt=st.lists(TOKENS, min_size=1, max_size=6).map(tuple),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    top_p=st.sampled_from([1.0, 0.9, 0.3]),
    top_k=st.sampled_from([0, 1, 7, 280]),
    min_p=st.sampled_from([0.0, 0.001, 0.2, 1.0]),
    presence_penalty=st.sampled_from([0.0, -1.5, 0.7]),
    frequency_penalty=st.sampled_from([0.0, -0.3, 1.9]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    logit_bias=st.dictionaries(TOKENS, st.sampled_from([-100.0, -2.5, 3.0, 100.0]), max_size=3),
    seed=st.integers(0, 1 << 62),
)


@given(st.lists(st.tuples(REQUESTS, st.lists(TOKENS, max_size=8)), min_size=1, max_size=5), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_every_row_gets_what_plain_loops_give_it(rows: list[tuple[Request, list[int]]], seed: int) -> None:
    requests, made = [row[0] for row in rows], [row[1] for row in rows]
    logits = torch.randn(len(rows), VOCAB, generator=torch.Generator().manual_seed(seed)) * 3
    before = logits.clone()
    shaped = shape_logits(logits, requests, made)
    assert torch.equal(logits, before)
    for row, (request, tokens) in enumerate(rows):
        expected = torch.tensor(reference_shape(logits[row].tolist(), request, tokens))
        torch.testing.assert_close(shaped[row], expected, rtol=1e-5, atol=1e-5)
    chosen = choose(logits, requests, [len(tokens) for tokens in made], shaped).tokens
    assert chosen == [reference_choice(logits[row].tolist(), request, tokens) for row, (request, tokens) in enumerate(rows)]


def test_nothing_is_copied_where_nobody_asks() -> None:
    logits = torch.randn(2, VOCAB)
    assert shape_logits(logits, [Request((1,)), Request((2,), temperature=1.0)], [[], [3]]) is logits


def test_min_p_looks_past_the_shortlist() -> None:
    request = Request((1,), temperature=1.0, min_p=0.5)
    draws = 2000
    drawn = choose(torch.zeros(1, VOCAB).expand(draws, VOCAB), [request] * draws, list(range(draws))).tokens
    assert len(set(drawn)) > 256


def test_what_is_out_of_range_is_refused_together() -> None:
    request = Request(
        (1,),
        min_p=1.5,
        presence_penalty=2.5,
        frequency_penalty=float("nan"),
        repetition_penalty=0.0,
        logit_bias={VOCAB: 1.0, 2: 101.0},
    )
    with pytest.raises(GenerationError) as error:
        request.check(vocab=VOCAB, context=1000)
    assert error.value.what == (
        "min_p = 1.5 is not within [0, 1]; presence_penalty = 2.5 is not within [-2, 2]; "
        "frequency_penalty = nan is not within [-2, 2]; repetition_penalty = 0.0 is not within (0, 10]; "
        "logit_bias names a token id outside 0..299; a bias in logit_bias is not within [-100, 100]."
    )
