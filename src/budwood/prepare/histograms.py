"""How long rows are, and which answers they give: small counters that are fed row by row and added up.

    counted = Histograms(labels=section.labels)
    counted.add("train", measure(messages), tokens)
    counted.merge(another_process)
    counted.as_body()

The bins are fixed, so that counters of several processes add up to what one would have counted, in whatever order, and
snapshots can be laid side by side. Each bin reaches from its edge up to the next one.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from budwood.prepare.row import SPLITS, Message, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

EDGES: tuple[int, ...] = (0, 1, 2, 3, *(step << power for power in range(1, 20) for step in (2, 3)), 1 << 21)
"""Lower ends of the bins: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, … 2²¹; the last one is open."""
MEASURES = ("tokens", "prompt_characters", "answer_characters")
LONGEST_LABEL = 80
"""Characters up to which an answer can be a label."""
MOST_LABELS = 1000
"""Different answers up to which they can be labels."""
ROWS_A_LABEL = 5
"""Rows that each of a closed set of answers must have on average, where the recipe does not list them."""
SHOWN_LABELS = 30
RAREST_SHOWN = 3
"""Rows that must give an answer before its text is shown, where the recipe does not list it: a rare one may be a person's."""


class Sizes(NamedTuple):
    """A row, measured.

    Args:
        prompt: characters of everything before the last message.
        answer: characters of the last message.
        label: the answer where it can be a label, else None.
    """

    prompt: int
    answer: int
    label: str | None


def measure(messages: Sequence[Message]) -> Sizes:
    *before, last = messages
    prompt = sum(map(_length, before))
    answer = _length(last)
    plain = last.role == "assistant" and not last.calls and answer <= LONGEST_LABEL
    return Sizes(prompt, answer, last.content if plain else None)


def _length(message: Message) -> int:
    return sum(map(len, message.texts)) if message.calls or message.name else len(message.content)


class Histograms:
    """Counters of one snapshot's kept rows, by split.

    Args:
        labels: answers that the recipe allows; empty: any.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._declared = frozenset(labels)
        self._bins = {split: {measured: [0] * (len(EDGES) + 1) for measured in MEASURES} for split in SPLITS}
        self._labels = {split: Counter[str]() for split in SPLITS}
        self._known: set[str] = set()
        self._open = False

    def add(self, split: Split, sizes: Sizes, tokens: int | None = None) -> None:
        """Count one row; `tokens` is its length after the template, where that was measured."""
        bins = self._bins[split]
        bins["prompt_characters"][bisect_right(EDGES, sizes.prompt)] += 1
        bins["answer_characters"][bisect_right(EDGES, sizes.answer)] += 1
        if tokens is not None:
            bins["tokens"][bisect_right(EDGES, tokens)] += 1
        if self._open:
            return
        if sizes.label is None:
            self._give_up()
        else:
            self._labels[split][sizes.label] += 1
            self._known.add(sizes.label)
            self._give_up_on_many()

    def add_many(self, split: Split, sizes: "NDArray[Any]", labels: Sequence[str], tokens: "NDArray[Any]") -> None:
        """Count many rows.

        Args:
            split: of all of them.
            sizes: characters of prompt and answer, and the answer's place in `labels` or −1, (N, 3).
            labels: answers that can be labels.
            tokens: lengths after the template, or −1, (N,).
        """
        import numpy

        measured = {"prompt_characters": sizes[:, 0], "answer_characters": sizes[:, 1], "tokens": tokens[tokens >= 0]}
        for name, values in measured.items():
            places = numpy.bincount(numpy.searchsorted(EDGES, values, side="right"), minlength=len(EDGES) + 1)
            self._bins[split][name] = [one + more for one, more in zip(self._bins[split][name], places.tolist(), strict=True)]
        if (sizes[:, 2] < 0).any():
            self._give_up()
        if self._open:
            return
        for place, count in enumerate(numpy.bincount(sizes[:, 2]).tolist()):
            if count:
                self._labels[split][labels[place]] += count
                self._known.add(labels[place])
        self._give_up_on_many()

    def merge(self, other: "Histograms") -> None:
        """Add what another has counted."""
        for split, measures in other._bins.items():
            for measured, bins in measures.items():
                self._bins[split][measured] = [one + more for one, more in zip(self._bins[split][measured], bins, strict=True)]
        if other._open:
            self._give_up()
        if not self._open:
            for split, labels in other._labels.items():
                self._labels[split].update(labels)
            self._known |= other._known
            self._give_up_on_many()

    def as_body(self) -> dict[str, Any]:
        """Give the figures as a snapshot holds them.

        Measure → split → [[lower end of a bin, rows], …], from the first bin that has rows to the last; and the labels, None
        where answers are no closed set.
        """
        lengths = {
            measured: {split: bins for split in SPLITS if (bins := _run(self._bins[split][measured]))} for measured in MEASURES
        }
        return {measured: splits for measured, splits in lengths.items() if splits} | {"labels": self._label_body()}

    def _label_body(self) -> dict[str, Any] | None:
        totals = sum(self._labels.values(), Counter[str]())
        closed = bool(self._declared) or totals.total() >= ROWS_A_LABEL * len(totals)
        if self._open or not totals or not closed:
            return None
        ordered = sorted(totals, key=lambda label: (-totals[label], label))
        shown = [one for one in ordered if one in self._declared or totals[one] >= RAREST_SHOWN][:SHOWN_LABELS]
        others = [one for one in ordered if one not in set(shown)]
        return {
            "different": len(totals),
            "rows": [[label, *(self._labels[split][label] for split in SPLITS)] for label in shown],
            "others": {"labels": len(others), "rows": sum(totals[label] for label in others)},
        }

    def _give_up(self) -> None:
        """Answers are no closed set: forget them."""
        self._open = True
        self._known.clear()
        for labels in self._labels.values():
            labels.clear()

    def _give_up_on_many(self) -> None:
        if len(self._known) > MOST_LABELS:
            self._give_up()


def _run(counted: Sequence[int]) -> list[list[int]]:
    """List bins by their lower ends, from the first that has rows to the last; each stands one place behind its edge."""
    full = [place for place, rows in enumerate(counted) if rows]
    return [[EDGES[place - 1], counted[place]] for place in range(full[0], full[-1] + 1)] if full else []
