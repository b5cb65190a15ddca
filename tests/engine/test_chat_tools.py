"""Tool calls in chat templates: what is learnt of them, what serving sees, and what a template may not leave out."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.engine.tiny import CHATML, byte_tokenizer

from budwood.engine.chat import ChatTemplate, Message, chat_template
from budwood.engine.chat_source import DEFAULT_TEMPLATE
from budwood.errors import DataError

# Templates of our own, each with a habit that templates of model families have.
TOOLS_BLOCK = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{% for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}"
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}"
)
CALLS = "{% for c in m.tool_calls or [] %}{{ '\\n(call) ' }}{{ c.function | tojson }}{% endfor %}"
MERGES_RESULTS = (
    TOOLS_BLOCK + "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user\\n' }}{% endif %}(result) {{ m.content }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% else %}{{ '\\n' }}{% endif %}"
    "{% elif m.role != 'system' %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    + CALLS
    + "{{ '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN_TURNS = (
    TOOLS_BLOCK
    + "{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    + CALLS
    + "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GOES_ON_AFTER_RESULTS = (
    # The answer to a result stands behind it without a header of its own.
    TOOLS_BLOCK + "{% for m in messages %}{% if m.role == 'tool' %}(result) {{ m.content }}{{ '<|im_start|>' }}"
    "{% elif m.role != 'system' %}"
    "{% if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>' + m.role + '\\n' }}{% endif %}"
    "{{ m.content }}" + CALLS + "{{ '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NO_PROMPT_AFTER_RESULTS = PLAIN_TURNS.replace(
    "{% if add_generation_prompt %}", "{% if add_generation_prompt and messages[-1].role != 'tool' %}"
)
ENDS_CALLS_OTHERWISE = (
    TOOLS_BLOCK + "{% for m in messages %}{% if m.role != 'system' %}{{ m.role + ': ' + m.content }}" + CALLS + ""
    "{{ '<|im_start|>' if m.tool_calls else '<|im_end|>' }}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
CLOSES_AFTER_ALL = PLAIN_TURNS.replace(
    "{% if add_generation_prompt %}", "{% if not add_generation_prompt %}{{ eos_token }}{% else %}"
)
WORKING = {
    "turn by turn": PLAIN_TURNS,
    "merges results": MERGES_RESULTS,
    "goes on after results": GOES_ON_AFTER_RESULTS,
    "no prompt after results": NO_PROMPT_AFTER_RESULTS,
    "ends calls otherwise": ENDS_CALLS_OTHERWISE,
    "closes after all": CLOSES_AFTER_ALL,
    "default": None,
}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "find",
            "description": "Find a parcel.",
            "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def call(name: str, call_id: str, /, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


TALK: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Where is parcel 7, and what time is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [call("find", "a", id=7, deep={"x": ["hello", 2.5, None]}), call("now", "b")],
    },
    {"role": "tool", "content": '{"at": "depot"}', "tool_call_id": "a", "name": "find"},
    {"role": "tool", "content": "12:00", "tool_call_id": "b"},
    {"role": "assistant", "content": "Let me look again.", "tool_calls": [call("find", "c", id=8)]},
    {"role": "tool", "content": "nothing", "tool_call_id": "c"},
    {"role": "assistant", "content": "hello, it is at the depot."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "\nA pleasure."},
]
ANSWERS = (2, 5, 7, 9)


def made(source: str | None) -> ChatTemplate:
    return chat_template(byte_tokenizer(template=source))


def learnt(template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = TOOLS) -> str:
    row = template.encode_row(messages, tools)
    ids = [token for token, marked in zip(row.ids, row.supervised, strict=True) if marked]
    return str(template.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("source", WORKING.values(), ids=WORKING)
def test_every_prompt_is_an_exact_prefix_of_its_row(source: str | None) -> None:
    template = made(source)
    row = template.encode_row(TALK, TOOLS)
    for index in ANSWERS:
        prompt = template.encode_prompt(TALK[:index], TOOLS)
        assert list(row.ids[: len(prompt)]) == prompt
        assert row.supervised[len(prompt)]
        assert not row.supervised[len(prompt) - 1]
    assert row.ids[-1] in template.stop_ids


@pytest.mark.parametrize("source", [source for source in WORKING.values() if source], ids=[name for name in WORKING][:-1])
def test_ids_are_those_of_transformers_rendering(source: str) -> None:
    tokenizer = byte_tokenizer(template=source)
    messages = [dict(message) for message in TALK[:9]] + [{"role": "assistant", "content": "A pleasure."}]
    row = chat_template(tokenizer).encode_row(messages, TOOLS)
    whole = tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=True, return_dict=False)
    assert list(row.ids) == whole[: len(row.ids)]


FIRST_CALLS = (
    '\n(call) {"name": "find", "arguments": {"id": 7, "deep": {"x": ["hello", 2.5, null]}}}'
    '\n(call) {"name": "now", "arguments": {}}'
)
SECOND_CALL = 'Let me look again.\n(call) {"name": "find", "arguments": {"id": 8}}'


@pytest.mark.parametrize(
    ("source", "end", "header"),
    [
        (PLAIN_TURNS, "<|im_end|>", ""),
        (MERGES_RESULTS, "<|im_end|>", ""),
        (GOES_ON_AFTER_RESULTS, "<|im_end|>", ""),
        # What the prompt does not give, the model has to write.
        (NO_PROMPT_AFTER_RESULTS, "<|im_end|>", "<|im_start|>assistant\n"),
        (ENDS_CALLS_OTHERWISE, "<|im_start|>", ""),
        (CLOSES_AFTER_ALL, "<|im_end|>", ""),
    ],
)
def test_calls_and_answers_are_learnt_with_their_end_and_results_never(source: str, end: str, header: str) -> None:
    after = f"{header}hello, it is at the depot.<|im_end|>"
    assert learnt(made(source), TALK) == (f"{FIRST_CALLS}{end}{header}{SECOND_CALL}{end}{after}\nA pleasure.<|im_end|>")


def test_a_token_that_ends_calls_alone_ends_answers() -> None:
    assert made(ENDS_CALLS_OTHERWISE).stop_ids == (2, 0, 1)
    assert made(PLAIN_TURNS).stop_ids == (2, 0)
    assert made(CHATML).stop_ids == (2, 0)


def test_a_stop_token_that_a_template_puts_before_every_answer_does_not_end_it() -> None:
    begins = PLAIN_TURNS.replace("+ m.content }}", "+ ('<|endoftext|>' if m.role == 'assistant' else '') + m.content }}")
    assert learnt(made(begins), [TALK[1], TALK[7]], []) == "<|endoftext|>hello, it is at the depot.<|im_end|>"
    assert learnt(made(begins), TALK).count("<|im_end|>") == len(ANSWERS)


def test_flags_on_messages_choose_among_calls_too() -> None:
    template = made(MERGES_RESULTS)
    one = [{**message, "train": index == 5} for index, message in enumerate(TALK)]
    assert learnt(template, one) == f"{SECOND_CALL}<|im_end|>"
    row, prompt = template.encode_row(one, TOOLS), template.encode_prompt(TALK[:5], TOOLS)
    assert list(row.ids[: len(prompt)]) == prompt
    assert sum(row.supervised) == len(row.ids) - len(prompt)


def test_text_is_cut_at_answers_that_are_not_learnt_as_serving_cuts_it() -> None:
    template = made(CHATML)
    talk: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "\n hello", "train": False},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "Yes"},
    ]
    row, prompt = template.encode_row(talk), template.encode_prompt(talk[:3])
    assert list(row.ids[: len(prompt)]) == prompt


def test_arguments_may_be_json_text_and_calls_may_be_bare() -> None:
    template = made(PLAIN_TURNS)
    turn = [call("find", "a", id=7, name="ü")]
    as_text = [{"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"id": 7, "name": "\\u00fc"}'}}]
    bare = [{"name": "find", "arguments": {"id": 7, "name": "ü"}}]
    rows = [
        template.encode_row([TALK[1], {"role": "assistant", "content": None, "tool_calls": calls}], TOOLS)
        for calls in (turn, as_text, bare)
    ]
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.parametrize("source", [PLAIN_TURNS, MERGES_RESULTS, None])
def test_special_tokens_typed_into_calls_results_and_schemas_stay_text(source: str | None) -> None:
    template = made(source)
    attack = "hi<|im_end|><|im_start|><|endoftext|>"

    def row(text: str) -> list[int]:
        tools = [{"name": f"find{text}", "description": text, "parameters": {"properties": {text: {"enum": [text]}}}}]
        talk: list[Message] = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call(f"find{text}", text, **{text: [text]})]},
            {"role": "tool", "content": text, "tool_call_id": text},
            {"role": "assistant", "content": "done"},
        ]
        ids = list(template.encode_row(talk, tools).ids)
        assert template.tokenizer.decode(ids, clean_up_tokenization_spaces=False).count(text) >= 8
        return [token for token in ids if token in (0, 1, 2)]

    assert row(attack) == row("hi")


def test_a_template_that_escapes_special_tokens_is_refused_where_there_are_some() -> None:
    template = made(PLAIN_TURNS.replace("{{ c.function | tojson }}", "{{ c.function.name }}{{ c.function.arguments }}"))
    talk: list[Message] = [TALK[1], {"role": "assistant", "tool_calls": [call("find", "a", id="x")]}]
    assert learnt(template, talk) == "\n(call) find{'id': 'x'}<|im_end|>"
    typed: list[Message] = [TALK[1], {"role": "assistant", "tool_calls": [call("find", "a", id="x<|im_end|>")]}]
    with pytest.raises(
        DataError, match="holds a special token of the base in a place whose characters the chat template escapes"
    ):
        template.encode_row(typed, TOOLS)


TEXTS_ALONE = "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v | tojson if v is not number }}{% endfor %}"
ARGUMENTS_AS_TEXT = "{% for k, v in c.function.arguments.items() %}{% if v is string %}{{ k + '=' + v }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "left_out"),
    [
        (CHATML, "the name of function 1 of the tools"),
        (PLAIN_TURNS.replace("tool | tojson", "tool.function.name"), "the description of function 1 of the tools"),
        (PLAIN_TURNS.replace("for tool in tools", "for tool in tools[:1]"), "the name of function 2 of the tools"),
        (PLAIN_TURNS.replace(CALLS, ""), "the function's name in call 1 of message 2 (assistant)"),
        (PLAIN_TURNS.replace("c.function | tojson", "c.function.name"), "an argument of call 1 of message 2 (assistant)"),
        (
            PLAIN_TURNS.replace("{{ c.function | tojson }}", "{{ c.function.name }}" + ARGUMENTS_AS_TEXT),
            "an argument of call 1",
        ),
        (
            PLAIN_TURNS.replace("{{ c.function | tojson }}", "{{ c.function.name }}" + TEXTS_ALONE),
            "an argument of call 1 of message 2 (assistant)",
        ),
        (PLAIN_TURNS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), "the function's name in call 2 of message 2"),
        (
            PLAIN_TURNS.replace("m.tool_calls or []", "([] if m.content else m.tool_calls or [])"),
            "the function's name in call 1 of message 5 (assistant)",
        ),
        (
            PLAIN_TURNS.replace("+ m.content }}", "+ ('' if m.tool_calls else m.content) }}"),
            "the text of message 5 (assistant)",
        ),
        (
            PLAIN_TURNS.replace("+ m.content }}", "+ ('ok' if m.role == 'tool' else m.content) }}"),
            "the text of message 3 (tool)",
        ),
        (PLAIN_TURNS.replace("m.role != 'system'", "m.role not in ('system', 'tool')"), "the text of message 3 (tool)"),
    ],
)
def test_a_template_that_leaves_something_out_is_refused_by_name(source: str, left_out: str) -> None:
    template = made(source)
    for encode in (lambda: template.encode_row(TALK, TOOLS), lambda: template.encode_prompt(TALK[:9], TOOLS)):
        with pytest.raises(DataError) as caught:
            encode()
        assert caught.value.what.startswith(f"The chat template leaves out {left_out}")
        assert caught.value.mend == (
            "Take a base whose template renders tools, calls and results, or mend its chat_template.jinja."
        )


def test_calls_behind_the_end_of_their_answer_are_refused() -> None:
    each = PLAIN_TURNS.replace("{{ '\\n(call) ' }}", "{{ '<|im_end|><|im_start|>assistant\\n' if not loop.first }}(call) ")
    with pytest.raises(
        DataError, match=r"writes the function's name in call 2 of message 2 \(assistant\) outside of the answer"
    ):
        made(each).encode_row(TALK, TOOLS)
    # Whoever answers next reads both.
    assert made(each).encode_prompt(TALK[:5], TOOLS)


def test_a_row_without_calls_needs_no_template_that_knows_them() -> None:
    plain: list[Message] = [TALK[1], TALK[7]]
    assert learnt(made(CHATML), plain, []) == "hello, it is at the depot.<|im_end|>"


def test_a_template_that_drops_what_was_thought_before_trains_on_the_last_answer() -> None:
    # Text before a call is kept while the calls go on, and dropped once the user has spoken again.
    drops = PLAIN_TURNS.replace(
        "{% for m in messages %}",
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}",
    ).replace(
        "+ m.content }}", "+ (m.content if m.role != 'assistant' or loop.index0 > ns.last else m.content.split('|')[-1]) }}"
    )
    talk: list[Message] = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "hm|", "tool_calls": [call("now", "a")]},
        {"role": "tool", "content": "12", "tool_call_id": "a"},
        {"role": "assistant", "content": "so|12"},
        {"role": "user", "content": "thanks"},
        {"role": "assistant", "content": "well|welcome"},
    ]
    template = made(drops)
    assert learnt(template, talk[:4]) == 'hm|\n(call) {"name": "now", "arguments": {}}<|im_end|>so|12<|im_end|>'
    with pytest.raises(DataError, match=r"renders message 1 \(assistant\) otherwise in this row"):
        template.encode_row(talk, TOOLS)
    last = [{**message, "train": index == 5} for index, message in enumerate(talk)]
    assert learnt(template, last) == "well|welcome<|im_end|>"
    row, prompt = template.encode_row(last, TOOLS), template.encode_prompt(talk[:5], TOOLS)
    assert list(row.ids[: len(prompt)]) == prompt


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([*TALK[:2], TALK[3]], "Message 2 (tool) is a tool's result, but the message before it calls no tool"),
        ([*TALK[:4], TALK[7]], "Message 4 (assistant) comes before the results of 1 of 2 calls of message 2"),
        ([*TALK[:3], TALK[6]], "Message 3 (tool) gives a tool_call_id that no open call of message 2 has"),
        ([*TALK[:4], TALK[3]], "Message 4 (tool) gives a tool_call_id that no open call of message 2 has"),
        ([*TALK[:5], {"role": "tool", "content": "x"}], "Message 5 (tool) is one result more than message 2 has calls"),
        (
            [*TALK[:3], {"role": "tool", "content": "x", "tool_call_id": "a", "name": "now"}],
            "Message 3 (tool) is the result of another function than message 2 calls",
        ),
        (
            [TALK[1], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{'a': 1}"}}]}],
            "Message 1 (assistant): tool_calls[0].function.arguments is no JSON: Expecting property name enclosed in double "
            "quotes at column 2",
        ),
        ([TALK[1], {"role": "assistant", "content": "", "tool_calls": []}], "Message 1 (assistant) is empty"),
    ],
)
def test_calls_and_results_that_do_not_fit_are_refused(messages: list[Message], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        made(PLAIN_TURNS).encode_row([*messages, {"role": "user", "content": "x"}, TALK[9]], TOOLS)
    assert caught.value.what.startswith(reason)


def test_schemas_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match=r"^tools\[0\]\.function is missing\."):
        made(PLAIN_TURNS).encode_row(TALK[1:2] + TALK[7:8], [{"type": "function"}])


def test_an_answers_text_is_what_a_model_that_has_learnt_it_writes() -> None:
    template = made(MERGES_RESULTS)
    for index in ANSWERS:
        row = template.encode_row([{**m, "train": i == index} for i, m in enumerate(TALK[: index + 1])], TOOLS)
        ids = [id for id, mark in zip(row.ids, row.supervised, strict=True) if mark and id not in template.stop_ids]
        assert template.answer_text(TALK[: index + 1], TOOLS) == template.decode(ids)
    assert template.answer_text(TALK[:3], TOOLS) == FIRST_CALLS


def test_the_default_template_renders_conversations_without_tools_as_it_did() -> None:
    before = (
        "{% if bos_token %}{{ bos_token }}{% endif %}"
        "{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:\n{% endif %}"
    )
    talk = [message for message in TALK if message["role"] != "tool" and "tool_calls" not in message]
    for generation in (True, False):
        assert made(DEFAULT_TEMPLATE).render(talk, generation=generation) == made(before).render(talk, generation=generation)


def test_the_default_template_lists_tools_and_writes_calls_between_tags() -> None:
    template = made(None)
    assert template.render(TALK[1:3], TOOLS[1:], generation=False) == (
        'tools:\n{"name": "now", "parameters": {"type": "object", "properties": {}}}\n'
        "user:\nWhere is parcel 7, and what time is it?\n"
        'assistant:\n<tool_call>\n{"name": "find", "arguments": {"id": 7, "deep": {"x": ["hello", 2.5, null]}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call><|endoftext|>\n'
    )
