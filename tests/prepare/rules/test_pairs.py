"""What rules say of a plain pair from its texts alone: whoever says that it leaves the row gives the row itself."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import ftfy.badness
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.identity import Digest
from budwood.prepare.row import Message, Origin, Row
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.length import Length
from budwood.prepare.rules.prompt_echo import _HEAD, _QUOTES, _bare, _may_echo
from budwood.prepare.rules.rule import Pair, PairRule, TextRule, is_plain
from budwood.prepare.rules.unicode import _is_bad
from budwood.recipe import PrepareSection

SAID = [
    "Where is my order 48213", "write to ann@example.org", "card 4111 1111 1111 1111", "password: hunter22!", "n/a", "TODO",
    "As an AI language model I cannot", "I'm sorry, but I can't assist with that.", "I opened the link and read it.",
    "https://example.org/a.pdf", "it is the", "a list:", "yes", "no", "Yes", "[your answer here]", "kettle",
    "lorem ipsum dolor", "Question: is it so", "the kettle is broken and so on", "```", "pay",
    "\"", "\\", "  ", "\n", "\t", ".", ",",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(SAID), min_size=1, max_size=6).map(" ".join).map(str.strip).filter(is_plain).filter(bool)
SECTION: dict[str, Any] = {"labels": ("yes", "no"), "forbidden": ("kettle",), "forbidden_where": "answers"}
SECTIONS = [{}, SECTION, {"language": "flag"}, {"forbidden": ("kettle",)}, {"truncated": "off", "refusal": "off"}]


def row_of(asked: str, answered: str, note: str) -> Row:
    messages = (Message("user", asked), Message("assistant", answered))
    return Row("0" * 16, Origin("a", Digest("a" * 64), 1), messages, {"note": note, "n": 1}, 1.0, "auto")


@pytest.mark.parametrize("section", SECTIONS)
@given(asked=TEXT, answered=TEXT, note=TEXT, echoes=st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_rule_that_leaves_a_pair_gives_the_row_itself(
    section: dict[str, Any], asked: str, answered: str, note: str, echoes: bool
) -> None:
    answered = f"{asked} {answered}" if echoes else answered
    row, pair = row_of(asked, answered, note), Pair(asked, answered, f"{asked}\n{answered}\n{note}")
    for rule in build_rules(PrepareSection(**section), folder=Path(), token_length=None, context=0):
        if isinstance(rule, PairRule) and rule.leaves(pair):
            assert rule.apply(row) is row, rule.name
        if isinstance(rule, TextRule) and rule.leaves_plain:
            assert rule.apply(row) is row, rule.name


def test_all_rules_but_a_recipe_s_own_can_tell() -> None:
    rules = build_rules(PrepareSection(), folder=Path(), token_length=None, context=0)
    assert [rule.name for rule in rules if not isinstance(rule, PairRule | TextRule | Length)] == []
    ordinary = Pair("Where is my order?", "It was sent on Monday and should be with you soon.", "")
    assert all(rule.leaves(replace_whole(ordinary)) for rule in rules if isinstance(rule, PairRule))


def replace_whole(pair: Pair) -> Pair:
    return pair._replace(whole=f"{pair.asked}\n{pair.answered}")


@pytest.mark.parametrize("limit", [0, 5, 9])
def test_tokens_of_pairs_are_those_of_rows(limit: int) -> None:
    def count(messages: list[dict[str, Any]], tools: Any = (), /) -> int:
        return sum(len(message["role"] + message["content"]) for message in messages) - 13

    rule = replace(Length(), limit=limit, token_length=count)
    pairs = [Pair("a" * size, "b", "") for size in range(1, 12)]
    outcomes = rule.apply_all([row_of(pair.asked, pair.answered, "") for pair in pairs])
    assert rule.measure(pairs) == [one.tokens if isinstance(one, Row) else None for one in outcomes]
    assert rule.measures
    assert not Length().measures


WORDS = st.lists(st.sampled_from(["Kettle", "kettle,", "(is)", "broken", "now", "ÄrGer", "ß", "--", "a", "\n"]), max_size=60)


@given(WORDS, WORDS, st.booleans())
@settings(deadline=None)
def test_an_echo_is_given_up_at_the_first_word_as_it_would_be_at_all(asked: Any, answered: Any, same: bool) -> None:
    prompt, answer = " ".join(asked), " ".join([*asked, *answered] if same else answered)
    head = answer[: 2 * _HEAD].casefold()
    words = [word.strip(_QUOTES) for word in prompt[:_HEAD].casefold().split()[:5]]
    begins = not any(word not in head for word in words if word.isascii())
    first = _bare(prompt[:_HEAD])[:12]
    ends = abs(len(answer) - len(prompt)) * 20 <= len(prompt)
    ends = ends and prompt.rstrip(_QUOTES + " \n\t")[-10:].casefold() in answer.casefold()
    whole = begins and len(first) >= 12 and first in _bare(answer[:_HEAD])
    assert _may_echo(prompt, answer) == (len(answer) >= len(prompt) // 2 and (ends or whole))


def test_mojibake_is_seen_around_foreign_signs_as_in_the_whole() -> None:
    draw = random.Random(5)
    foreign = [*sorted(set("".join(ftfy.badness.MOJIBAKE_CATEGORIES.values())) | set("ÂÃÎÐŒœØÙà√≈‚ÄâвЂВГРСўāē€β×²³")), "ГўВЂВ"]
    seen = 0
    for _ in range(8_000):
        parts = [
            draw.choice(foreign) if draw.random() < 0.4 else draw.choice("ab c.,Z\n9") * draw.choice([1, 1, 2, 7, 8, 9, 17])
            for _ in range(draw.randrange(1, 14))
        ]
        text = "".join(parts)
        assert _is_bad(text) == ftfy.badness.is_bad(text), text
        seen += _is_bad(text)
    assert seen > 800
