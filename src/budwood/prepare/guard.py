"""What a row shares with the benchmarks: the index over all of them, what is found in a row, and the words for it.

    guard = make_guard(benchmarks, section)
    hits = guard.look(row.messages)            # benchmark rows of which too much stands in this row
    tally(guard.benchmarks, dropped, flagged)  # reasons of rows → figures by benchmark

The words are all that is kept of a find, so that rows may be judged in any process and in any order; the figures are counted
from them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from budwood.prepare.benchmarks import Benchmark
from budwood.prepare.row import Message
from budwood.recipe import PrepareSection
from budwood.text.normalise import normalise
from budwood.text.overlap.alike import AlikeIndex, index_alike
from budwood.text.overlap.index import LONG, Index, Shared, index_texts

LEAST_UNITS = 24
"""Words that a text needs for a share of it to be judged: in a shorter one a single shared phrase is a third of it."""
NAMED = 20
"""Benchmark rows that a reason names."""
SIDES = ("prompt", "answer")


@dataclass(frozen=True)
class Hit:
    """A benchmark row of which too much stands in a training row.

    Args:
        benchmark: its place among the benchmarks.
        line: the benchmark row's.
        sides: what of its prompt and of its answer is shared; None: nothing.
        alike: how alike the prompts are, for short ones; else 0.
    """

    benchmark: int
    line: int
    sides: tuple[Shared | None, Shared | None]
    alike: float


@dataclass(frozen=True)
class Guard:
    """The index.

    Args:
        benchmarks: in the recipe's order.
        index: n-grams of prompts and answers, in turn.
        alike: short prompts.
        rows: benchmark and line of each row.
        coverage: [prepare] contamination_coverage.
        run: [prepare] contamination_run.
    """

    benchmarks: tuple[Benchmark, ...]
    index: Index
    alike: AlikeIndex
    rows: Sequence[tuple[int, int]]
    coverage: float
    run: bool

    def look(self, messages: Sequence[Message]) -> list[Hit]:
        """List what is in a row, system messages aside; in the order of the benchmarks."""
        said = [(message.role, normalise(_text(message))) for message in messages if message.role != "system"]
        shared = {one.text: one for one in self.index.shared([text for _, text in said])}
        near = {one.text: one.similarity for text in self._asked(said) for one in self.alike.find(text)}
        if not shared and not near:
            return []
        guilty = {one.text // 2 for one in shared.values() if self.covers_too_much(one) or (self.run and one.run)} | near.keys()
        return [
            Hit(*self.rows[row], (shared.get(2 * row), shared.get(2 * row + 1)), near.get(row, 0.0)) for row in sorted(guilty)
        ]

    def _asked(self, said: Sequence[tuple[str, str]]) -> Iterable[str]:
        """Give what may be a short prompt: each of the user's turns, and all turns before the answer."""
        if not self.alike.longest:
            return ()
        before = said[:-1] if said and said[-1][0] == "assistant" else said
        return dict.fromkeys([*(text for role, text in said if role == "user"), " ".join(text for _, text in before)])

    def covers_too_much(self, shared: Shared) -> bool:
        """Say whether too much is covered: of a short prompt, all of it; of a short answer, nothing is too much."""
        if self.index.units[shared.text] >= LEAST_UNITS:
            return shared.coverage >= self.coverage
        return shared.text % 2 == 0 and shared.covered == shared.countable > 0

    def say(self, hits: Sequence[Hit]) -> str:
        """Give the reason: files, lines and shares, never the text."""
        told = [
            f"{self.benchmarks[hit.benchmark].name} line {hit.line:,}: {', '.join(self._words(hit))}" for hit in hits[:NAMED]
        ]
        return "; ".join(told) + (f"; and {len(hits) - NAMED:,} more rows" if len(hits) > NAMED else "")

    def _words(self, hit: Hit) -> Iterator[str]:
        if hit.alike:
            yield f"{hit.alike:.2f} alike"
        for side, shared in zip(SIDES, hit.sides, strict=True):
            if shared is None:
                continue
            if shared.covered:
                # Cut, not rounded: what is below the threshold must not read as if it had reached it.
                share = f"{int(shared.coverage * 100) / 100:.2f} of the {side}"
                yield share if self.covers_too_much(shared) else f"also {share}"
            if shared.run:
                words = f"{LONG} words of the {side} in a row"
                yield words if self.run else f"also {words}"


def make_guard(benchmarks: Sequence[Benchmark], section: PrepareSection) -> Guard:
    """Index benchmarks.

    The recipe's system message counts for nothing. Short prompts of published test files are left to `separate`, which knows
    their groups.
    """
    rows = [(number, row) for number, benchmark in enumerate(benchmarks) for row in benchmark.rows]
    texts = [text for _, row in rows for text in (row.prompt, row.answer)]
    sets = [2 * number + side for number, _ in rows for side in range(len(SIDES))]
    index = index_texts(texts, sets=sets, ignore=[normalise(section.system)])
    short = [
        "" if benchmarks[number].published or index.units[2 * place] >= LEAST_UNITS else row.prompt
        for place, (number, row) in enumerate(rows)
    ]
    return Guard(
        tuple(benchmarks),
        index,
        index_alike(short, section.near_duplicate),
        [(number, row.line) for number, row in rows],
        section.contamination_coverage,
        section.contamination_run,
    )


def _text(message: Message) -> str:
    return " ".join(message.texts) if message.calls or message.name else message.content


def tally(benchmarks: Sequence[Benchmark], dropped: Iterable[str], flagged: Iterable[str]) -> list[dict[str, Any]]:
    """Count by benchmark what the reasons of rows say.

    Args:
        benchmarks: all that were looked at.
        dropped: reasons of rejected rows.
        flagged: reasons of rows that stayed.

    Returns:
        For each its name, digest and rows; `touched`: its rows of which a run, too large a share, or a near-duplicate was
        found, and any of them; `dropped` and `flagged`: rows of the sources. A row that touches more than 20 benchmark rows
        counts for the first 20.
    """
    figures = [_Figures(benchmark) for benchmark in benchmarks]
    names = {figure.benchmark.name: figure for figure in figures}
    pattern = re.compile(rf"(?:^|; )({'|'.join(sorted(map(re.escape, names), key=len, reverse=True))}) line ([\d,]+): ([^;]*)")
    for kind, reasons in (("dropped", dropped), ("flagged", flagged)):
        for reason in reasons:
            found = pattern.findall(reason)
            for name, line, words in found:
                names[name].touch(int(line.replace(",", "")), words)
            for name in {name for name, _, _ in found}:
                names[name].counts[kind] += 1
    return [figure.as_body() for figure in figures]


class _Figures:
    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.touched: dict[str, set[int]] = {"run": set(), "coverage": set(), "alike": set()}
        self.counts = {"dropped": 0, "flagged": 0}

    def touch(self, line: int, words: str) -> None:
        for said in words.split(", "):
            if not said.startswith("also "):
                kind = "run" if said.endswith("in a row") else "alike" if said.endswith("alike") else "coverage"
                self.touched[kind].add(line)

    def as_body(self) -> dict[str, Any]:
        benchmark, touched = self.benchmark, self.touched
        return {
            "name": benchmark.name,
            "sha256": benchmark.sha256,
            "rows": len(benchmark.rows),
            "published": benchmark.published,
            "touched": {kind: len(lines) for kind, lines in touched.items()} | {"any": len(set().union(*touched.values()))},
            **self.counts,
        }
