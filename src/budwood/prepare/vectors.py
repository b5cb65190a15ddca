"""Vectors of texts, each computed once: a file of fixed records in the cache of the snapshot whose rows it is about.

    with open_vectors(store, name, embed) as vectors:
        places = vectors.gather(keys, text)      # each row's place in the file; what no file knows is embedded
        vectors.read(places)                     # (N, d) float32
        vectors.keep(snapshot)

A record is a text's digest, its vector in half precision, and a sum. While a snapshot is being prepared the file lies in a work
folder, so that a kill costs one window of texts; then it moves to the snapshot's cache and goes with it, so that nothing of a
forgotten row stays. Files of other snapshots are read too: what was embedded once is not embedded again.
"""

import fcntl
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from budwood.errors import DataError
from budwood.identity import Digest

if TYPE_CHECKING:
    from numpy import float32, int64, uint64
    from numpy.typing import NDArray

    from budwood.store import Store

VERSION = 1
WINDOW = 2048
"""Texts that are embedded together, and that a kill may cost."""
PREFIX = "embeddings-"


class Embed(Protocol):
    """Texts → unit vectors; `identity` is all that they depend on besides the text, as JSON values."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def width(self) -> int: ...

    @property
    def device(self) -> str: ...

    def __call__(self, texts: Sequence[str], /) -> "NDArray[float32]": ...


class Vectors:
    """Made by `open_vectors`.

    Args:
        embed: computes what no file knows.
        embedded, found: texts that were embedded, and that a file knew.
    """

    def __init__(self, store: "Store", embed: Embed, key: str, file: IO[bytes], tell: Callable[[int, int], None]) -> None:
        self.embed = embed
        self._store, self._key, self._name, self._file, self._tell = store, key, _name(key), file, tell
        self._kind = _record(embed.width)
        self.embedded = self.found = 0
        self._used: NDArray[int64] | None = None

    def gather(self, keys: "NDArray[uint64]", text: Callable[[int], str]) -> "NDArray[int64]":
        """Make sure that the file holds a vector for each key.

        Args:
            keys: digests of texts, (N, 2).
            text: gives the text of row i again.

        Returns:
            Where in the file each row's vector is, (N,).
        """
        import numpy

        unique, row, of = numpy.unique(keys, axis=0, return_index=True, return_inverse=True)
        # In the order of the rows, so that neighbours lie side by side.
        order = numpy.argsort(row, kind="stable")
        unique, row = unique[order], row[order]
        place = numpy.empty(len(order), numpy.int64)
        place[order] = numpy.arange(len(order))
        known = _find(self._own()["key"], unique)
        self.found = int((known >= 0).sum())
        self._take_from_others(unique, known)
        missing = numpy.flatnonzero(known < 0)
        for begin in range(0, len(missing), WINDOW):
            window = missing[begin : begin + WINDOW]
            known[window] = self._add(unique[window], self.embed([text(int(row[one])) for one in window]))
            self.embedded += len(window)
            self._tell(begin + len(window), len(missing))
        self._used = known
        places: NDArray[int64] = known[place[of.reshape(-1)]]
        return places

    def read(self, places: "NDArray[int64]") -> "NDArray[float32]":
        """Vectors at places of the file, as they were rounded to half precision: the same whether computed now or found."""
        import numpy

        return numpy.asarray(self._own()["vector"][places], numpy.float32)

    def keep(self, snapshot: Digest) -> None:
        """Move the vectors of this snapshot's texts into its cache, and nothing of other texts."""
        import numpy

        own, path = self._own(), Path(self._file.name)
        target = self._store.cache(snapshot) / self._name
        used = numpy.arange(0) if self._used is None else numpy.sort(self._used)
        if len(used) < len(own):
            fresh = path.with_name(f"{path.name}-kept")
            with fresh.open("wb") as file:
                for begin in range(0, len(used), WINDOW):
                    file.write(own[used[begin : begin + WINDOW]].tobytes())
            os.replace(fresh, target)
        else:
            os.replace(path, target)
        self._store.drop_work(self._key)

    def _take_from_others(self, unique: "NDArray[uint64]", known: "NDArray[int64]") -> None:
        import numpy

        for path in self._store.cached(self._name):
            missing = numpy.flatnonzero(known < 0)
            others = _whole(path, self._kind)
            at = _find(others["key"], unique[missing]) if len(missing) else missing
            for begin in range(0, len(missing), WINDOW):
                window = slice(begin, begin + WINDOW)
                there = numpy.flatnonzero(at[window] >= 0) + begin
                records = others[at[there]]
                # A record that is not whole is computed again.
                there = there[[_sum(one) == int(one["sum"]) for one in records]]
                known[missing[there]] = self._add(unique[missing[there]], others["vector"][at[there]])
                self.found += len(there)

    def _add(self, keys: "NDArray[uint64]", vectors: "NDArray[Any]") -> "NDArray[int64]":
        """Append records, and give their places."""
        import numpy

        records = numpy.zeros(len(keys), self._kind)
        records["key"], records["vector"] = keys, vectors
        records["sum"] = [_sum(one) for one in records]
        first = self._file.seek(0, os.SEEK_END) // self._kind.itemsize
        self._file.write(records.tobytes())
        self._file.flush()
        return numpy.arange(first, first + len(records))

    def _own(self) -> "NDArray[Any]":
        return _whole(Path(self._file.name), self._kind)


@contextmanager
def open_vectors(
    store: "Store", embed: Embed, tell: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Vectors]:
    """Open the vectors that one model gives; `tell` is called with the texts embedded, and how many there are to embed.

    Raises:
        DataError: another process embeds with this model for this store.
        StoreError: the store cannot be written to.
    """
    key = store.action("embeddings", VERSION, dict(embed.identity), [], 0)
    path = store.work(key) / _name(key)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                "Another process embeds rows with this model.", where=str(path), mend="Wait for it; its vectors will be found."
            ) from None
        kind = _record(embed.width)
        # What a kill has left half-written, and all behind it, is cut off.
        file.truncate(_sound(_whole(path, kind)) * kind.itemsize)
        yield Vectors(store, embed, key, file, tell)


def _name(key: str) -> str:
    return f"{PREFIX}{key[:32]}.bin"


def _record(width: int) -> Any:
    import numpy

    return numpy.dtype([("key", "<u8", (2,)), ("vector", "<f2", (width,)), ("sum", "<u4")])


def _sum(record: Any) -> int:
    return zlib.crc32(record.tobytes()[:-4])


def _whole(path: Path, kind: Any) -> "NDArray[Any]":
    """The whole records of a file, unread until they are asked for."""
    import numpy

    count = path.stat().st_size // kind.itemsize
    return numpy.memmap(path, kind, "r", shape=(count,)) if count else numpy.zeros(0, kind)


def _sound(records: "NDArray[Any]") -> int:
    return next((place for place, one in enumerate(records) if _sum(one) != int(one["sum"])), len(records))


def _find(known: "NDArray[uint64]", wanted: "NDArray[uint64]") -> "NDArray[int64]":
    """Where in `known`, (M, 2), each of `wanted`, (N, 2), is; −1: nowhere."""
    import numpy

    if not len(known):
        return numpy.full(len(wanted), -1, numpy.int64)
    order = numpy.argsort(known[:, 0], kind="stable")
    at = order[numpy.minimum(numpy.searchsorted(known[:, 0], wanted[:, 0], sorter=order), len(known) - 1)]
    return numpy.where((known[at] == wanted).all(axis=1), at, -1)
