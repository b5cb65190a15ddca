"""Conflicts: rows that answer one prompt differently, found and listed for a decision.

    judged = judge(answers, policy, labels)         # over columns of keys; asks for the text of the few answers that differ
    for conflict in judged.conflicts: conflict.out  # rows that go, and conflict.reason why
    beside = near_conflicts(answers, group, labels) # labels that disagree within a group of near-duplicates; nothing goes
    lines([*judged.conflicts, *beside], place)      # what conflicts.jsonl holds: rows by id, file and line, never their text

Answers that differ only in case, white space or the punctuation at the ends of words are one answer: they vote together, and
are no conflict. A published test file's rows have no vote on the others. What differs between them and the others is listed
too: those others go in any case, as leaks.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import DataError
from budwood.text.normalise import normalise

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray

Policy = Literal["majority", "drop", "stop", "keep"]
Kind = Literal["label", "text"]
Between = Literal["rows", "test rows", "rows and test rows"]
LABEL_WORDS = 5
LABEL_PROMPTS = 3
"""Answers of so few words, one of which at least so many prompts have in common, are labels."""
SHOWN = 10
"""Conflicts that an error names."""
SHOWN_ROWS = 3
"""Of each."""
_LEAK = "the test rows stay, the others go as leaks"
_EXACT = re.compile(r"[{}\[\]<>=`\\|]")
_EDGES = re.compile(r"""(?<!\S)["'“”‘’«»¿¡]+|["'“”‘’«».,;:?…]+(?!\S)|(?<=[^\W\d])!+(?!\S)""")


@dataclass(frozen=True)
class Answers:
    """What the rows answer to what, as columns, (N,) each.

    Args:
        prompt: equal where the prompts are; any number.
        answer: equal where the answers are, whatever the prompt.
        published: rows of published test files.
        leaks: rows that are out already, since a published row asks the same.
        text: a row's answer, normalised but for calls; asked for those that differ alone.
        row_id: a row's id.
        task: what of a row's prompt is no turn (system message, tools), as a text; asked for near-duplicates alone.
    """

    prompt: "NDArray[int64]"
    answer: "NDArray[int64]"
    published: "NDArray[bool_]"
    leaks: "NDArray[bool_]"
    text: Callable[[int], str]
    row_id: Callable[[int], str]
    task: Callable[[int], str]


@dataclass(frozen=True)
class Conflict:
    """One prompt with different answers.

    Args:
        kind: "label" for short answers that many prompts share, or that the recipe lists as labels.
        between: which rows disagree.
        answers: rows of each answer, those of the most frequent one first.
        decision: what becomes of it, in words.
        out: rows that go for it (published ones are flagged).
        reason: why, for the record of these rows.
        prompts: whether they are the same, or only nearly.
    """

    kind: Kind
    between: Between
    answers: tuple[tuple[int, ...], ...]
    decision: str
    out: tuple[int, ...] = ()
    reason: str = ""
    prompts: Literal["same", "near"] = "same"

    @property
    def rows(self) -> list[int]:
        return sorted(row for rows in self.answers for row in rows)


@dataclass(frozen=True)
class Judged:
    """All conflicts, label conflicts first, then by their first row; and prompts of which answers differ in looks alone."""

    conflicts: tuple[Conflict, ...]
    looks_alone: int


class Conflicting(DataError):
    """The policy is to stop, and there are conflicts: `lines` are all of them as `conflicts.jsonl` would hold them."""

    def __init__(self, what: str, *, where: str = "", mend: str = "", lines: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(what, where=where, mend=mend)
        self.lines = lines

    def listed_in(self, shown: str) -> "Conflicting":
        return Conflicting(self.what, where=self.where, mend=f"All are listed in {shown}. {self.mend}", lines=self.lines)


def judge(answers: Answers, policy: Policy, labels: Sequence[str]) -> Judged:
    """Find all conflicts and decide on each; `labels` are the answers that the recipe allows."""
    closed = _Closed(answers, frozenset(map(normalise, labels)))
    found: list[Conflict] = []
    looks_alone = 0
    sides: dict[Between, NDArray[bool_] | None] = {
        "test rows": answers.published,
        "rows": ~answers.published & ~answers.leaks,
        "rows and test rows": None,
    }
    for between, among in sides.items():
        for classes in _by_prompt(answers, among):
            if between == "rows and test rows" and not _across(classes, answers.published):
                continue
            if len(classes) == 1:
                looks_alone += between != "rows and test rows"
                continue
            kind: Kind = "label" if closed.holds(classes) else "text"
            found.append(_decide(kind, between, classes, policy, answers.row_id))
    found.sort(key=lambda conflict: (conflict.kind != "label", conflict.rows[0], conflict.between))
    return Judged(tuple(found), looks_alone)


def near_conflicts(answers: Answers, group: "NDArray[int64]", labels: Sequence[str]) -> list[Conflict]:
    """Find labels that disagree among near-duplicates; texts may, since a word more in a question asks something else.

    Args:
        answers: the rows.
        group: equal for rows of one group of near-duplicates, (N,); −1 for rows that are in none.
        labels: answers that the recipe allows.
    """
    closed = _Closed(answers, frozenset(map(normalise, labels)))
    found = []
    for grouped in _by_prompt(replace(answers, prompt=group), group >= 0):
        for classes in _by_task(grouped, answers.task):
            rows = [row for same in classes for row in same]
            alone = len(classes) < 2 or len({int(answers.prompt[row]) for row in rows}) < 2
            if alone or not closed.holds(classes):
                continue
            sides = {bool(answers.published[row]) for row in rows}
            between: Between = "rows and test rows" if len(sides) > 1 else "test rows" if True in sides else "rows"
            decision = _LEAK if len(sides) > 1 else "all kept: the prompts are nearly the same, and not the same"
            found.append(Conflict("label", between, tuple(map(tuple, classes)), decision, prompts="near"))
    return found


def _by_task(classes: Sequence[Sequence[int]], task: Callable[[int], str]) -> Iterator[list[list[int]]]:
    """Take the rows of each answer apart by system message and tools: under another one, another answer is none of ours."""
    tasks: dict[str, dict[int, list[int]]] = {}
    for place, rows in enumerate(classes):
        for row in rows:
            tasks.setdefault(task(row), {}).setdefault(place, []).append(row)
    for of_task in tasks.values():
        yield sorted(of_task.values(), key=lambda rows: (-len(rows), rows[0]))


def stop(judged: Judged, place: Callable[[int], tuple[str, str, int]]) -> Conflicting | None:
    """Make the error that the policy "stop" asks for, where rows that are no test rows disagree."""
    listed = [conflict for conflict in judged.conflicts if conflict.between == "rows"]
    if not listed:
        return None
    shown = "; ".join(_places(conflict, place) for conflict in listed[:SHOWN])
    return Conflicting(
        f"{len(listed):,} prompts have different answers: {shown}{'; …' if len(listed) > SHOWN else '.'}",
        mend='Correct them, or set [prepare] conflicts to "majority", "drop" or "keep".',
        lines=list(lines(judged.conflicts, place)),
    )


def lines(conflicts: Iterable[Conflict], place: Callable[[int], tuple[str, str, int]]) -> Iterator[dict[str, Any]]:
    """Give each conflict the form that it has in a snapshot.

    Args:
        conflicts: in the order in which they are listed.
        place: a row's id, the file that it is from, and its line there.
    """
    for conflict in conflicts:
        told = [[dict(zip(("row_id", "file", "line"), place(row), strict=True)) for row in rows] for rows in conflict.answers]
        yield {
            "kind": conflict.kind,
            "prompts": conflict.prompts,
            "between": conflict.between,
            "rows": len(conflict.rows),
            "decision": conflict.decision,
            "answers": [{"count": len(rows), "rows": rows} for rows in told],
        }


def folded(answer: str) -> str:
    """Give what of a normalised answer two have to share to be the same one; with signs of code or JSON in it, all of it."""
    return answer if _EXACT.search(answer) else " ".join(_EDGES.sub("", answer).split()) or answer


def _by_prompt(answers: Answers, among: "NDArray[bool_] | None") -> Iterator[list[list[int]]]:
    """Give the rows of each prompt that has several answers, by answer; one list where they differ in looks alone."""
    import numpy

    rows = numpy.arange(len(answers.prompt)) if among is None else numpy.flatnonzero(among)
    if not len(rows):
        return
    order = rows[numpy.lexsort((rows, answers.prompt[rows]))]
    prompt, answer = answers.prompt[order], answers.answer[order]
    starts = numpy.flatnonzero(numpy.concatenate([[True], prompt[1:] != prompt[:-1]]))
    mixed = numpy.maximum.reduceat(answer, starts) != numpy.minimum.reduceat(answer, starts)
    ends = numpy.append(starts[1:], len(order))
    for begin, end in zip(starts[mixed].tolist(), ends[mixed].tolist(), strict=True):
        yield _classes(order[begin:end].tolist(), answer[begin:end].tolist(), answers.text)


def _classes(rows: Sequence[int], keys: Sequence[int], text: Callable[[int], str]) -> list[list[int]]:
    name: dict[int, str] = {}
    classes: dict[str, list[int]] = {}
    for row, key in zip(rows, keys, strict=True):
        if key not in name:
            name[key] = folded(text(row))
        classes.setdefault(name[key], []).append(row)
    return sorted(classes.values(), key=lambda members: (-len(members), members[0]))


def _across(classes: Sequence[Sequence[int]], published: "NDArray[bool_]") -> bool:
    """Say whether a row answers otherwise than a published one of the same prompt."""
    sides = [{bool(published[row]) for row in rows} for rows in classes]
    return any(False in side for side in sides) and any(True in side for side in sides) and len(classes) > 1


@dataclass(frozen=True)
class _Closed:
    """Tells labels from texts."""

    answers: Answers
    labels: frozenset[str]

    def holds(self, classes: Sequence[Sequence[int]]) -> bool:
        firsts = [rows[0] for rows in classes]
        texts = [self.answers.text(row) for row in firsts]
        if self.labels:
            return all(text in self.labels for text in texts)
        if any(len(text.split()) > LABEL_WORDS or not text for text in texts):
            return False
        return any(self._often(row) for row in firsts)

    def _often(self, row: int) -> bool:
        import numpy

        answer = self.answers.answer[row]
        place = int(numpy.searchsorted(self._common, answer))
        return place < len(self._common) and bool(self._common[place] == answer)

    @cached_property
    def _common(self) -> "NDArray[int64]":
        """Answers that many prompts have, ascending."""
        import numpy

        order = numpy.lexsort((self.answers.prompt, self.answers.answer))
        prompt, answer = self.answers.prompt[order], self.answers.answer[order]
        new = numpy.concatenate([[True], (prompt[1:] != prompt[:-1]) | (answer[1:] != answer[:-1])])
        values, prompts = numpy.unique(answer[new], return_counts=True)
        common: NDArray[int64] = values[prompts >= LABEL_PROMPTS]
        return common


def _decide(
    kind: Kind,
    between: Between,
    classes: Sequence[Sequence[int]],
    policy: Policy,
    row_id: Callable[[int], str],
) -> Conflict:
    held = tuple(map(tuple, classes))
    everyone = tuple(sorted(row for rows in held for row in rows))
    what = f"its prompt has {len(held)} different answers"
    if between == "rows and test rows":
        return Conflict(kind, between, held, _LEAK)
    if between == "test rows":
        return Conflict(kind, between, held, "flagged: a published test file is kept whole", everyone, what)
    if policy in ("keep", "stop"):
        return Conflict(kind, between, held, "all kept" if policy == "keep" else "stopped")
    if policy == "drop":
        return Conflict(kind, between, held, "all dropped", everyone, what)
    most, second = len(held[0]), len(held[1])
    if most == second:
        why = f"{what}, none of them with a majority"
        return Conflict(kind, between, held, "all dropped: no answer has a majority", everyone, why)
    losers = tuple(row for row in everyone if row not in held[0])
    reason = f"{what}; {most} of {len(everyone)} rows answer as row {row_id(held[0][0])} does"
    return Conflict(kind, between, held, "the majority's kept", losers, reason)


def _places(conflict: Conflict, place: Callable[[int], tuple[str, str, int]]) -> str:
    told = [f"{file} line {line:,}" for _, file, line in map(place, conflict.rows[:SHOWN_ROWS])]
    return " and ".join(told) + (" and …" if len(conflict.rows) > SHOWN_ROWS else "")
