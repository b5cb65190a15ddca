"""Style, policy, schema and operation: broken rules by name."""

import json

import pytest

from budwood.errors import EvaluationError
from budwood.recipe import PolicyRules, StyleRules
from budwood.scorers import broken_policies, broken_styles, compile_schema, flags


def nobody(text: str) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("rules", "output", "broken"),
    [
        ({}, "anything\n# at all", []),
        ({"max_characters": 5}, "12345 ", []),
        ({"max_characters": 5}, "123456", ["max_characters"]),
        ({"single_line": True}, "one line\n", []),
        ({"single_line": True}, "one\rtwo", ["single_line"]),
        ({"no_markdown": True}, "a - b * c, 3 # 4, **", []),
        ({"no_markdown": True}, "# Heading", ["no_markdown"]),
        ({"no_markdown": True}, "text\n  - bullet", ["no_markdown"]),
        ({"no_markdown": True}, "so **bold**", ["no_markdown"]),
        ({"no_markdown": True}, "```\ncode", ["no_markdown"]),
        ({"must_start_with": "{", "must_end_with": "}"}, '{"a": 1}\n', []),
        ({"must_start_with": "{", "must_end_with": "}"}, "Sure!", ["must_start_with", "must_end_with"]),
    ],
)
def test_styles(rules: dict[str, object], output: str, broken: list[str]) -> None:
    assert broken_styles(output, StyleRules.model_validate(rules)) == broken


@pytest.mark.parametrize(
    ("output", "broken"),
    [
        ("All well.", []),
        ("As an AI, I cannot", ["forbidden: as an ai"]),
        ("as\n an  AI", ["forbidden: as an ai"]),
        ("I gab DIE STRASSE", ["forbidden: straße"]),
    ],
)
def test_forbidden_phrases(output: str, broken: list[str]) -> None:
    rules = PolicyRules(forbidden=("as an ai", "straße"), personal_data=False)
    assert broken_policies(output, rules, find_personal_data=nobody) == broken


def test_personal_data_is_named_by_kind_once_and_only_when_asked_for() -> None:
    found = broken_policies("…", PolicyRules(), find_personal_data=lambda text: ["PHONE", "EMAIL", "PHONE"])
    assert found == ["personal data: EMAIL", "personal data: PHONE"]
    assert broken_policies("…", PolicyRules(personal_data=False), find_personal_data=lambda text: ["EMAIL"]) == []


def test_what_was_not_searched_is_not_called_clean() -> None:
    assert broken_policies("x" * 100_001, PolicyRules(), find_personal_data=nobody) == ["too long to check"]
    assert broken_policies("x" * 100_000, PolicyRules(), find_personal_data=nobody) == []


@pytest.mark.parametrize(
    ("output", "good"),
    [
        ('{"intent": "refund"}', True),
        ('{"intent": "other"}', False),
        ('{"intent": "refund", "more": 1}', False),
        ('Sure: {"intent": "refund"}', False),
        ('{"intent": "\\ud800"}', False),
        ("[" * 100_000, False),
        ("", False),
        ('{"intent": NaN}', False),
    ],
)
def test_schema(output: str, good: bool) -> None:
    schema = {"type": "object", "additionalProperties": False, "properties": {"intent": {"enum": ["refund"]}}}
    assert compile_schema(json.dumps(schema), where="here")(output) is good


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("nope", "This is no JSON Schema: Expecting value: line 1 column 1 (char 0). In here."),
        ('{"type": "frob"}', '"frob" is not valid'),
        ('{"$ref": "http://127.0.0.1:9/x.json"}', "lies outside the schema"),
        ('{"$ref": "file:///etc/hostname"}', "lies outside the schema"),
        ("[" * 100_000, "no JSON Schema"),
        ("[1]", "no JSON Schema"),
        ('"{}"', "This is no JSON Schema: it is neither an object nor true or false."),
        ('{"$ref": "#/$defs/absent"}', "Pointer '/$defs/absent' does not exist"),
    ],
)
def test_what_is_no_schema_is_refused(schema: str, words: str) -> None:
    with pytest.raises(EvaluationError) as error:
        compile_schema(schema, where="here")
    assert words in str(error.value)


@pytest.mark.timeout(60)
def test_a_recursive_schema_and_a_greedy_pattern_end() -> None:
    check = compile_schema('{"anyOf": [{"$ref": "#"}, {"type": "string", "pattern": "^(a+)+$"}]}', where="here")
    assert check('"aaa"') is True
    check(json.dumps("a" * 200 + "!"))


@pytest.mark.parametrize(
    ("output", "finish", "found"),
    [
        ("fine", "stop", []),
        (" \n", "stop", ["empty"]),
        ("half an ans", "length", ["truncated"]),
        ("", "length", ["empty", "truncated"]),
        ("no no no no no no", "stop", ["repeating"]),
        ("a" * 16, "stop", ["repeating"]),
        ("ha ha ha", "stop", []),
        ("x" * 10_000_000, "stop", ["repeating"]),
    ],
)
def test_flags(output: str, finish: str, found: list[str]) -> None:
    assert flags(output, finish) == found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("output", ["\n" * 200_000, "**" * 200_000, "**a" * 100_000, " " * 200_000 + "x", "-" * 200_000])
def test_rules_cost_bounded_time(output: str) -> None:
    rules = StyleRules(max_characters=10, single_line=True, no_markdown=True, must_start_with="{", must_end_with="}")
    broken_styles(f"x{output}x", rules)
    flags(output, "stop")
