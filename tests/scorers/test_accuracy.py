"""Scorers: what they must give, what must not change it, and hostile outputs in bounded time."""

import json
import random
import string

import pytest

from budwood.errors import EvaluationError
from budwood.scorers import SCORERS, scorer_named
from budwood.scorers.accuracy import last_number, normalise

GOLD = {
    "exact": ["refund", "a\nb", "…!"],
    "normalised": ["Refund.", "Straße 5", "!!!"],
    "label": ["card_arrival", "?"],
    "json_exact": ['{"a": [1, {"b": null}], "c": true}', "[1, 2]", "null"],
    "json_fields": ['{"intent": "refund", "order": null, "n": 2}'],
    "numeric": ["The answer is 1,234.5", "#### 72", "-3"],
    "chrf": ["The kettle is broken.", "x", "ß"],
    "bleu": ["The kettle is broken.", "x", "The cat sat on the mat today"],
}
PAIRS = [(name, gold) for name, golds in GOLD.items() for gold in golds]
HOSTILE = {
    "10 MB": "x" * 10_000_000,
    "10 MB of digits": "7" * 10_000_000,
    "10 MB of brackets": "[" * 10_000_000,
    "a million brackets": "[" * 1_000_000,
    "deep objects": '{"a":' * 100_000,
    "deep but closed": "[" * 5000 + "]" * 5000,
    "quotes": '{"a": "' + '\\"' * 400_000,
    "lone surrogates": "\ud800" * 1000 + "\udfff",
    "combining marks": "a" + "\u0315\u0300" * 4000,
    "expanding ligatures": "\ufdfa" * 5000,
    "blank lines": "\n" * 200_000,
    "NUL and ANSI": "\x00\x1b[2J" * 1000,
    "program": "__import__('os').system('touch pwned')",
    "many digits": '{"a": ' + "9" * 100_000 + "}",
    "huge number": '{"a": 1e999}',
    "regex bait": "1," * 100_000 + "1e" * 100_000,
}


def test_every_scorer_is_tried() -> None:
    assert set(GOLD) == set(SCORERS)


@pytest.mark.parametrize(("name", "gold"), PAIRS)
def test_the_gold_answer_scores_one_and_an_empty_one_zero(name: str, gold: str) -> None:
    score = scorer_named(name).score
    assert score(gold, gold) == 1.0
    assert score(gold, f" {gold}\n") == 1.0
    assert score(gold, "") == 0.0
    assert score(gold, " \n") == 0.0


@pytest.mark.parametrize(("name", "gold"), PAIRS)
def test_noise_does_not_make_a_wrong_answer_right(name: str, gold: str) -> None:
    score = scorer_named(name).score
    generator = random.Random(5)
    for _ in range(30):
        wrong = "Ωµ " + "".join(generator.choices(string.ascii_letters, k=9))
        noise = "".join(generator.choices(string.ascii_letters + " {}[],.:;\"'\\\n", k=40))
        value = score(gold, wrong + noise)
        assert value is not None
        assert 0 <= value < 1


@pytest.mark.parametrize("name", SCORERS)
def test_a_score_depends_on_its_own_case_alone(name: str) -> None:
    pairs = [(gold, output) for gold in GOLD[name] for output in (gold, gold[::-1], "refund 5", "")]
    forth = [scorer_named(name).score(*pair) for pair in pairs]
    back = [scorer_named(name).score(*pair) for pair in reversed(pairs)]
    assert forth == back[::-1]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", HOSTILE)
def test_bad_67_hostile_outputs_cost_bounded_time_and_score_nothing(what: str) -> None:
    output = HOSTILE[what]
    for name, scorer in SCORERS.items():
        value = scorer.score(GOLD[name][0], output)
        assert value is not None
        assert 0 <= value < 0.2, name


