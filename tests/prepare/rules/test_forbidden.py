"""forbidden: terms of the recipe and of a file; the record tells their place and not their words."""

from pathlib import Path

import pytest
from tests.prepare.rules.making import dropped, flagged, row

from budwood.errors import RecipeError
from budwood.prepare.rules.forbidden import Forbidden, with_terms


def test_terms_of_the_recipe_and_of_the_file_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("\ufeff# rude\nblockhead\n\n  go to hell  \n", encoding="utf-8")
    rule = with_terms(("nitwit*",), tmp_path / "terms.txt", action="drop", where="anywhere")
    assert dropped(rule, row("You BLÖCKHEAD!", "Fine.")) == "user message 1 holds forbidden term 2"
    assert dropped(rule, row("Fine?", "Nitwits, go to hell.")) == "assistant message 2 holds forbidden term 1"
    assert rule.options()["terms"] == 3
    assert "blockhead" not in str(rule.options())


def test_answers_alone_and_flags() -> None:
    rule = with_terms(("blockhead",), None, action="flag", where="answers")
    given = row("You blockhead!", "Fine.")
    assert rule.apply(given) is given
    assert flagged(rule, row("Hm?", "Blockhead.")) == "assistant message 2 holds forbidden term 1"


def test_without_terms_it_does_nothing() -> None:
    given = row("a", "b")
    assert Forbidden().apply(given) is given


@pytest.mark.parametrize(("content", "said"), [(None, "There is no readable list 'terms.txt'"), (b"\xff\xfe", "is not UTF-8")])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(RecipeError, match=said):
        with_terms((), tmp_path / "terms.txt", action="drop", where="anywhere", shown="terms.txt")
    with pytest.raises(RecipeError, match="holds nothing to look for"):
        with_terms(("*",), None, action="drop", where="anywhere")
