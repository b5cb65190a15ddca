"""The text generators: same seed, same text; answers that follow from the prompt; patterns that all parse."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tools.seedling import blocklist, contamination, labels, records, service, service_tasks, skills
from tools.seedling.chat import Chat
from tools.seedling.corpus import Corpus
from tools.seedling.wording import Pattern, say
from tools.seedling.words import WordNet

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


def test_a_label_and_its_words_say_the_same() -> None:
    class Net:
        def draw(self, rng: random.Random) -> SimpleNamespace:
            return SimpleNamespace(words=(rng.choice(("late", "spare part", "déjà vu")),))

    rng = random.Random(1)
    turns = [labels.draw(rng, cast(WordNet, Net())) for _ in range(200)]
    pairs = [pair for text in turns for pair in re.findall(r"<\|user\|>(.*?)<\|end\|><\|assistant\|>(.*?)<\|end\|>", text)]
    assert len(pairs) > 200
    for asked, answer in pairs:
        words = re.split("[_ -]", answer)
        assert re.split("[_ -]", asked.removesuffix(" stand for?"))[-len(words) :] == words


def test_a_document_that_holds_a_row_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["<|user|>Well, where is my CARD please?<|end|>", "<|user|>Help me<|end|>", "help me sort this out"]
    listed = blocklist.build(["where is my card", "help me"])
    monkeypatch.setattr(blocklist, "shipped", lambda: listed)
    made = Corpus({"text": lambda rng: rng.choice(texts)})
    drawn = made.documents(random.Random(0), {"text": 1})
    assert {next(drawn) for _ in range(50)} == {"help me sort this out"}


def test_the_blocklist_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    made = blocklist.build(["where is my card", "where is my money now", "help me"])
    assert blocklist.write(made, tmp_path / "blocked.txt") == 3
    back = blocklist.read(tmp_path / "blocked.txt")
    assert back.short == made.short
    assert {head: sorted(rest) for head, rest in back.long.items()} == {h: sorted(r) for h, r in made.long.items()}


def test_a_damaged_blocklist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("one two\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'one two' is neither"):
        blocklist.read(tmp_path / "blocked.txt")


def test_overlap_is_counted_by_row_and_by_run() -> None:
    rows = {"how do i do it", "a b c d e f g h i"}
    found = contamination.measure(["<|user|>Hi, how do I do it now?<|end|>", "z a b c d e f g h y", "nothing"], rows)
    assert (found.rows_found, found.rows_hit, found.runs_found) == (1, 1, 1)


def test_the_header_of_a_benchmark_file_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,category\nWhere is it?,a\n", encoding="utf-8")
    assert contamination.read_rows(tmp_path) == {"where is it"}
