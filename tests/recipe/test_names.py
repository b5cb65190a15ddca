"""Names that the recipe knows by itself are those of the rooms that it may not look into."""

from pathlib import Path

import pytest

from budwood.errors import StoreError
from budwood.prepare.rules.build import build_rules
from budwood.recipe import PrepareSection
from budwood.recipe import evaluate as evaluate_section
from budwood.recipe import names as recipe_names
from budwood.recipe import prepare as prepare_section
from budwood.scorers import SCORERS
from budwood.store import check_alias, check_name

WORDS = (
    *("production", "a", "9lives", "support-triage_2.1", "x" * 64, "facade", "face", "dead-beef", "a.b"),
    *("", "x" * 65, "Prod", "Prod X", "-a", "a-", ".", "..", "a/b", "a\\b", "a\0", "é", "a\n", "latest", "base", "none"),
    *("all", "default", "1", "123", "012345", "abcdef", "abcde", "deadbeef", "0" * 64, "\u200ba"),
)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("what", ["name", "alias"])
def test_the_recipe_takes_the_names_that_the_store_takes(what: str, word: str) -> None:
    ours, theirs = (recipe_names.check_name, check_name) if what == "name" else (recipe_names.check_alias, check_alias)
    try:
        theirs(word)
    except StoreError:
        with pytest.raises(ValueError):  # noqa: PT011  # the sentences are tested where they are shown
            ours(word)
    else:
        assert ours(word) == word


def test_the_recipe_knows_every_scorer() -> None:
    assert set(evaluate_section.SCORERS) == set(SCORERS)


def test_the_recipe_knows_every_rule() -> None:
    rules = build_rules(PrepareSection(), folder=Path(), token_length=None, context=0)
    assert [rule.name for rule in rules if rule.name != "tool_turns"] == [
        name for name in prepare_section.RULES if name != "user"
    ]
