"""Lists of terms: found in any spelling, as whole words, and by their place."""

import pytest

from budwood.text.terms import TermList

TERMS = TermList(["idiot", "damn*", "go to hell", "c++", "馬鹿", "naïve"])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("You IDIOT!", 1), ("an ídïot", 1), ("ｉｄｉｏｔ", 1), ("id\u00adiot", 1), ("(idiot)", 1), ("idiot", 1),
        ("damned", 2), ("Goddamn", 0), ("go\nto  HELL.", 3), ("idiotic", 0), ("we use C++ here", 4), ("cc", 0),
        ("あの馬鹿者", 5), ("NAIVE people", 6), ("", 0),
    ],
)  # fmt: skip
def test_terms_are_found_in_any_spelling(text: str, place: int) -> None:
    assert TERMS.first(text) == place


def test_no_terms_find_nothing_and_an_empty_one_is_refused() -> None:
    assert TermList([]).first("anything") == 0
    with pytest.raises(ValueError, match="holds nothing to look for"):
        TermList(["a", " *"])
