"""Which rows say the same: exact duplicates, conflicting answers, near-duplicates.

"The same prompt" means: system message, tools and turns before the answer are equal after normalisation; calls and tools,
whose letters are meant as they stand, are compared as canonical JSON, without the calls' ids. Rows of a published test
file are never dropped here; they are flagged. What is found about other rows:

* exact duplicate: same prompt, same answer; the first stays;
* conflict: same prompt, different answers; the recipe says what becomes of them;
* near-duplicate: prompts at least `near_duplicate` alike (true Jaccard). With the same answer, the later one goes; with
  another answer it stays, and both lie in one group.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from tests.prepare.reference.groups import Groups

from budwood.prepare.conflicts import Answers, Judged, Policy, judge, stop
from budwood.prepare.row import Message, Row
from budwood.text.near.entries import sign_texts
from budwood.text.near.search import Repeats, Terms, find_repeats
from budwood.text.normalise import normalise
from budwood.tool_calls import canonical_text, written

LEAK, CONFLICT, EXACT, NEAR = "leak", "conflict", "exact_duplicate", "near_duplicate"


@dataclass(frozen=True, slots=True)
class Says:
    """What a row says, normalised.

    Args:
        prompt: key of everything before the answer, system message and tools included.
        turns: text of everything before the answer, without system message and tools: what near-duplicates are judged by.
        answer: key of the answer.
    """

    prompt: bytes
    turns: str
    answer: bytes

    @property
    def key(self) -> bytes:
        return self.prompt + self.answer


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row goes (or, in a published test file, is flagged)."""

    rule: str
    reason: str


def says(row: Row) -> Says:
    *before, answer = row.messages
    turns = [_said(message) for message in before if message.role != "system"]
    system = [_said(message) for message in before if message.role == "system"]
    offered = [canonical_text(row.tools)] if row.tools else []
    return Says(_key("\x1e".join([*offered, *system, "\x1f", *turns])), " ".join(turns), _key(_said(answer)))


def find_leaks(rows: Sequence[Row], said: Sequence[Says]) -> dict[int, Fault]:
    """Find rows that ask just what a published test row asks, whatever they answer."""
    published = {said[i].turns: row for i, row in reversed(list(enumerate(rows))) if row.declared == "test"}
    return {
        i: Fault(LEAK, f"same prompt as test row {published[said[i].turns].row_id}")
        for i, row in enumerate(rows)
        if row.declared != "test" and said[i].turns in published
    }


def answers_of(rows: Sequence[Row], said: Sequence[Says], out: Container[int]) -> Answers:
    """Give what the rows answer to what as columns; `out`: rows that are out already, as leaks."""
    import numpy

    prompts: dict[bytes, int] = {}
    answers: dict[bytes, int] = {}
    return Answers(
        prompt=numpy.array([prompts.setdefault(one.prompt, len(prompts)) for one in said], numpy.int64),
        answer=numpy.array([answers.setdefault(one.answer, len(answers)) for one in said], numpy.int64),
        published=numpy.array([row.declared == "test" for row in rows], bool),
        leaks=numpy.array([i in out for i in range(len(rows))], bool),
        text=lambda i: _said(rows[i].messages[-1]),
        row_id=lambda i: rows[i].row_id,
        task=lambda i: canonical_text([_system(rows[i]), rows[i].tools]),
    )


def find_conflicts(rows: Sequence[Row], answers: Answers, policy: Policy, labels: Sequence[str]) -> Judged:
    """Judge rows that answer one prompt differently; every row is a vote, exact duplicates included.

    Raises:
        Conflicting: the policy is "stop" and there is a conflict. The first ones are listed, without their text.
    """
    judged = judge(answers, policy, labels)
    fault = stop(judged, lambda i: place_of(rows[i])) if policy == "stop" else None
    if fault is not None:
        raise fault
    return judged


def _system(row: Row) -> list[str]:
    return [_said(message) for message in row.messages[:-1] if message.role == "system"]


def place_of(row: Row) -> tuple[str, str, int]:
    return row.row_id, row.origin.file, row.origin.line


