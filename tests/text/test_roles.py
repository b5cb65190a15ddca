"""Frames of roles: words are told apart by what they may do, frames find what no list of phrases holds, gates lose nothing."""

import tomllib
from pathlib import Path

import pytest

from budwood.text.wording.roles import Grammar, grammar, without_code

FILES = ("access_roles", "refusal_roles", "placeholder_roles")


@pytest.mark.parametrize("file", FILES)
def test_a_word_has_one_sign_and_a_mark_another(file: str) -> None:
    known = grammar(file)
    assert len(known.roles_of("the parcel, the parcel.")) == len([".", "the", "parcel", ",", "the", "parcel", "."])
    assert known.roles_of("Parcel") == known.roles_of("**parcel**")


def test_words_outside_the_lexicon_go_by_their_looks() -> None:
    known = grammar("access_roles")
    unknown, adverb, number = (known.signs[word] for word in ("wombat", "gingerly", "4711x"))
    assert len({unknown, adverb, number}) == 3
    assert (known.signs["gadfly-like"], known.signs["suddenly"], known.signs["12"]) == (unknown, adverb, number)


@pytest.mark.parametrize(
    "text",
    [
        "i checked your account.",
        "we've double-checked the booking.",
        "i canceled it, then looked into your invoice.",
        "one of our technicians has inspected the router.",
        "i'm viewing your order right now.",
    ],
)
def test_forms_of_verbs_and_who_acts_are_told(text: str) -> None:
    assert _found("access_roles", text)


@pytest.mark.parametrize(
    "text", ["i haven't checked your account.", "i will check your account.", "check your account.", "did you?"]
)
def test_what_is_denied_or_to_come_is_no_claim(text: str) -> None:
    assert not _found("access_roles", text)


def test_code_says_nothing() -> None:
    assert without_code("See:\n```python\nread(i)\n```\nDone.").split() == ["See:", "…", "Done."]
    assert without_code("See:\n```python\nread(i)").split() == ["See:", "…"]


@pytest.mark.parametrize(("file", "kind"), [("access_roles", "false_access"), ("refusal_roles", "refusal")])
def test_gates_let_through_what_frames_find(file: str, kind: str) -> None:
    lists = Path(__file__).parents[2] / "benchmarks" / "dirt_first_sight.toml"
    rounds = tomllib.loads(lists.read_text(encoding="utf-8"))
    texts = [text.lower() for kinds in rounds.values() for text in kinds[kind]]
    found = [text for text in texts if _found(file, text)]
    stopped = [text for text in found if not grammar(file).may_match(text)]
    assert len(found) > 0.8 * len(texts)
    assert len(stopped) < 0.02 * len(found), stopped


def _found(file: str, text: str) -> bool:
    known: Grammar = grammar(file)
    signs = known.roles_of(text)
    return any(known.matches(frame, signs) for frame in known.frames)
