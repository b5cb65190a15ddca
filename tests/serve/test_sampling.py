"""What is kept of requests: redacted before it is written, in a form that the other stages read, and never in the way."""

import errno
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from budwood.data.report.production import read_production
from budwood.evaluate.suite import make_suite
from budwood.events import Event
from budwood.prepare.run import prepare
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.serve.aftermath import MOST_WAITING, Aftermath, outcome_of
from budwood.serve.exchange import Answer, Exchange
from budwood.serve.metrics import Metrics
from budwood.serve.sampling import Sampler
from budwood.store import Store, open_store, traffic

SECRETS = ("ann@example.org", "4111 1111 1111 1111", "+44 20 7946 0958")
AT = 1_795_000_000.0
LIVE = cast(Any, SimpleNamespace(name="support", digest="ab" * 32, version=3))


def exchange(number: int = 0, text: str = "", **more: Any) -> Exchange:
    said = text or f"question {number}: how do I change the address of order {'abcdefghij'[number % 10] * 4}?"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]
    given = {
        "id": f"chatcmpl-{number}",
        "model": "support",
        "live": LIVE,
        "key": "ann",
        "messages": messages,
        "prompts": (),
        "tools": (),
        "choices": 1,
        "schema": None,
        "answers": [Answer(f"answer {number}", "stop")],
        "end": "answered",
        "at": AT + number,
        "seconds": 0.25,
    }
    return Exchange(**{**given, **more})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


def sampler(root: Path, **more: Any) -> Sampler:
    given = {"server_id": "s", "share": 1.0, "days": 30, "metrics": Metrics(), "report": lambda event: None}
    return Sampler(root, **{**given, **more})


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in traffic.files(root) for line in path.read_text("utf-8").splitlines()]


