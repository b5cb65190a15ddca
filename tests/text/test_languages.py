"""Languages: told by script or by n-grams, or not at all."""

import pytest

from budwood.text.languages import are_near, language, script


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is my order? I have been waiting for it since last Tuesday.", "en"),
        ("Wo ist meine Bestellung? Ich warte seit dem letzten Dienstag darauf.", "de"),
        ("Où est ma commande ? Je l'attends depuis mardi dernier.", "fr"),
        ("Где мой заказ? Я жду его уже с прошлого вторника.", "ru"),
        ("注文はどこですか。先週から待っています。", "ja"),
        ("我的订单在哪里？我从上周二开始等。", "zh"),
        ("제 주문은 어디에 있나요? 지난주부터 기다리고 있습니다.", "ko"),
        ("Πού είναι η παραγγελία μου; Περιμένω από την Τρίτη.", "el"),
        (
            "```python\nfor i in range(3): print(i)\n``` Das Programm gibt nacheinander drei Zahlen aus, und dann endet es.",
            "de",
        ),
        ("OK, 42.", ""),
        ("", ""),
        ("A7-48213 10:30 https://example.org/a/very/long/address/in/english", ""),
    ],
)
def test_languages_are_told_or_left_open(text: str, code: str) -> None:
    assert language(text) == code


def test_scripts_tell_where_words_are_too_few() -> None:
    assert script("Почему небо голубое?") == "Cyrillic"
    assert script("The light is scattered.") == "Latin"
    assert script("空はなぜ") == "CJK"
    assert script("Oslo") == ""
    assert script("Слово word слово words слово more") == ""


def test_near_languages_are_not_held_against_each_other() -> None:
    assert are_near("da", "no")
    assert are_near("en", "en")
    assert not are_near("en", "de")
