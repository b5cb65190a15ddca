"""Which rows say the same: leaks into a published test file, exact duplicates, conflicting answers.

Rows of a published test file are never dropped here; they are flagged. What is found about other rows:

* leak: asks just what a published test row asks, whatever it answers;
* conflict: same prompt, different answers; the recipe says what becomes of them;
* exact duplicate: same prompt, same answer; the first stays.

Each step looks at the rows that are still in after the one before. `said` has the meaning of `prepare.said`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from budwood.prepare.columns import Table
from budwood.prepare.conflicts import Answers, Judged, judge, stop
from budwood.prepare.same import first_among, first_pair, first_same
from budwood.prepare.verdicts import COPY, DIFFERENT, SAME_PROMPT, Verdicts, Wording
from budwood.recipe import PrepareSection

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sayings:
    """For each row the first one with the same key, (N,).

    Args:
        prompt: system message, tools and turns.
        turns: turns alone.
        answer: the answer.
        whole: prompt and answer.
    """

    prompt: "NDArray[int64]"
    turns: "NDArray[int64]"
    answer: "NDArray[int64]"
    whole: "NDArray[int64]"


class Answered(Protocol):
    """Reads rows again."""

    def answer(self, row: int, /) -> str:
        """A row's answer, normalised but for calls."""
        ...

    def task(self, row: int, /) -> str:
        """What of its prompt is no turn: system message and tools."""
        ...


def sayings(table: Table) -> Sayings:
    prompt = first_same(table.take_key("prompt"))
    answer = first_same(table.take_key("answer"))
    return Sayings(prompt, first_same(table.take_key("turns")), answer, first_pair(prompt, answer))


def find_leaks(said: Sayings, published: "NDArray[bool_]", new: "NDArray[bool_]", verdicts: Verdicts) -> None:
    """Put out the new rows that ask what a published one asks."""
    import numpy

    asked = first_among(said.turns, published)[said.turns]
    rows = numpy.flatnonzero(new & ~published & (asked < len(asked)))
    verdicts.take(rows, SAME_PROMPT, asked[rows], published)


def answers_of(said: Sayings, published: "NDArray[bool_]", verdicts: Verdicts, words: Wording, texts: Answered) -> Answers:
    """Give what the new rows answer to what as columns; those that are out already went as leaks."""
    rows = words.table.rows
    return Answers(
        prompt=said.prompt[:rows],
        answer=said.answer[:rows],
        published=published[:rows],
        leaks=~verdicts.is_in[:rows],
        text=texts.answer,
        row_id=words.row_id,
        task=texts.task,
    )


def find_conflicts(
    answers: Answers, published: "NDArray[bool_]", verdicts: Verdicts, section: PrepareSection, words: Wording
) -> Judged:
    """Judge new rows that answer one prompt differently; every row is a vote, exact duplicates included.

    Raises:
        Conflicting: the policy is "stop" and there is a conflict. The first ones are listed, without their text.
    """
    import numpy

    judged = judge(answers, section.conflicts, section.labels)
    fault = stop(judged, words.place_of) if section.conflicts == "stop" else None
    if fault is not None:
        raise fault
    for conflict in judged.conflicts:
        out = numpy.array(conflict.out, numpy.int64)
        verdicts.take(out, DIFFERENT, numpy.full(len(out), verdicts.say(conflict.reason)), published)
    return judged


def find_copies(said: Sayings, published: "NDArray[bool_]", new: "NDArray[bool_]", verdicts: Verdicts) -> None:
    """Find rows that repeat an earlier one which is still in; published test rows and others are compared apart."""
    import numpy

    for side in (published, ~published):
        among = new & side & verdicts.is_in
        first = first_among(said.whole, among)[said.whole]
        rows = numpy.flatnonzero(among & (first < numpy.arange(len(first))))
        verdicts.take(rows, COPY, first[rows], published)