def test_nothing_personal_is_in_any_byte_and_who_asked_is_not_told(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "mail", "description": f"Writes to {SECRETS[0]}", "parameters": {}}}]
    call = {"id": "1", "type": "function", "function": {"name": "mail", "arguments": json.dumps({"to": SECRETS[0]})}}
    messages = [
        {"role": "user", "content": f"card {SECRETS[1]}, call {SECRETS[2]}"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": f"sent to {SECRETS[0]}"},
    ]
    answers = [Answer(f"I wrote to {SECRETS[0]}", "stop")]
    given = exchange(messages=messages, tools=tools, answers=answers)
    writer = sampler(tmp_path)
    writer.take(given)
    writer.take(replace(given, shadow_of=given))
    data = b"".join(path.read_bytes() for path in traffic.files(tmp_path)).decode()
    assert not any(secret in data for secret in (*SECRETS, '"ann"'))
    assert data.count("[EMAIL]") >= 6
    served, shadow = lines(tmp_path)
    assert served["messages"][-1] == {"role": "assistant", "content": "I wrote to [EMAIL]"}
    assert (served["release"], served["request"], served["finish_reason"]) == (LIVE.digest, "chatcmpl-0", "stop")
    assert shadow["live"] == {"release": LIVE.digest, "answer": "I wrote to [EMAIL]"}


def test_the_share_is_drawn_and_only_answers_are_kept(tmp_path: Path) -> None:
    draws = iter([0.05, 0.5, 0.09, 0.1])
    writer = sampler(tmp_path, share=0.1, draw=lambda: next(draws))
    for number in range(4):
        writer.take(exchange(number))
    for end in ("failed", "given up"):
        writer.take(exchange(9, end=end, answers=()))
    assert [record["request"] for record in lines(tmp_path)] == ["chatcmpl-0", "chatcmpl-2"]


def test_other_stages_read_what_was_kept(store: Store, tmp_path: Path) -> None:
    writer = sampler(store.root)
    for number in range(12):
        writer.take(exchange(number))
    asked = [f"say the word {word} again" for word in ("oak", "ash", "elm", "yew")]
    writer.take(exchange(0, messages=(), prompts=asked[:2], answers=[Answer(f"{word}.", "stop") for word in ("oak", "ash")]))
    twice = [Answer(f"{word}.", "stop") for word in ("elm", "elm", "yew", "yew")]
    writer.take(exchange(0, messages=(), prompts=asked[2:], choices=2, answers=twice))
    chat, completions = traffic.files(store.root)
    recipe = recipe_from_mapping(
        {
            "name": "again",
            "source": [{"path": str(chat), "split": "test"}, {"path": str(completions), "split": "train"}],
            "prepare": {"near_duplicate": 0.999, "validation": 0.0},
            "evaluate": {"slice_by": ["version"]},
        },
        folder=tmp_path,
    )
    snapshot = prepare(recipe, store, token_length=None, context=0)
    suite = make_suite(recipe, store, snapshot)
    assert len(suite.cases) == 12
    assert {(case.expected.partition(" ")[0], case.slices["version"]) for case in suite.cases} == {("answer", "3")}
    said = [json.loads(line)["prompt"] for line in completions.read_text().splitlines()]
    assert said == [asked[0], asked[1], asked[2], asked[2], asked[3], asked[3]]
    for path, count in ((chat, 12), (completions, 6)):
        found = read_production(path, cast("Recipe | None", None))
        assert (found.read, found.unusable, len(found.prompts)) == (count, 0, count)


def test_a_full_disk_is_counted_told_once_and_over_when_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    metrics = Metrics()
    writer = sampler(tmp_path, metrics=metrics, report=events.append)

    def full(path: Path, lines: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(traffic, "append", full)
        for number in range(3):
            writer.take(exchange(number))
    writer.take(exchange(4))
    text = metrics.text().decode()
    assert 'budwood_feedback_dropped_total{reason="disk"} 3.0' in text
    assert 'budwood_feedback_sampled_total{kind="served"} 1.0' in text
    assert [event.message for event in events] == [
        "Sampled requests cannot be kept: No space left on device; they are dropped and counted",
        "Sampled requests are kept again",
    ]


def test_a_slow_disk_fills_the_queue_and_delays_nobody() -> None:
    """Nobody empties the queue: putting still returns, and what does not fit is counted."""
    metrics = Metrics()
    queue = Aftermath([], metrics, tidy=lambda: None)
    for number in range(MOST_WAITING + 5):
        queue.put(exchange(number))
    assert 'budwood_feedback_dropped_total{reason="busy"} 5.0' in metrics.text().decode()


def test_old_files_go_when_their_days_are_over(tmp_path: Path) -> None:
    now = [AT]
    writer = sampler(tmp_path, days=2, wall_clock=lambda: now[0])
    writer.take(exchange())
    writer.tidy()
    assert len(lines(tmp_path)) == 1
    now[0] += 3 * 86_400
    writer.tidy()
    assert lines(tmp_path) == []


def test_an_answer_is_held_against_the_schema_that_was_asked_for() -> None:
    schema = '{"type": "object", "required": ["intent"]}'
    answers = [Answer('{"intent": "refund"}', "stop"), Answer('{"intent": "ref', "length"), Answer("{}", "stop")]
    found = outcome_of(exchange(schema=schema, answers=answers, choices=3))
    assert (found.requests, found.errors, found.schema_answers, found.schema_errors) == (1, 0, 3, 2)
    assert outcome_of(exchange(schema=schema, end="failed", answers=())).errors == 1


def test_a_request_that_nobody_foresaw_costs_itself_alone_and_is_not_shown() -> None:
    """Nested as deeply as a body may be, it is too deep for the redaction: the thread lives, and says which request."""
    metrics = Metrics()
    events: list[Event] = []
    seen: list[str] = []

    def consume(one: Exchange) -> None:
        if one.id == "chatcmpl-0":
            raise RecursionError(SECRETS[0])
        seen.append(one.id)

    queue = Aftermath([consume], metrics, tidy=lambda: None, report=events.append)
    for number in range(2):
        queue.put(exchange(number))
    stop = threading.Event()
    stop.set()
    queue.run(stop)
    assert seen == ["chatcmpl-1"]
    assert [event.message for event in events] == ["Request chatcmpl-0 could not be counted or sampled: RecursionError"]
    assert 'budwood_feedback_dropped_total{reason="failed"} 1.0' in metrics.text().decode()


def test_what_waits_is_bounded_by_its_length_too() -> None:
    metrics = Metrics()
    queue = Aftermath([], metrics, tidy=lambda: None)
    long = exchange(0, "x" * (1 << 20))
    for _ in range(80):
        queue.put(long)
    assert 'budwood_feedback_dropped_total{reason="busy"} 16.0' in metrics.text().decode()
