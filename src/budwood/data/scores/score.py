"""One score of all train rows of a snapshot."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

from budwood.data.rows import KeptRow, kept_rows
from budwood.data.scores.diversity import greedy_order
from budwood.data.scores.ifd import Judge, ifd
from budwood.data.scores.length import answer_length
from budwood.data.scores.novelty import novelty
from budwood.data.scores.scored import Place, Scored, best_first
from budwood.data.scores.words import text_of, word_pairs
from budwood.errors import DataError
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest, digest_bytes, short

if TYPE_CHECKING:
    from budwood.store import Store

Score = Literal["ifd", "length", "diversity", "novelty", "random"]
NAMES: tuple[Score, ...] = get_args(Score)
TRAIN = ("train",)
STEP = 2000
"""Rows between two signs of life."""


def score(
    store: "Store", snapshot: Digest, *, by: Score, judge: Judge | None = None, seed: int = 0, report: Reporter = silent
) -> Scored:
    """Score the train rows of a snapshot. Nothing of it changes.

    Args:
        store: that holds it.
        snapshot: whose rows.
        by: name of the score.
        judge: the base of `ifd`.
        seed: of `random`.
        report: gets events.

    Raises:
        DataError: `ifd` without a base; or no row could be scored.
        BaseError: the base cannot be loaded.
        StoreError: not a snapshot, or a row that cannot be read.
    """
    if by == "ifd" and judge is None:
        raise DataError("IFD needs a base that reads the rows.", where="--base", mend="Give one, e.g. --base seedling.")
    reading = _Reading(store, snapshot, by, report)
    if by in ("diversity", "novelty"):
        scored = _by_words(reading, by)
    else:
        settings: dict[str, Any] = {"seed": seed} if by == "random" else judge.settings() if by == "ifd" and judge else {}
        scored = _one_by_one(reading, _values(reading, judge, seed), settings)
    if not len(scored.order):
        why = "; ".join(f"{count:,}: {reason}" for reason, count in scored.why_unscored.items())
        raise DataError(
            f"No row could be scored by {by} ({why or 'there is none'}).", where=f"train of snapshot {short(snapshot)}…"
        )
    return scored


class _Reading:
    """The train rows, read in order; remembers where each came from."""

    def __init__(self, store: "Store", snapshot: Digest, by: Score, report: Reporter) -> None:
        self.store = store
        self.snapshot = snapshot
        self.by: Score = by
        self.report = report
        self.places: list[Place] = []
        self.total = int(store.manifest(snapshot).body.get("counts", {}).get("train", 0))

    def rows(self) -> Iterator[KeptRow]:
        for row in kept_rows(self.store, self.snapshot, TRAIN):
            self.places.append(Place.of(row))
            yield row

    def tick(self, message: str) -> Callable[[int], None]:
        return lambda done: self.report(Event("data", message, done=done, total=self.total, unit="rows"))


def _values(reading: _Reading, judge: Judge | None, seed: int) -> Iterable[float | str]:
    """A score for each row in order, or why it has none."""
    if reading.by == "ifd" and judge is not None:
        return ifd(reading.store, reading.snapshot, reading.rows(), judge, total=reading.total, report=reading.report)
    if reading.by == "length":
        return (answer_length(row) or "it has no answer" for row in reading.rows())
    return (_drawn(seed, row.row_id) for row in reading.rows())


def _drawn(seed: int, row_id: str) -> float:
    """A number from 0 to 1 that a row keeps when others come or go."""
    return int(digest_bytes(f"{seed} {row_id}".encode())[:13], 16) / 16**13


def _one_by_one(reading: _Reading, values: Iterable[float | str], settings: dict[str, Any]) -> Scored:
    import numpy

    found, unscored = array("d"), {}
    tick = reading.tick(f"Scoring by {reading.by}")
    for place, value in enumerate(values):
        if isinstance(value, str):
            unscored[place] = value
        found.append(numpy.nan if isinstance(value, str) else value)
        if reading.by != "ifd" and place % STEP == STEP - 1:
            tick(place + 1)
    scores = numpy.array(found)
    return Scored(reading.by, reading.places, scores, best_first(reading.places, scores), unscored, settings)


def _by_words(reading: _Reading, by: Score) -> Scored:
    import numpy

    words = word_pairs(_texts(reading))
    tick = reading.tick(f"Scoring by {by}")
    if by == "novelty":
        values = novelty(words, tick=tick)
        order = best_first(reading.places, values)
    else:
        order, added = greedy_order(words, tick=tick)
        values = numpy.full(len(words), numpy.nan)
        values[order] = added
    unscored = {int(row): "it holds no word" for row in numpy.flatnonzero(numpy.isnan(values))}
    return Scored(by, reading.places, values, order, unscored)


def _texts(reading: _Reading) -> Iterator[str]:
    tick = reading.tick("Reading words")
    for done, row in enumerate(reading.rows(), start=1):
        yield text_of(row)
        if done % STEP == 0:
            tick(done)
