"""Rules that read an answer's wording: what they act on, what they let be, and that the recipe's action is done."""

import pytest
from tests.prepare.rules.making import dropped, flagged, row

from budwood.prepare.row import Message, Row
from budwood.prepare.rules.empty_answer import EmptyAnswer
from budwood.prepare.rules.false_access import FalseAccess
from budwood.prepare.rules.prompt_echo import PromptEcho
from budwood.prepare.rules.refusal import Refusal
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.truncated import Truncated

PLAIN = "How do I descale a kettle?"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("TODO", "a word for no answer"),
        ("**[Insert your answer here]**", "an unfilled slot"),
        ("{{response}}", "an unfilled slot"),
        ("The agent's reply will go here.", "an unfilled slot"),
        ("### Response:", "the name of a field"),
        ("— — —", "nothing but marks"),
        ("Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 5, "filler text"),
    ],
)
def test_placeholders_are_dropped(answer: str, kind: str) -> None:
    assert dropped(EmptyAnswer(), row(PLAIN, answer)) == f"a placeholder for an answer: {kind}"


@pytest.mark.parametrize(
    "answer", ["Not available", "pending", "[silver moon]", "answer 3", "Ask legal for the wording", "See template B12"]
)
def test_what_may_be_an_answer_is_only_flagged(answer: str) -> None:
    assert flagged(EmptyAnswer(), row(PLAIN, answer)).startswith("perhaps a placeholder for an answer")


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (PLAIN, "None"),
        (PLAIN, "42"),
        (PLAIN, "Oslo"),
        (PLAIN, "Write the essay first."),
        (PLAIN, "[]"),
        (PLAIN, "{}"),
        (PLAIN, "Dear [Name],\n\nyour order has been sent.\n\n[Your company]"),
        (PLAIN, "Answer: Paris"),
        (PLAIN, "[EMAIL]"),
        ("Give the date, or N/A if there is none.", "N/A"),
        ("Which HTML tag makes the page's name?", "<title>"),
        ("Write some lorem ipsum text.", "Lorem ipsum dolor sit amet, consectetur adipiscing elit."),
        ("Which mark ends a question, . or ?", "?"),
    ],
)
def test_answers_that_only_look_like_placeholders_stay(prompt: str, answer: str) -> None:
    given = row(prompt, answer)
    assert EmptyAnswer().apply(given) is given


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The steps are: first, open the", "is cut: ends in a word that needs another"),
        ("You need flour, water,", "is cut: ends in a comma"),
        ("Here is the code:\n\n```python\nprint(1)", "is cut: a block of code is left open"),
        ('{"intent": "refund", "order', "is cut: a bracket is left open"),
        ("These are the reasons:", "is cut: announces something that does not follow"),
        ("Do this:\n1. Open it.\n2. Close it.\n3.", "is cut: a list ends in an empty item"),
        ("Nehmen Sie das Gerät und", "is cut: ends in a word that needs another"),
        ("Fill it with water. Then bring it to the bo", "may be cut: no mark ends the last sentence"),
        ("The river rises in the hills and it flows to the sea near", "may be cut: no mark ends the only sentence"),
    ],
)
def test_cut_answers_are_flagged(answer: str, reason: str) -> None:
    assert flagged(Truncated(), row(PLAIN, answer)) == f"an answer {reason}"


def test_only_what_is_certainly_cut_is_dropped() -> None:
    rule = Truncated(action="drop")
    assert dropped(rule, row(PLAIN, "You need flour, water,")) == "an answer is cut: ends in a comma"
    assert (
        flagged(rule, row(PLAIN, "Fill it. Then bring it to the bo")) == "an answer may be cut: no mark ends the last sentence"
    )


@pytest.mark.parametrize(
    "answer",
    [
        "Yes.",
        "Oslo",
        "card_arrival",
        "Where the Water Goes",
        "It costs 5 euros.",
        "Done! 😊",
        "He said: “No.”",
        "See https://example.org/a/b",
        "The total is 12.\n#### 12",
        "- apples\n- pears",
        "1. Open it\n2. Close it",
        "```\nx = 1\n```",
        "Hello,\n\nit is late.\n\nBest regards,\nTom",
        "Thank you for waiting. Kind regards, Anna",
        '{"a": [1, 2]}',
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "$$x^2 + y^2 = 1$$",
        "(see above.)",
        "これは本です。",
        "这是一本书。",
        "यह एक किताब है।",
        "ฉันชอบอ่านหนังสือทุกวัน",
        "Take vitamin A",
        "",
    ],
)
def test_whole_answers_are_let_be(answer: str) -> None:
    given = row(PLAIN, answer)
    assert Truncated(action="drop").apply(given) is given


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Sum up https://example.org/a.", "I’ve gone through the page you linked, and it is about rivers."),
        ("What is in the attachment?", "Based on the file you uploaded, sales fell."),
        ("And this?", "The screenshot you sent shows an error."),
        (PLAIN, "I searched the web and found three ways."),
        (PLAIN, "Ich habe mir das Bild angesehen."),
    ],
)
def test_claims_to_have_opened_something_are_found(prompt: str, answer: str) -> None:
    assert flagged(FalseAccess(), row(prompt, answer)).startswith("an answer claims to")
    assert dropped(FalseAccess(action="drop"), row(prompt, answer)).startswith("an answer claims to")


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Can you open links?", "I can't open links or files, but you can paste the text here."),
        (f"Sum up this article: {'Rivers rise in hills. ' * 20}", "Based on the article you provided, rivers rise in hills."),
        ("Tell me a story.", "I opened the door and looked at the photo on the wall."),
        ("Write an e-mail to my boss.", "Dear Ann,\n\nI have reviewed the attached report.\n\nBest,\nTom"),
        (PLAIN, "If I had read the file, I would know. Send it as text."),
        (PLAIN, "Open the link in the mail, then check the website for the code."),
        ("What does a search engine do?", "It reads pages and keeps an index of them."),
    ],
)
def test_no_claim_is_seen_where_there_is_none(prompt: str, answer: str) -> None:
    given = row(prompt, answer)
    assert FalseAccess(action="drop").apply(given) is given


