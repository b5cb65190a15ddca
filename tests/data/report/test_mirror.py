"""Samples of prompts compared: what production holds and the held-out set does not is found and named."""

import random

import pytest
from tests.data.report.conftest import Bench, Reader, questions

from budwood.data.report.gather import Prompt
from budwood.data.report.mirror import compare
from budwood.data.report.production import read_production
from budwood.errors import DataError


def prompts(seed: int, count: int, *, extra: str = "", share: float = 0.0) -> list[Prompt]:
    drawn = random.Random(seed)
    words = [f"word{number}" for number in range(120)]
    texts = [" ".join([*drawn.choices(words, k=9), *([extra] if drawn.random() < share else [])]) for _ in range(count)]
    return [Prompt(text, f"{seed}-{number}") for number, text in enumerate(texts)]


def test_two_draws_of_one_source_cannot_be_told_apart() -> None:
    found = compare(("test", "production"), prompts(1, 200), prompts(2, 200))
    assert found.sentence.startswith("Production and test cannot be told apart: AUC 0.")
    assert found.apart == ()


def test_what_production_asks_besides_is_named_with_its_shares() -> None:
    found = compare(("test", "production"), prompts(3, 250), prompts(4, 250, extra="bitcoin wallet", share=0.6))
    assert found.sentence.startswith("Production differs")
    named = {term.text: term for term in found.terms[1]}
    assert "bitcoin" in named or "wallet" in named or "bitcoin wallet" in named
    best = found.terms[1][0]
    assert best.first == 0.0
    assert 0.5 < best.second < 0.7
    assert best.weight > 0
    assert all("bitcoin" in prompt for prompt in found.apart)


def test_the_same_prompts_on_both_sides_do_not_count_as_a_difference() -> None:
    same = prompts(5, 150)
    found = compare(("test", "production"), same, [Prompt(one.text.upper(), "log") for one in same])
    assert "cannot be told apart" in found.sentence


def test_a_log_may_hold_prompts_messages_and_rows(bench: Bench) -> None:
    log = bench.write(
        "log.jsonl",
        [
            {"prompt": "one"},
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "two"}], "channel": "app"},
            {"messages": [{"role": "user", "content": "three"}, {"role": "assistant", "content": "answer"}]},
            {"conversations": [{"from": "human", "value": "four"}]},
            {"instruction": "five", "input": "six"},
            {"text": "seven"},
            {"prompt": 8, "completion": "x"},
            {"nothing": 1},
            {"prompt": "   "},
        ],
    )
    recipe = bench.recipe({"path": "rows.jsonl", "columns": {"prompt": "text", "completion": "label"}})
    found = read_production(log, recipe)
    assert {one.text for one in found.prompts} == {"one", "two", "three", "four", "five\n\nsix", "seven", "8"}
    assert (found.read, found.unusable) == (9, 2)
    assert found.slices.by_name["channel"].counts["app"]["production"] == 1
    with pytest.raises(DataError, match=r"No record of .*log2.jsonl has a prompt; keys: 'query'\."):
        read_production(bench.write("log2.jsonl", [{"query": "x"}]), None)


def test_the_page_says_what_is_missing(bench: Bench) -> None:
    bench.write("rows.jsonl", questions(300))
    log = bench.write(
        "log.jsonl", [{"prompt": f"bitcoin wallet {n * 7919 % 997} stuck", "channel": ("fax", "web")[n % 2]} for n in range(60)]
    )
    recipe = bench.recipe("rows.jsonl", validation=0.2, test=0.3)
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe, production=log)
    said = Reader(page).text
    assert [one.second for one in facts.comparisons] == ["validation", "test", "production"]
    assert "Production differs strongly from test" in said
    assert "channel: fax (50.0%)" in said
    assert "60 records read from log.jsonl" in said