def find_exact(rows: Sequence[Row], said: Sequence[Says], out: Container[int]) -> dict[int, Fault]:
    """Find rows that repeat an earlier one which is still in; published test rows and others are compared apart."""
    first: dict[tuple[bool, bytes], int] = {}
    faults: dict[int, Fault] = {}
    for i, row in enumerate(rows):
        if i in out:
            continue
        earlier = first.setdefault((row.declared == "test", said[i].key), i)
        if earlier != i:
            faults[i] = Fault(EXACT, f"same prompt and answer as row {rows[earlier].row_id} ({rows[earlier].origin})")
    return faults


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the search for near-duplicates knows of a row.

    Args:
        said: what it says.
        row: None for a row that only an earlier snapshot holds: it joins groups and is nobody's twin.
        role: "published" rows may only be flagged, "settled" ones (placed by an earlier snapshot) stay, others may go.
    """

    said: Says
    row: Row | None
    role: Literal["published", "settled", "free"]

    @property
    def meaning(self) -> bytes:
        """What a twin has to share besides the prompt, system message, tools and answer, in 16 bytes."""
        first = self.row.messages[0] if self.row else None
        around = _key(normalise(first.content)) if first and first.role == "system" else b""
        if self.row and self.row.tools:
            around += _key(canonical_text(self.row.tools))
        return blake2b(around + self.said.answer, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Twin:
    """The row that another repeats in other words."""

    key: int
    fault: Fault


@dataclass(frozen=True)
class Resemblances:
    """What the search for near-duplicates found.

    Args:
        twins: row that may go (or be flagged) → the row that it repeats.
        crowded: rows that had more look-alikes than are compared with each.
        by: what did the work.
    """

    twins: dict[int, Twin]
    crowded: int
    by: str


def find_near(
    order: Sequence[int], candidate: Callable[[int], Candidate], groups: Groups, threshold: float, tick: Callable[[int], None]
) -> Resemblances:
    """Join what is near, and name for each row that may go (or be flagged) the first one before it that it repeats.

    A row that may go is not compared with again: what it resembles stays in its place. So a set of n copies costs n
    comparisons, not n².

    Args:
        order: rows in the order to look at them: those that stay first.
        candidate: what a row is; asked for once for each row, and again for those that have to be compared.
        groups: joined along the way.
        threshold: [prepare] near_duplicate.
        tick: called with the number of rows done.
    """
    found = _search(order, candidate, groups, threshold, tick)
    twins = {}
    for place in (found.twin >= 0).nonzero()[0].tolist():
        key = order[int(found.twin[place])]
        row = candidate(key).row
        assert row is not None, "a row that only an earlier snapshot holds is nobody's twin"
        reason = f"{found.alike[place]:.2f} alike, with the same answer as row {row.row_id} ({row.origin})"
        twins[order[place]] = Twin(key, Fault(NEAR, reason))
    return Resemblances(twins, found.crowded, found.by)


PUBLISHED, OTHERS = 1, 2
"""Who repeats whom: published rows each other, free ones whatever is not published, settled ones nothing."""


def _search(
    order: Sequence[int], candidate: Callable[[int], Candidate], groups: Groups, threshold: float, tick: Callable[[int], None]
) -> Repeats:
    import numpy

    meanings, asks, offers, goes = bytearray(), bytearray(), bytearray(), bytearray()

    def texts() -> Iterator[str]:
        for done, i in enumerate(order, start=1):
            here = candidate(i)
            mine = PUBLISHED if here.role == "published" else OTHERS
            meanings.extend(here.meaning)
            asks.append(0 if here.role == "settled" else mine)
            offers.append(mine if here.row else 0)
            goes.append(here.role == "free")
            tick(done // 2)
            yield here.said.turns

    entries = sign_texts(texts(), len(order), threshold=threshold, threads=2)
    terms = Terms(
        meaning=numpy.frombuffer(meanings, numpy.uint64).reshape(-1, 2),
        asks=numpy.frombuffer(asks, numpy.uint8),
        offers=numpy.frombuffer(offers, numpy.uint8),
        goes=numpy.frombuffer(goes, numpy.uint8),
        member=numpy.array(order, numpy.int64),
    )
    return find_repeats(
        entries,
        terms,
        lambda place: candidate(order[place]).said.turns,
        groups.parent,
        tick=lambda done: tick((len(order) + done) // 2),
    )


def _said(message: Message) -> str:
    text = normalise(message.content)
    return f"{text} {written(message.calls)}".strip() if message.calls else text


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8"), digest_size=16).digest()