@pytest.mark.parametrize(
    ("answer", "certain"),
    [
        ("I have just gone over your invoice, and the second item was charged twice.", True),
        ("According to our records, the parcel left on Monday.", True),
        ("I ran your script on my laptop and it stops at line 9.", True),
        ("Checked your booking: it is for two.", True),
        ("I've phoned the supplier, and they will replace it.", False),
        ("I have cancelled the order for you.", False),
    ],
)
def test_claims_to_have_looked_into_accounts_and_systems(answer: str, certain: bool) -> None:
    reason = flagged(FalseAccess(), row(PLAIN, answer))
    assert reason.startswith("an answer claims" if certain else "perhaps an answer claims")
    if certain:
        assert dropped(FalseAccess(action="drop"), row(PLAIN, answer)) == reason
    else:
        assert flagged(FalseAccess(action="drop"), row(PLAIN, answer)) == reason


@pytest.mark.parametrize(
    "answer",
    [
        "Please look into your account, then send us the invoice.",
        "I will check your order and write to you today.",
        "If I had your order number, I could look into it.",
        "We looked at three ways to cook rice; this is the easiest one.",
        "You can see the parcel under Orders.",
        "Looking at the equation, we can see that x is 2.",
    ],
)
def test_what_a_reader_may_do_or_will_be_done_is_no_claim(answer: str) -> None:
    given = row(PLAIN, answer)
    assert FalseAccess(action="drop").apply(given) is given


def test_a_row_with_tools_may_have_opened_things() -> None:
    given = row("Read a.pdf", "I have read the PDF you attached.")
    called = Message("assistant", "", True, ({"type": "function", "function": {"name": "read", "arguments": {}}},))
    with_call = Row(
        given.row_id, given.origin, (given.messages[0], called, Message("tool", "x"), given.messages[1]), {}, 1.0, "auto"
    )
    assert FalseAccess(action="drop").apply(with_call) is with_call


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'm sorry, but I can't assist with that.", "an answer declines in boilerplate"),
        ("**I’m unable to fulfil this request.**", "an answer declines in boilerplate"),
        ("As an AI language model, I have no taste, but salt helps.", "an answer speaks of itself as a model"),
        ("My knowledge cutoff is 2021. Use vinegar.", "an answer speaks of itself as a model"),
        ("Es tut mir leid, aber dabei kann ich nicht helfen.", "an answer declines in boilerplate"),
    ],
)
def test_boilerplate_is_flagged_or_dropped(answer: str, reason: str) -> None:
    assert flagged(Refusal(), row(PLAIN, answer)) == reason
    assert dropped(Refusal(action="drop"), row(PLAIN, answer)) == reason


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (PLAIN, "We cannot refund orders after 30 days."),
        (PLAIN, "I cannot find your order under this number. Could you send it again?"),
        (PLAIN, "You can't use bleach. It would harm the metal."),
        (PLAIN, "I'm sorry to hear that. The part is on its way."),
        ("Who are you?", "I am Vicuna, a language model trained in Berkeley."),
        ("What is a language model?", "A language model is a program that continues texts."),
    ],
)
def test_what_is_no_boilerplate_stays(prompt: str, answer: str) -> None:
    given = row(prompt, answer)
    assert Refusal(action="drop").apply(given) is given


@pytest.mark.parametrize("answer", ["I can't send e-mails.", "Your question could not be answered."])
def test_what_a_business_may_say_too_is_only_flagged(answer: str) -> None:
    assert flagged(Refusal(action="drop"), row(PLAIN, answer)) == "perhaps an answer declines in boilerplate"


@pytest.mark.parametrize("rule", [Truncated(action="off"), FalseAccess(action="off"), Refusal(action="off")])
def test_a_rule_that_is_off_does_nothing(rule: Rule) -> None:
    given = row("See the link.", "I'm sorry, I can't assist with that, but I opened the link and")
    assert rule.apply(given) is given


def test_answers_that_are_not_learnt_are_not_judged() -> None:
    given = row(PLAIN, "I can't assist with that.")
    untrained = Row(given.row_id, given.origin, (given.messages[0], given.messages[1]._replace(trained=False)), {}, 1.0, "auto")
    assert Refusal(action="drop").apply(untrained) is untrained


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Question: How do I descale a kettle?", "the answer is the prompt"),
        ("“How do I descale a kettle?”", "the answer is the prompt"),
        ("How do I descaale a kettle?", "the answer is the prompt, but for a letter or two"),
        ("User: How do I descale a kettle? With vinegar.", "the answer begins with the whole prompt"),
    ],
)
def test_echoes_in_other_clothes(answer: str, reason: str) -> None:
    assert dropped(PromptEcho(), row(PLAIN, answer)) == reason


@pytest.mark.parametrize(
    "answer", ["To descale a kettle, use vinegar.", "How do I know? Ask Ann.", "How do I descale a kettle with lime"[:20]]
)
def test_answers_that_take_up_words_of_the_prompt_stay(answer: str) -> None:
    given = row(PLAIN, answer)
    assert PromptEcho().apply(given) is given
