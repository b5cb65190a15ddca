"""Patterns in linear time: the two libraries behind them agree with each other and, where Python knows the syntax, with it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.text.linear import LinearPattern, gate

PATTERNS = [r"\d+", r"\w+@\w+", r"[\w.]+x", r"\s", r"\S\S", r"\Wb", r"^a", r"b$", r"(?i)straße", r"[^\d\s]", r"a{2,3}", r"é|ü"]
TEXTS = st.text(alphabet="abxXé üßſ٣4 \n@._-", max_size=12)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_it_finds_what_it_replaces_and_what_python_finds(pattern: str, text: str) -> None:
    compiled = LinearPattern(pattern)
    # $ matches before a last line end in Python only.
    expected = re.search(pattern.replace("$", r"\Z"), text) is not None
    assert compiled.search(text) == expected
    assert (compiled.replace(text, "«»") != text) == expected


def test_a_replacement_stands_as_it_is_written() -> None:
    assert LinearPattern(r"order (\d+)").replace("my order 48213", "$1 \\1 ${0}") == "my $1 \\1 ${0}"


def test_a_pattern_that_hangs_others_ends_at_once() -> None:
    assert LinearPattern(r"(a+)+$").search("a" * 50_000 + "!") is False


def test_half_characters_are_no_fault() -> None:
    assert LinearPattern("a").search("\ud800a")
    assert not LinearPattern("b").search("\ud800a")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?=a)b", ": it looks around"),
        (r"(?<!a)b", ": it looks around"),
        (r"(a)\1", ": it refers back to a group"),
        ("(a", ": missing ), unterminated subpattern at character 1"),
        (r"[\W_]", r"has \W inside brackets"),
    ],
)
def test_what_it_cannot_do_is_refused_and_named(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        LinearPattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?<!\w)a\d{2}(?!\d)",
        r"(?i)\b(?P<x>ab)([ -])c\2d\b",
        r"(?<![\w/])(?<!\w[-.])x(?!-?\w)",
        r"[\])]x(?=(?:a|b(c)))",
    ],
)
@given(text=st.text(alphabet="abcdABCD12 -_/.)]xé", max_size=14))
@settings(max_examples=80, deadline=None)
def test_a_gate_never_closes_before_the_exact_pattern(pattern: str, text: str) -> None:
    if re.search(pattern, text):
        assert LinearPattern(gate(pattern)).search(text)
