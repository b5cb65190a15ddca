"""Chat templates within bounds: what burns time or memory is refused, and what is not renders as transformers renders it."""

import resource
import threading
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from tests.serve.conftest import TEMPLATE, make_tokenizer

from budwood.engine.chat import chat_template
from budwood.engine.chat_sandbox import LARGEST, render_template
from budwood.engine.chat_source import DEFAULT_TEMPLATE
from budwood.errors import DataError

VALUES: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": None, "bos_token": "<s>"}
NEST = "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4
DOUBLE = "{% set n = namespace(x=START) %}{% for i in range(99) %}{% set n.x = STEP %}{% endfor %}{{ n.x|length }}"


def doubled(start: str, step: str) -> str:
    return DOUBLE.replace("START", start).replace("STEP", step)


@pytest.mark.parametrize(
    "source",
    [
        NEST,
        NEST.replace("range(99999)", "range(99999)|map('string')"),
        "{% for a in range(99999) %}{{ range(99999)|list|length }}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for a in [[[]]] recursive %}{{ loop(a) }}{{ loop([a, a]) }}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ 10000000000 * 'x' }}",
        "{% set n = 9 ** (9 ** 9) %}{{ n }}",
        doubled("3", "n.x * n.x"),
        doubled("'xx'", "n.x + n.x"),
        doubled("'xx'", "n.x ~ n.x"),
        doubled("[1]", "n.x + n.x"),
        doubled("'xx'", "n.x.replace('x', 'xx')"),
        doubled("'xx'", "n.x|replace('x', 'xx')"),
        doubled("'xx'", "n.x.join([n.x, n.x])"),
        doubled("'xx'", "[n.x, n.x]|join(n.x)"),
        doubled("'xx'", "'%s%s' % (n.x, n.x)"),
        doubled("'xx'", "'{0}{0}'.format(n.x)"),
        doubled("'xx'", "'%s%s'|format(n.x, n.x)"),
        doubled("[1]", "[n.x, n.x]").replace("n.x|length", "n.x"),
        doubled("[1]", "[n.x, n.x]").replace("n.x|length", "n.x|tojson"),
        doubled("[1]", "[n.x, n.x]").replace("n.x|length", "n.x|string"),
        doubled("[1]", "[n.x, n.x]").replace("n.x|length", "n.x ~ 'a'"),
        doubled("[1]", "[n.x, n.x]").replace("{{ n.x|length }}", "{{ n.x == [n.x] }}"),
        "{{ 'x'.center(10000000000) }}",
        "{{ 'x'|center(10000000000) }}",
        "{{ 'x'.ljust(10000000000) }}{{ '1'.zfill(10000000000) }}",
        "{{ 'x\\n' * 9999|int }}{{ ('x\\n' * 99999)|indent(99999) }}",
        "{{ '\\t'.expandtabs(10000000000) }}",
        "{{ (5).to_bytes(10000000000, 'big') }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10000000000, 1) }}",
        "{{ '%10000000000d'|format(1) }}",
        "{{ '{:10000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10000000000) }}",
        "{{ [1]|tojson(indent=10000000000) }}",
        "{{ [1]|batch(10000000000, 'x')|list }}",
        "{{ [1]|slice(10000000000)|list }}",
        "{{ ([[1]] * 999999)|sum(start=[]) }}",
        "{% for a in range(99999) %}" + "x" * 10_000 + "{% endfor %}",
        "{% set t %}{% for a in range(99999) %}" + "x" * 10_000 + "{% endfor %}{% endset %}",
        "{% set t = 'x' * 9999999 %}{% for a in range(99999) %}{{ t }}{% endfor %}",
        "{{ lipsum(n=100000) }}",
        "{{ 'x'.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ namespace(__class__=1) }}",
        "{{ raise_exception('no') }}",
        "x" * (1 << 21),
    ],
)
def test_what_burns_time_or_memory_is_refused(source: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((TemplateError, RecursionError, TypeError, ValueError)):
        render_template(source, VALUES)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 600 << 10


def test_the_budget_is_each_rendering_s_own() -> None:
    source = "{% for a in range(20000) %}{% for b in range(30) %}{% endfor %}{% endfor %}ok"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(render_template(source, VALUES))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*found, render_template(source, VALUES)] == ["ok"] * 3


def test_a_template_that_burns_is_a_refusal_of_the_conversation() -> None:
    tokenizer = make_tokenizer()
    burning = "{% if messages[0]['content'] == 'burn' %}" + NEST + "{% endif %}" + TEMPLATE
    template = chat_template(tokenizer, burning)
    assert template.encode_prompt([{"role": "user", "content": "warm"}])
    with pytest.raises(DataError, match="more work than any conversation needs"):
        template.encode_prompt([{"role": "user", "content": "burn"}])


