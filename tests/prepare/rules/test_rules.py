"""Rules: what each changes, drops and flags, and that it leaves the rest alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.prepare.rules.making import dropped, kept, row

from budwood.errors import DataError
from budwood.prepare.row import Drop, Message, Row
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.control_characters import ControlCharacters
from budwood.prepare.rules.empty_answer import EmptyAnswer
from budwood.prepare.rules.json_answer import JsonAnswer, with_schema
from budwood.prepare.rules.label import Label
from budwood.prepare.rules.length import Length
from budwood.prepare.rules.pii import Pii
from budwood.prepare.rules.prompt_echo import PromptEcho
from budwood.prepare.rules.roles import Roles
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.unicode import Unicode
from budwood.prepare.rules.whitespace import Whitespace
from budwood.recipe import PrepareSection

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("rule", "before", "after", "reason"),
    [
        (Unicode(), "Iâ€™m at the cafÃ©", "I’m at the café", "mojibake repaired in user message 1"),
        (Unicode(), "cafe\u0301", "café", "characters composed in user message 1"),
        (ControlCharacters(), "a\u200bb\x00c\u202ed\ufeff", "abcd", "invisible characters removed in user message 1"),
        (Whitespace(), " a\r\nb\u00a0c\u2028d \n", "a\nb c\nd", "white space normalised in user message 1"),
    ],
)
def test_text_rules_change_and_say_so(rule: Rule, before: str, after: str, reason: str) -> None:
    outcome = kept(rule, row(before, "fine"))
    assert outcome.messages == (Message("user", after), Message("assistant", "fine"))
    assert outcome.touched == ((rule.name, "changed", reason),)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Unicode(), "“Quotes” – dashes, ﬁ and 日本語 stay"),
        (ControlCharacters(), "tab\tline\nfamily 👨‍👩‍👧 می‌خواهم"),
        (Whitespace(), "def f():\n    return 1  \n\n\n| a | b |"),
    ],
)
def test_text_rules_leave_alone_what_means_something(rule: Rule, text: str) -> None:
    given = row(text, "fine")
    assert rule.apply(given) is given


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (("assistant", "user"), "message 1 is from assistant where user is expected"),
        (("user", "user", "assistant"), "message 2 is from user where assistant is expected"),
        (("user", "system", "assistant"), "a system message that is not the first"),
        (("user", "function", "assistant"), "message 2 is from function; known are system, user, assistant"),
        (("user", "ann@example.org"), "message 2 is from another role; known are system, user, assistant"),
        (("system", "user", "assistant", "assistant"), "message 4 is from assistant where user is expected"),
    ],
)
def test_roles_refuse_disorder(roles: tuple[str, ...], reason: str) -> None:
    assert dropped(Roles(), row(*("text" for _ in roles), roles=roles)) == reason


def test_roles_take_off_a_last_user_message_that_nobody_answers() -> None:
    outcome = kept(Roles(), row("a", "b", "c", roles=("user", "assistant", "user")))
    assert [message.content for message in outcome.messages] == ["a", "b"]
    assert [touch.kind for touch in outcome.touched] == ["changed"]


def test_roles_leave_a_row_without_any_answer_to_the_next_rule() -> None:
    given = row("a", roles=("user",))
    assert Roles().apply(given) is given
    assert dropped(EmptyAnswer(), given) == "no answer"


def test_roles_refuse_an_empty_prompt() -> None:
    assert dropped(Roles(), row(" ", "b")) == "an empty user message"


@pytest.mark.parametrize(
    ("answer", "reason"), [("", "an empty answer"), ("N/A", "a placeholder for an answer: a word for no answer")]
)
def test_empty_answers(answer: str, reason: str) -> None:
    assert dropped(EmptyAnswer(), row("a", answer)) == reason


def test_a_label_is_no_placeholder() -> None:
    given = row("a", "N/A")
    assert EmptyAnswer(labels=("N/A", "yes")).apply(given) is given


def test_an_earlier_empty_answer_counts_too() -> None:
    conversation = row("a", "", "b", "c", roles=("user", "assistant", "user", "assistant"))
    assert dropped(EmptyAnswer(), conversation) == "an empty answer"


def test_prompt_echo() -> None:
    prompt = "Please translate this sentence."
    assert dropped(PromptEcho(), row(prompt, prompt.upper())) == "the answer is the prompt"
    assert dropped(PromptEcho(), row(prompt, f"{prompt} Sure.")) == "the answer begins with the whole prompt"
    assert isinstance(PromptEcho().apply(row("yes", "Yes, gladly.")), Row)


def test_labels_are_put_right_or_refused() -> None:
    rule = Label(labels=("refund", "Card_lost"))
    assert rule.apply(given := row("a", "refund")) is given
    assert kept(rule, row("a", "card_lost")).answer == "Card_lost"
    assert dropped(rule, row("a", "refunds")) == "no allowed label; the nearest is 'refund'"
    assert isinstance(Label().apply(row("a", "whatever")), Row)


@pytest.fixture
def json_answer(tmp_path: Path) -> JsonAnswer:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return with_schema(tmp_path / "schema.json", shown="schema.json")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("{'n': 1}", "the answer is no JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"n": 1, "n": 2}', "the answer is no JSON: a key twice, NaN or infinity, or nested too deeply"),
        ('{"n": NaN}', "the answer is no JSON: a key twice, NaN or infinity, or nested too deeply"),
        ('{"n": "ann@example.org"}', 'the answer breaks its schema: "type" at n'),
        ("{}", 'the answer breaks its schema: "required" at the top'),
        ('{"n": "\\ud800"}', "the answer breaks its schema: half a character (a lone surrogate)"),
    ],
)
def test_json_answers_are_held_to_the_schema_without_quoting_them(json_answer: JsonAnswer, answer: str, reason: str) -> None:
    assert dropped(json_answer, row("a", answer)) == reason


def test_json_answers_that_satisfy_it_stay(json_answer: JsonAnswer) -> None:
    given = row("a", '{"n": 1}')
    assert json_answer.apply(given) is given
    assert JsonAnswer().apply(row("a", "prose")) == row("a", "prose")


PERSONAL = row("I am ann@example.org", "Card 4111 1111 1111 1111", slices={"from": "ann@example.org", "n": 3})


def test_personal_data_is_redacted_in_messages_and_slices() -> None:
    outcome = kept(Pii(), PERSONAL)
    assert [message.content for message in outcome.messages] == ["I am [EMAIL]", "Card [CARD]"]
    assert outcome.slices == {"from": "[EMAIL]", "n": 3}
    assert outcome.touched == (("pii", "changed", "2 e-mail addresses, 1 card number redacted"),)


def test_personal_data_drops_or_flags() -> None:
    assert dropped(Pii(action="drop"), PERSONAL) == "holds 2 e-mail addresses, 1 card number"
    flagged = kept(Pii(action="flag"), PERSONAL)
    assert flagged.messages == PERSONAL.messages
    assert [touch.kind for touch in flagged.touched] == ["flagged"]


def words(messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> int:
    return sum(len(message["content"].split()) for message in messages)


def test_length_measures_and_never_cuts() -> None:
    rule = Length(limit=4, token_length=words)
    assert kept(rule, row("a b", "c d")).tokens == 4
    assert dropped(rule, row("a b", "c d e")) == "5 tokens, the limit is 4"
    with pytest.raises(DataError, match=r"Row [0-9a-f]{16} \(rows\.jsonl line 7\) is 5 tokens long, the limit is 4\."):
        Length(limit=4, too_long="error", token_length=words).apply(row("a b", "c d e"))


def test_a_row_of_which_the_template_leaves_nothing_to_learn() -> None:
    def none(messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> int:
        raise DataError("It has no supervised token.")

    assert dropped(Length(token_length=none), row("a", "b")) == "It has no supervised token."
    with pytest.raises(DataError, match=r"rows\.jsonl line 7"):
        Length(token_length=none, no_target="error").apply(row("a", "b"))


def test_rules_are_built_in_the_order_of_the_recipe_and_answers_are_always_checked() -> None:
    section = PrepareSection.model_validate({"rules": ["whitespace", "unicode"]})
    rules = build_rules(section, folder=Path(), token_length=None, context=64)
    assert [rule.name for rule in rules] == ["tool_turns", "whitespace", "unicode", "empty_answer"]
    assert isinstance(rules[3].apply(row("a", "n/a")), Row)
    assert isinstance(rules[3].apply(row("a", " ")), Drop)


def test_every_rule_has_a_name_a_version_and_json_options() -> None:
    rules: Any = build_rules(PrepareSection(), folder=Path(), token_length=None, context=64)
    # Order of turns with tools is looked after whatever a recipe lists.
    assert [rule.name for rule in rules if rule.name != "tool_turns"] == [
        name for name in PrepareSection().rules if name != "user"
    ]
    assert [rule.name for rule in rules].index("tool_turns") == 4
    for rule in rules:
        assert rule.version >= 1
        json.dumps(rule.options())
