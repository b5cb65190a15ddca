"""Rules of the recipe's own: patterns and functions do what they say, and their faults name row, file and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.prepare.rules.making import dropped, flagged, kept, row

from budwood.errors import DataError, RecipeError
from budwood.identity import digest_file
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.rule import Rule
from budwood.recipe import PrepareSection, recipe_from_mapping

CODE = """
def check(row):
    answer = row["messages"][-1]["content"]
    if answer == "drop":
        return "drop", "wrote ann@example.org"
    if answer == "flag":
        return "flag", "seen"
    if answer == "crash":
        return {}["secret text"]
    if answer == "odd":
        return 3
    if answer == "pair":
        return "maybe", ""
    if answer == "broken":
        return {"messages": [{"role": "user"}]}
    row["messages"][-1]["content"] = answer.replace("colour", "color")
    row["slices"]["n"] = 9
    return None if answer == "keep" else row
"""


def own(folder: Path, **rule: Any) -> Rule:
    section = PrepareSection.model_validate({"rules": ["user"], "user": [{"name": "mine", **rule}]})
    return next(made for made in build_rules(section, folder=folder, token_length=None, context=0) if made.name == "mine")


def test_a_pattern_drops_flags_or_changes(tmp_path: Path) -> None:
    pattern = r"(?i)\bticket \d+"
    assert dropped(own(tmp_path, pattern=pattern), row("Ticket 12", "x")) == "found in user message 1"
    assert flagged(own(tmp_path, pattern=pattern, action="flag"), row("a", "ticket 7")) == "found in assistant message 2"
    changed = kept(own(tmp_path, pattern=pattern, action="change", replacement="[T$1]"), row("ticket 7", "see ticket 7"))
    assert [message.content for message in changed.messages] == ["[T$1]", "see [T$1]"]
    assert changed.touched == (("mine", "changed", "replaced in user message 1, assistant message 2"),)


def test_a_pattern_looks_where_it_is_told(tmp_path: Path) -> None:
    given = row("ticket", "x")
    assert own(tmp_path, pattern="ticket", where="answers").apply(given) is given
    rule = own(tmp_path, pattern="ticket", where="prompts", action="change", replacement="t")
    assert [message.content for message in kept(rule, row("ticket", "ticket")).messages] == ["t", "ticket"]


@pytest.fixture
def function(tmp_path: Path) -> Rule:
    (tmp_path / "rules.py").write_text(CODE)
    return own(tmp_path, function="rules.py:check")


def test_a_function_keeps_changes_drops_or_flags(function: Rule, tmp_path: Path) -> None:
    assert dropped(function, row("a", "drop")) == "wrote [EMAIL]"
    assert flagged(function, row("a", "flag")) == "seen"
    changed = kept(function, row("a", "a colour", slices={"n": 1}))
    assert changed.answer == "a color"
    assert changed.slices == {"n": 1}
    assert [touch.kind for touch in changed.touched] == ["changed"]
    given = row("a", "keep")
    assert function.apply(given) is given
    assert function.options() == {"function": "rules.py:check", "sha256": digest_file(tmp_path / "rules.py")}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("crash", r"\(rows\.jsonl line 7\): the function rules\.py:check raised KeyError at line 9\."),
        ("odd", "gave back int"),
        ("pair", 'gave back a pair that is not \\("drop" or "flag", reason\\)'),
        ("broken", "gave back messages that have no role and content"),
    ],
)
def test_a_fault_names_row_file_and_line_and_quotes_nothing(function: Rule, answer: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        function.apply(row("a", answer))
    assert "secret text" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "function", "said"),
    [
        (None, "rules.py:check", "There is no readable file 'rules.py'"),
        ("def check(row", "rules.py:check", "'rules.py' cannot be run: SyntaxError at line 1"),
        ("x = 1 / 0\n", "rules.py:check", "'rules.py' cannot be run: ZeroDivisionError at line 1"),
        ("check = 3\n", "rules.py:check", "'rules.py' has no function 'check'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, function: str, said: str) -> None:
    if content is not None:
        (tmp_path / "rules.py").write_text(content)
    with pytest.raises(RecipeError, match=said):
        own(tmp_path, function=function)


def test_a_pattern_that_cannot_run_in_linear_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="it refers back to a group"):
        own(tmp_path, pattern=r"(a)\1")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ({"user": [{"name": "a"}]}, "needs either a pattern or a function"),
        ({"user": [{"name": "a", "pattern": "x", "function": "f.py:g"}]}, "needs either a pattern or a function"),
        ({"user": [{"name": "a", "function": "f:g"}]}, "write the file and the name in it"),
        ({"user": [{"name": "a", "function": "f.py:g", "action": "flag"}]}, "a function decides itself"),
        ({"user": [{"name": "a", "pattern": "x", "replacement": "y"}]}, 'goes with action = "change"'),
        ({"user": [{"name": "pii", "pattern": "x"}]}, "the name 'pii' is taken"),
        ({"user": [{"name": "a", "pattern": "x"}, {"name": "a", "pattern": "y"}]}, "the name 'a' is taken"),
        ({"user": [{"name": "A b", "pattern": "x"}]}, "use 1 to 40 lower-case letters"),
        ({"user": [{"name": "a", "pattern": "x"}], "rules": ["pii"]}, 'rules leaves out "user"'),
        ({"forbidden": ["x"], "rules": ["pii"]}, 'rules leaves out "forbidden"'),
        ({"languages": ["en"]}, 'language = "flag" or "drop"'),
        ({"pii_kinds": ["mail"]}, "There is no kind of personal data 'mail'. The nearest is 'email'"),
    ],
)
def test_a_recipe_that_would_not_do_what_it_says_is_refused(prepare: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_mapping({"name": "x", "source": [{"path": "a.jsonl"}], "prepare": prepare}, folder=Path())
    assert said in str(caught.value)


def test_files_that_decide_what_is_prepared_are_named_once() -> None:
    section = PrepareSection.model_validate(
        {
            "answer_schema": "s.json",
            "forbidden_file": "t.txt",
            "user": [{"name": "a", "function": "r.py:f"}, {"name": "b", "function": "r.py:g"}, {"name": "c", "pattern": "x"}],
        }
    )
    assert section.files == ("s.json", "t.txt", "r.py")


def test_rules_of_the_recipe_run_at_their_place_and_are_told_in_the_snapshot(bench: Any) -> None:
    (bench.folder / "rules.py").write_text(
        'def f(row):\n    return ("drop", "a fax") if row["slices"].get("by") == "fax" else None\n'
    )
    rows = [
        {"prompt": f"question number {i}?", "completion": f"it is {i * 7}", "by": "fax" if i == 3 else "web"} for i in range(20)
    ]
    name = bench.write("rows.jsonl", rows)
    snapshot = bench.prepare(
        name, user=[{"name": "no_fax", "function": "rules.py:f"}, {"name": "sevens", "pattern": "it is 7$", "action": "flag"}]
    )
    assert snapshot.reasons() == {4: ("no_fax", "a fax")}
    told = {rule["name"]: rule for rule in snapshot.body["rules"]}
    assert told["no_fax"]["dropped"] == 1
    assert told["sevens"]["flagged"] == 1
    assert list(told).index("json_answer") < list(told).index("no_fax") < list(told).index("pii")
    json.dumps(told)
