"""What the rule `contamination` finds, what it takes for a find, and how fast it looks.

    python benchmarks/contamination.py --data FOLDER [--json FILE]

FOLDER holds gsm8k/, banking77/ and e2e_nlg/. *Hits*: rows of a training file that its published test file hits, by way, at
several thresholds; and rows of unrelated data that it hits, which are false alarms. *Found*: of 500 test rows that are planted
in a training row, edited in several ways, how many are found. *Speed*: rows a second of processor time, one core, of 100
words each, against GSM8K's 1,319 test rows, normalisation included. Asserts nothing.
"""

import argparse
import csv
import json
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from budwood.identity import Digest
from budwood.prepare.benchmarks import Benchmark, BenchmarkRow
from budwood.prepare.guard import LEAST_UNITS, Guard, Hit, make_guard
from budwood.prepare.row import Message, Origin, Row
from budwood.prepare.rules.contamination import Contamination
from budwood.recipe import PrepareSection
from budwood.text.normalise import normalise
from budwood.text.overlap.index import Shared

Pair = tuple[str, str]
SHARES = (0.3, 0.5, 0.7, 0.9)
LEAST = (8, 16, 24)
PLANTED = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sets = {
        "gsm8k": (_gsm8k(options.data, "train"), _gsm8k(options.data, "test")),
        "banking77": (_banking77(options.data, "train"), _banking77(options.data, "test")),
        "e2e": (_e2e(options.data, "valid"), _e2e(options.data, "test")),
    }
    guards = {name: guard_of(test) for name, (_, test) in sets.items()}
    found: dict[str, Any] = {"hits": {}, "planted": {}}
    for rows, test in [*((name, name) for name in sets), ("banking77", "gsm8k"), ("e2e", "gsm8k"), ("gsm8k", "banking77")]:
        found["hits"][f"{rows} against {test}'s test"] = _hits(sets[rows][0], guards[test])
    for name in ("gsm8k", "banking77"):
        found["planted"][name] = _planted(sets[name][1], sets[name][0], guards[name])
    found["rows_per_s"] = _speed(sets["gsm8k"][0], guards["gsm8k"])
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _gsm8k(folder: Path, name: str) -> list[Pair]:
    lines = (folder / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


def _banking77(folder: Path, name: str) -> list[Pair]:
    with (folder / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [(text, label) for text, label in list(csv.reader(file))[1:]]


def _e2e(folder: Path, name: str) -> list[Pair]:
    lines = (folder / "e2e_nlg" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [(record, text) for record, _, text in (line.partition("||") for line in lines)]


def guard_of(pairs: Sequence[Pair]) -> Guard:
    rows = (BenchmarkRow(line, normalise(prompt), normalise(answer)) for line, (prompt, answer) in enumerate(pairs, start=1))
    return make_guard([Benchmark("test", Digest("0" * 64), tuple(rows), published=False)], PrepareSection())


def _messages(pair: Pair) -> list[Message]:
    return [Message("user", pair[0]), Message("assistant", pair[1])]


def _hits(rows: Sequence[Pair], guard: Guard) -> dict[str, Any]:
    looked = [guard.look(_messages(pair)) for pair in rows]
    shared = [guard.index.shared([normalise(text) for text in pair]) for pair in rows]
    ways: dict[str, Callable[[Hit], bool]] = {
        "run in a prompt": lambda hit: bool(hit.sides[0] and hit.sides[0].run),
        "run in an answer": lambda hit: bool(hit.sides[1] and hit.sides[1].run),
        "coverage": lambda hit: any(side and guard.covers_too_much(side) for side in hit.sides),
        "likeness": lambda hit: hit.alike > 0,
    }
    return {
        "rows": len(rows),
        "hit": sum(map(bool, looked)),
        "by way": {name: sum(any(map(way, hits)) for hits in looked) for name, way in ways.items()},
        "if half were too much of prompts of at least": {
            f"{least} words": sum(
                any(one.text % 2 == 0 and one.coverage >= guard.coverage and _units(guard, one) >= least for one in each)
                for each in shared
            )
            for least in LEAST
        },
        "if too much of texts of at least 24 words were": {
            str(share): sum(any(one.coverage >= share and _units(guard, one) >= LEAST_UNITS for one in each) for each in shared)
            for share in SHARES
        },
    }


def _units(guard: Guard, shared: Shared) -> int:
    return int(guard.index.units[shared.text])


def _planted(test: Sequence[Pair], train: Sequence[Pair], guard: Guard) -> dict[str, float]:
    """Share of planted test prompts that are found, by what was done to them."""
    draw = random.Random(0)
    chosen = draw.sample(range(len(test)), PLANTED)
    vocabulary = sorted({word for prompt, _ in train for word in prompt.split()})

    def changed(share: float, words: list[str]) -> list[str]:
        return [draw.choice(vocabulary) if draw.random() < share else word for word in words]

    edits: dict[str, Callable[[list[str]], list[str]]] = {
        "as it is": lambda words: words,
        "inside another prompt": lambda words: [*draw.choice(train)[0].split(), *words, *draw.choice(train)[0].split()],
        "first two thirds of it": lambda words: words[: -(-2 * len(words) // 3)],
        "every number another": lambda words: [str(draw.randint(1, 99)) if any(map(str.isdigit, w)) else w for w in words],
        **{f"{share:.0%} of the words others": partial(changed, share) for share in (0.02, 0.05, 0.1)},
    }
    found = {}
    for name, edit in edits.items():
        hits = 0
        for place in chosen:
            text = " ".join(edit(test[place][0].split()))
            hits += any(hit.line == place + 1 for hit in guard.look([Message("user", text), Message("assistant", "yes")]))
        found[name] = round(hits / PLANTED, 3)
    return found


def _speed(pairs: Sequence[Pair], guard: Guard) -> int:
    """Rows of 100 words, six in ten of them the prompt's, made of training rows' words in their order."""
    words = [word for pair in pairs for text in pair for word in text.split()]
    origin = Origin("rows", Digest("0" * 64), 1)
    rows = []
    for start in range(0, len(words) - 100, 100):
        pair = (" ".join(words[start : start + 60]), " ".join(words[start + 60 : start + 100]))
        rows.append(Row("", origin, tuple(_messages(pair)), {}, 1.0, "auto"))
    rule = Contamination(guard)
    started = time.process_time()
    for row in rows:
        rule.apply(row)
    return round(len(rows) / (time.process_time() - started))


if __name__ == "__main__":
    main()
