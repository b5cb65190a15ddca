"""Texts laid end to end as UTF-8, and by which shingles each is to be found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.text.similarity import SHORT_WORDS

if TYPE_CHECKING:
    from numpy import int64, uint8
    from numpy.typing import NDArray

BATCH_TEXTS = 2048
BATCH_CHARACTERS = 1 << 22
BY_WORDS, BY_CHARACTERS = 1, 2
MARGIN = 1.25
"""A text up to this much longer than a short one's longest partner is also entered by characters: words vary in length."""


@dataclass(frozen=True)
class Pack:
    """Some texts.

    Args:
        blob: their bytes.
        ends: where each begins and the last one ends, (texts + 1,).
        kinds: how each is entered, (texts,): `BY_WORDS`, `BY_CHARACTERS`, both, or 0 for an empty text.
        is_short: whether it is compared by characters with whatever it is compared with, (texts,).
    """

    blob: bytes
    ends: "NDArray[int64]"
    kinds: "NDArray[uint8]"
    is_short: "NDArray[uint8]"


def pack_texts(texts: Sequence[str], threshold: float) -> Pack:
    """Lay normalised texts end to end."""
    return pack_encoded([text.encode("utf-8") for text in texts], threshold)


def pack_encoded(encoded: Sequence[bytes], threshold: float) -> Pack:
    """Lay normalised texts, given in UTF-8, end to end."""
    import numpy

    words = numpy.fromiter((text.count(b" ") + 1 if text else 0 for text in encoded), numpy.int64, len(encoded))
    is_short = words < SHORT_WORDS
    # A short text's near-duplicate has at most 1/threshold times its shingles, so longer ones need no second entry.
    near_short = words < SHORT_WORDS / threshold * MARGIN
    kinds = numpy.where(is_short, 0, BY_WORDS) | numpy.where(near_short, BY_CHARACTERS, 0)
    kinds[words == 0] = 0
    ends = numpy.zeros(len(encoded) + 1, numpy.int64)
    numpy.cumsum(numpy.fromiter(map(len, encoded), numpy.int64, len(encoded)), out=ends[1:])
    return Pack(b"".join(encoded), ends, kinds.astype(numpy.uint8), is_short.astype(numpy.uint8))


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Cut a stream of texts by number and by size, so that a batch of long ones is no larger in memory."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == BATCH_TEXTS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