@pytest.mark.parametrize(
    ("name", "expected", "output", "value"),
    [
        ("exact", "refund", "Refund", 0.0),
        ("normalised", "refund", " REFUND. ", 1.0),
        ("normalised", "ﬁne", "fine", 1.0),
        ("normalised", "two words", "two   words", 1.0),
        ("normalised", "two words", "twowords", 0.0),
        ("normalised", "-5", "5", 0.0),
        ("label", "card_arrival", "Card_arrival\nbecause the card has not come", 1.0),
        ("label", "card_arrival", "I think card_arrival", 0.0),
        ("json_exact", '{"a": 1, "b": 2}', '{ "b":2,\n"a":1 }', 1.0),
        ("json_exact", '{"a": 1}', '{"a": true}', 0.0),
        ("json_exact", '{"a": 1}', '{"a": 1.0}', 1.0),
        ("json_exact", '{"a": 1}', '{"a": 1, "b": 2}', 0.0),
        ("json_exact", '{"a": 1}', '```json\n{"a": 1}\n```', 0.0),
        ("json_exact", '{"a": 1}', '{"a": 2, "a": 1}', 0.0),
        ("json_exact", "[1, 2]", "[2, 1]", 0.0),
        ("json_exact", "not JSON", "not JSON", None),
        ("json_exact", "null", "None", 0.0),
        ("json_fields", '{"a": 1, "b": 2}', '{"a": 1, "b": 3, "c": 4}', 0.5),
        ("json_fields", '{"a": 1, "b": 2}', '{"a": 1}', 0.5),
        ("json_fields", '{"a": 1, "b": null}', '{"a": 1}', 0.5),
        ("json_fields", '{"a": 1}', '["a", 1]', 0.0),
        ("json_fields", "[1]", "[1]", None),
        ("numeric", "#### 72", "So it is 72 apples.", 1.0),
        ("numeric", "#### 72", "72 or 73", 0.0),
        ("numeric", "1000", "$1,000.00", 1.0),
        ("numeric", "no number", "5", None),
        ("numeric", "5", "five", 0.0),
        ("bleu", "one two three four", "five six seven eight", 0.0),
    ],
)
def test_scores(name: str, expected: str, output: str, value: float | None) -> None:
    assert scorer_named(name).score(expected, output) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("about 1,234.5 km", 1234.5),
        ("3-5", 5),
        ("x = -5.", -5),
        ("(\u22123)", -3),
        ("3, 4,5", 5),
        ("-2e3", -2000),
        ("2.5e-3.", 0.0025),
        ("version 1.2.3", None),
        ("9" * 400, None),
        ("1e999", None),
        ("٣", 3),
        ("none", None),
    ],
)
def test_last_number(text: str, value: float | None) -> None:
    assert last_number(text) == value


def test_a_number_cut_in_half_is_no_number() -> None:
    noise = " " * 19_998
    assert scorer_named("numeric").score("72", "1" + "72" + noise) == 0.0


def test_chrf_and_bleu_are_sacrebleus_own() -> None:
    from sacrebleu import sentence_bleu, sentence_chrf

    expected, output = "The kettle of order K8 is broken.", "A kettle of the order K8 broke down."
    assert scorer_named("chrf").score(expected, output) == pytest.approx(sentence_chrf(output, [expected]).score / 100)
    assert scorer_named("bleu").score(expected, output) == pytest.approx(sentence_bleu(output, [expected]).score / 100)


def test_punctuation_alone_is_not_nothing() -> None:
    assert normalise("!!!") == "!!!"
    assert normalise("  ") == ""


def test_json_may_hold_brackets_in_strings() -> None:
    value = json.dumps({"a": "[" * 500 + '"{'})
    assert scorer_named("json_exact").score(value, value) == 1.0


def test_an_unknown_scorer_is_named_with_its_neighbour() -> None:
    with pytest.raises(EvaluationError) as error:
        scorer_named("json_field")
    assert str(error.value) == (
        "There is no scorer 'json_field'. Nearest: json_fields. In [evaluate].\n"
        "    Known scorers: exact, normalised, label, json_exact, json_fields, numeric, chrf, bleu."
    )
