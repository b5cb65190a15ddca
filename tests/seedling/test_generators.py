"""The text generators: same seed, same text; answers that follow from the prompt; patterns that all parse."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from tools.seedling import contamination, records, service, service_tasks, skills
from tools.seedling.chat import Chat
from tools.seedling.wording import Pattern, say

GENERATORS: tuple[Callable[[random.Random], Chat], ...] = (skills.task, records.task, service_tasks.task)


@pytest.mark.parametrize("make", GENERATORS)
def test_the_seed_decides_the_text(make: Callable[[random.Random], Chat]) -> None:
    first, again, other = random.Random(3), random.Random(3), random.Random(4)
    drawn = [make(first) for _ in range(50)]
    assert drawn == [make(again) for _ in range(50)]
    assert drawn != [make(other) for _ in range(50)]


@pytest.mark.parametrize("make", GENERATORS)
def test_a_conversation_ends_with_a_full_answer(make: Callable[[random.Random], Chat]) -> None:
    rng = random.Random(5)
    for _ in range(300):
        chat = make(rng)
        assert chat[-1][0] == "assistant"
        assert all(content.strip() for _, content in chat)


def test_every_pattern_of_every_situation_parses() -> None:
    rng = random.Random(0)
    for situation in service.situations():
        assert situation.name
        assert situation.meaning
        for wording in situation.wordings:
            assert say(wording, rng)


def test_names_of_situations_mean_one_thing_in_a_domain() -> None:
    meanings: dict[tuple[str, str], str] = {}
    for situation in service.situations():
        assert meanings.setdefault((situation.domain, situation.name), situation.meaning) == situation.meaning


def test_a_pattern_draws_each_branch_and_binds_a_slot_once() -> None:
    rng = random.Random(0)
    assert {say("(a|b|)c", rng) for _ in range(60)} == {"ac", "bc", "c"}
    values: dict[str, str] = {}
    first, second = say("<order>/<order>", rng, values).split("/", 1) if "/" not in values else ("", "")
    assert first == second == values["order"]


@pytest.mark.parametrize("text", ["(a|b", "a)b"])
def test_an_unbalanced_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Pattern(text)


def test_json_answers_are_json_and_copy_from_the_text() -> None:
    rng = random.Random(8)
    for _ in range(200):
        chat = records.to_json(rng)
        prompt = "\n".join(content for _, content in chat[:-1])
        for value in json.loads(chat[-1][1]).values():
            assert value is None or value in prompt


def test_blocked_lines_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = service.Situation("n", "m", "d", ("(one|two)",))
    monkeypatch.setattr(service, "blocked", lambda: frozenset({service.fingerprint("one")}))
    rng = random.Random(0)
    drawn = {service.normalise(service.message(rng, situation, plain=True).text) for _ in range(80)}
    assert "two" in drawn
    assert "one" not in drawn


def test_overlap_is_counted_by_row_and_by_run() -> None:
    rows = {"how do i do it", "a b c d e f g h i"}
    found = contamination.measure(["<|user|>How do I do it?<|end|>", "z a b c d e f g h y", "nothing"], rows)
    assert (found.rows_found, found.rows_hit, found.runs_found) == (1, 1, 1)
