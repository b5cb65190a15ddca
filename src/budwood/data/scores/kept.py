"""Losses that were paid for already: a file of fixed records beside each snapshot, appended to while a score is computed.

The file lies in the cache of the snapshot whose rows it is about and goes with it, so that nothing of a forgotten row stays.
Other snapshots' files of the same name are read too: a row that was scored once is not scored again. Each record has a sum of
its own; what a kill has left half-written is cut off.
"""

import fcntl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import IO, TYPE_CHECKING

from budwood.errors import DataError
from budwood.identity import Digest, canonical_json, digest_bytes

if TYPE_CHECKING:
    from budwood.data.rows import KeptRow
    from budwood.store import Store

_VALUES = Struct("<16sddI")
_RECORD = Struct("<16sddII")


@dataclass(frozen=True, slots=True)
class Losses:
    """Of a row's learnt answers, in nats, summed over `tokens` tokens: after their prompt, and without it."""

    given: float
    alone: float
    tokens: int


def content_key(row: "KeptRow") -> bytes:
    """What a row's losses depend on, of the row itself: its messages and tools. 16 bytes."""
    return bytes.fromhex(digest_bytes(canonical_json([row.value["messages"], row.value.get("tools", [])])))[:16]


class KeptLosses:
    """Losses known so far, and the file that new ones go to. Made by `kept_losses`."""

    def __init__(self, file: IO[bytes], known: Mapping[bytes, Losses], own: Mapping[bytes, Losses]) -> None:
        self._file = file
        self._elsewhere = known
        self._own = dict(own)

    def find(self, key: bytes) -> Losses | None:
        """Look a row up; one that was scored in another snapshot is noted here too."""
        found = self._own.get(key)
        if found is None and key in self._elsewhere:
            found = self._elsewhere[key]
            self._note(key, found)
        return found

    def add(self, losses: Mapping[bytes, Losses]) -> None:
        """Note losses: after this they survive a kill of the process."""
        for key, one in losses.items():
            self._note(key, one)
        self._file.flush()

    def _note(self, key: bytes, losses: Losses) -> None:
        self._own[key] = losses
        self._file.write(_encode(key, losses))


@contextmanager
def kept_losses(store: "Store", snapshot: Digest, name: str) -> Iterator[KeptLosses]:
    """Open the losses of a snapshot's rows; `name` is over everything that they depend on besides the rows.

    Raises:
        DataError: another process is computing them now.
        StoreError: the store cannot be written to.
    """
    path = store.cache(snapshot) / name
    elsewhere: dict[bytes, Losses] = {}
    for other in store.cached(name):
        if other != path:
            elsewhere.update(_records(other))
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                "Another process is computing exactly these scores.", where=str(path), mend="Wait for it; they will be found."
            ) from None
        records = list(_records(path))
        # Records behind one that is not whole cannot be trusted to begin where they should.
        file.truncate(_RECORD.size * len(records))
        yield KeptLosses(file, elsewhere, dict(records))


def _encode(key: bytes, losses: Losses) -> bytes:
    values = _VALUES.pack(key, losses.given, losses.alone, losses.tokens)
    return values + zlib.crc32(values).to_bytes(4, "little")


def _records(path: Path) -> Iterator[tuple[bytes, Losses]]:
    with path.open("rb") as file:
        while len(data := file.read(_RECORD.size)) == _RECORD.size:
            key, given, alone, tokens, check = _RECORD.unpack(data)
            if zlib.crc32(data[: _VALUES.size]) != check:
                return
            yield key, Losses(given, alone, tokens)