def test_all_renderings_of_a_conversation_have_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each beginning of a conversation stays within a rendering's budget, all of them together do not."""
    monkeypatch.setattr("budwood.engine.chat_sandbox.TOGETHER", 40_000)
    work = "{% if messages | length > 2 %}{% for a in range(100) %}{% for b in range(100) %}{% endfor %}{% endfor %}{% endif %}"
    template = chat_template(make_tokenizer(), work + TEMPLATE)
    talk = [{"role": ("user", "assistant")[turn % 2], "content": str(turn)} for turn in range(9)]
    assert template.encode_prompt(talk[:1])
    assert template.encode_prompt(talk[:3])
    # Cutting at earlier answers is given up where they are rendered otherwise; work that ran out is no such reason.
    with pytest.raises(DataError, match="more work than any conversation needs"):
        template.encode_prompt(talk)
    assert template.encode_prompt(talk[:3]), "what one conversation has spent is no other's loss"


CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief.  "},
    {"role": "user", "content": "Wo ist es? äöü <b> \u2028 'x' \"y\""},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": {"a": [1, 2.5, None, True]}}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "<found>"},
    {"role": "assistant", "content": "There.", "reasoning": "I see"},
]
TOOLS = [{"type": "function", "function": {"name": "find", "description": "finds", "parameters": {"type": "object"}}}]
FEATURES = (
    "{%- set ns = namespace(system='', count=0, self=1) -%}\n{{ bos_token if bos_token else '' }}"
    "{%- macro show(text, wide=false) -%}[{{ text | trim }}{% if wide %}|{{ caller is defined }}{% endif %}]{%- endmacro %}\n"
    "{% if messages[0]['role'] == 'system' %}{% set ns.system = messages[0].content %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set loop_messages = messages %}{% endif %}"
    "{{ show(ns.system, wide=true) }}\n"
    "{%- for message in loop_messages if message.role != 'nobody' %}\n"
    "  {%- set ns.count = ns.count + 1 %}\n"
    "  {{- loop.index0 ~ '/' ~ loop.length ~ ('!' if loop.last else '') }}"
    "  {%- if message.reasoning_content is defined %}<{{ message.thinking }}>{% endif %}"
    "  {%- for call in message.tool_calls or [] %}{{ call.function.arguments | tojson(indent=2) }}"
    "{{ call.function.arguments.items() | list }}{% endfor %}"
    "  {{- message.content.split('?')[0].strip() | upper | replace('ß', 'ss') }}"
    "  {%- if loop.index % 2 == 0 %}{% continue %}{% endif %}"
    "  {%- generation %}{{ '%s-%d' % (message.role, ns.count) }}{{ '{:>8}'.format(message.role) }}{% endgeneration %}"
    "  {%- if ns.count > 9 %}{% break %}{% endif %}"
    "{%- endfor %}"
    "{{ tools | map(attribute='function') | map(attribute='name') | join(', ') if tools }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ [3, 1] | sort }}{{ {'b': 1}.get('c', 'none') }}"
    "{{ range(3) | list }}{{ 'x' * 3 }}{{ 2 ** 5 }}{{ none }}{{ undefined_thing }}{{ messages[-1:] | length in [1] }}"
    "{{ (tools or [])[0].function | tojson }}{{ 'a\\nb' | indent(4) }}{{ dict(a=1) }}{{ 'abc'[::-1] }}"
    "{% if add_generation_prompt %}<go>{% endif %}{# gone #}"
)


@pytest.mark.parametrize("source", [TEMPLATE, DEFAULT_TEMPLATE, FEATURES])
@pytest.mark.parametrize("generation", [True, False])
@pytest.mark.parametrize("turns", [2, 5])
def test_what_is_not_refused_renders_as_transformers_does(source: str, generation: bool, turns: int) -> None:
    tokenizer = make_tokenizer()
    messages: list[dict[str, Any]] = CONVERSATION[:turns]
    tools: list[Any] = list(TOOLS)
    template = chat_template(tokenizer, TEMPLATE)
    ours = type(template)(tokenizer, source, (), template.digest, (), template.tokens)
    theirs = tokenizer.apply_chat_template(
        messages, tools=tools, chat_template=source, tokenize=False, add_generation_prompt=generation
    )
    assert ours.render(messages, tools, generation=generation) == theirs


def test_a_long_conversation_stays_far_within_the_budget() -> None:
    messages = [{"role": ("user", "assistant")[turn % 2], "content": "x" * 4000} for turn in range(512)]
    text = render_template(FEATURES, {"messages": messages, "tools": TOOLS, "add_generation_prompt": True})
    assert 4000 < len(text) < LARGEST
