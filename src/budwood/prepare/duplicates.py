"""Which rows say the same: leaks into a published test file, exact duplicates, conflicting answers.

Rows of a published test file are never dropped here; they are flagged. What is found about other rows:

* leak: asks just what a published test row asks, whatever it answers;
* conflict: same prompt, different answers; the recipe says what becomes of them;
* exact duplicate: same prompt, same answer; the first stays.

Each step looks at the rows that are still in after the one before. `said` has the meaning of `prepare.said`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError
from budwood.prepare.columns import Table
from budwood.prepare.same import first_among, first_pair, first_same
from budwood.prepare.verdicts import COPY, DIFFERENT, SAME_PROMPT, Verdicts, Wording

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sayings:
    """For each row the first one with the same key, (N,).

    Args:
        prompt: system message, tools and turns.
        turns: turns alone.
        whole: prompt and answer.
    """

    prompt: "NDArray[int64]"
    turns: "NDArray[int64]"
    whole: "NDArray[int64]"


def sayings(table: Table) -> Sayings:
    prompt = first_same(table.key("prompt"))
    return Sayings(prompt, first_same(table.key("turns")), first_pair(prompt, first_same(table.key("answer"))))


def find_leaks(said: Sayings, published: "NDArray[bool_]", new: "NDArray[bool_]", verdicts: Verdicts) -> None:
    """Put out the new rows that ask what a published one asks."""
    import numpy

    asked = first_among(said.turns, published)[said.turns]
    rows = numpy.flatnonzero(new & ~published & (asked < len(asked)))
    verdicts.take(rows, SAME_PROMPT, asked[rows], published)


def find_conflicts(
    said: Sayings, published: "NDArray[bool_]", new: "NDArray[bool_]", verdicts: Verdicts, policy: str, words: Wording
) -> None:
    """Judge rows that answer one prompt differently; every row is a vote, exact duplicates included.

    A published test file's rows have no vote on the others, and are flagged among themselves.

    Raises:
        DataError: the policy is "stop" and there is a conflict. The first ones are listed, without their text.
    """
    for members in _conflicts(said, new & published & verdicts.is_in):
        _put_out(members, f"its prompt has {len(set(said.whole[members].tolist()))} different answers", verdicts, published)
    if policy == "keep":
        return
    conflicts = _conflicts(said, new & ~published & verdicts.is_in)
    if policy == "stop" and conflicts:
        raise _stop(conflicts, words)
    for members in conflicts:
        _vote(members, said, policy, verdicts, published, words)


def find_copies(said: Sayings, published: "NDArray[bool_]", new: "NDArray[bool_]", verdicts: Verdicts) -> None:
    """Find rows that repeat an earlier one which is still in; published test rows and others are compared apart."""
    import numpy

    for side in (published, ~published):
        among = new & side & verdicts.is_in
        first = first_among(said.whole, among)[said.whole]
        rows = numpy.flatnonzero(among & (first < numpy.arange(len(first))))
        verdicts.take(rows, COPY, first[rows], published)


def _conflicts(said: Sayings, among: "NDArray[bool_]") -> list["NDArray[int64]"]:
    """Rows of each prompt that has different answers, by its first row; each rising."""
    import numpy

    rows = numpy.flatnonzero(among)
    prompt, whole = said.prompt[rows], said.whole[rows]
    answers = numpy.unique(numpy.stack([prompt, whole], axis=1), axis=0)[:, 0] if len(rows) else prompt
    several, counts = numpy.unique(answers, return_counts=True)
    mine = rows[numpy.isin(prompt, several[counts > 1])]
    order = numpy.argsort(said.prompt[mine], kind="stable")
    mine = mine[order]
    starts = numpy.flatnonzero(numpy.diff(said.prompt[mine], prepend=-1))
    groups = [mine[start:stop] for start, stop in pairwise([*starts.tolist(), len(mine)])]
    return sorted(groups, key=lambda members: int(members[0]))


def _vote(
    members: "NDArray[int64]",
    said: Sayings,
    policy: str,
    verdicts: Verdicts,
    published: "NDArray[bool_]",
    words: Wording,
) -> None:
    answers = said.whole[members]
    votes = Counter(answers.tolist())
    (winner, most), (_, second) = votes.most_common(2)
    what = f"its prompt has {len(votes)} different answers"
    if policy == "drop" or most == second:
        why = "" if policy == "drop" else ", none of them with a majority"
        _put_out(members, what + why, verdicts, published)
        return
    first = int(members[answers == winner][0])
    reason = f"{what}; {most} of {len(members)} rows answer as row {words.row_id(first)} does"
    _put_out(members[answers != winner], reason, verdicts, published)


def _put_out(rows: "NDArray[Any]", reason: str, verdicts: Verdicts, published: "NDArray[bool_]") -> None:
    import numpy

    verdicts.take(rows, DIFFERENT, numpy.full(len(rows), verdicts.say(reason)), published)


def _stop(conflicts: Sequence["NDArray[int64]"], words: Wording) -> DataError:
    shown = "; ".join(" and ".join(map(words.place, members[:3].tolist())) for members in conflicts[:3])
    return DataError(
        f"{len(conflicts):,} prompts have different answers: {shown}{'; …' if len(conflicts) > 3 else '.'}",
        mend='Correct them, or set [prepare] conflicts to "majority", "drop" or "keep".',
    )
