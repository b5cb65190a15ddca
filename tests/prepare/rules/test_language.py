"""language: allowed languages and mismatches, and what is let be."""

import pytest
from tests.prepare.rules.making import dropped, flagged, row

from budwood.errors import RecipeError
from budwood.prepare.rules.language import Language, with_languages

ENGLISH = "Where is my order? I have been waiting for it since last week."
GERMAN = "Ihre Bestellung ist unterwegs und wird voraussichtlich morgen geliefert."
RUSSIAN = "Ваш заказ уже в пути, и его доставят завтра утром."


def test_what_is_in_no_allowed_language_is_named_with_its_place() -> None:
    rule = with_languages(("en", "de"), action="drop")
    assert dropped(rule, row(ENGLISH, RUSSIAN)) == "assistant message 2 is in 'ru'"
    assert dropped(rule, row(RUSSIAN, ENGLISH)) == "user message 1 is in 'ru'"


def test_an_answer_in_another_language_than_its_prompt() -> None:
    assert flagged(Language(action="flag"), row(ENGLISH, GERMAN)) == "an answer in 'de' to a prompt in 'en'"
    assert flagged(Language(action="flag"), row("Почему небо голубое?", "It is blue because air scatters light.")).startswith(
        "an answer in"
    )


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (ENGLISH, ENGLISH),
        (ENGLISH, "OK"),
        (f"Translate into German: {ENGLISH}", GERMAN),
        (f"{ENGLISH} Please answer in Russian.", RUSSIAN),
        ("Hi", GERMAN),
    ],
)
def test_no_mismatch_where_it_may_be_meant_or_cannot_be_told(prompt: str, answer: str) -> None:
    given = row(prompt, answer)
    assert Language(action="drop").apply(given) is given


def test_off_does_nothing() -> None:
    given = row(ENGLISH, RUSSIAN)
    assert Language(allowed=("en",)).apply(given) is given


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"There is no language 'eng'; near it: en"):
        with_languages(("eng",), action="flag")
