"""In which languages texts are, told once: kept beside each snapshot, so that the next run tells new texts only.

    told = Told(kept_files(store), spool)
    told(text)                        # as `budwood.text.languages.language`
    told.confirm(texts, redact)       # of a piece that is done: what may be kept
    keep(store, snapshot, scratch)    # when the snapshot is stored

Kept are a digest of what is read of a text (16 bytes) and the language's code, never the text; and only of texts that stand in
the snapshot just as they were told, rejected ones included: the digest of what was redacted could be guessed back. The file
lies in the snapshot's cache and goes with it, so that nothing of a forgotten row stays.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.identity import Digest, digest_file, digest_json
from budwood.prepare.spool import Spool
from budwood.text import languages

if TYPE_CHECKING:
    from numpy import uint64
    from numpy.typing import NDArray

    from budwood.store import Store

VERSION = 1
"""Of the file's form."""
MOST = 1 << 24
"""Texts that one snapshot's file holds at most, 18 bytes each: 300 MB."""
FILES = 4
"""Snapshots whose files are looked into, the newest ones."""
SPOOL = "languages-"
_KEY, _CODE = 16, 2
_HEAD = 12
"""Bytes before the columns: their sum, and how many texts there are."""


class Told:
    """Tells languages, and looks up what was told before.

    Args:
        files: of earlier snapshots; see `kept_files`.
        spool: takes what may be kept.
    """

    def __init__(self, files: Sequence[Path], spool: Spool) -> None:
        self._known = [_read(path) for path in files]
        self._spool = spool
        self._open: dict[bytes, bytes] = {}

    def __call__(self, text: str) -> str:
        key = _key(text)
        code = self._open.get(key)
        if code is None:
            code = next((found for known in self._known if (found := _find(known, key)) is not None), None)
            if code is None:
                code = languages.language(text).encode()
            self._open[key] = code
        return code.decode()

    def confirm(self, texts: Iterable[str], hidden: Iterable[str], redact: Callable[[str], str]) -> None:
        """Keep what was told of texts since the last call, as far as they stand in the snapshot as they were.

        Args:
            texts: of rows.
            hidden: of rejected rows, which are redacted when they are written.
            redact: does that.
        """
        shown = {_key(text) for text in texts}
        shown |= {key for text in hidden if (key := _key(text)) in self._open and key not in shown and redact(text) == text}
        self._spool.add(b"".join(key + code.ljust(_CODE) for key, code in self._open.items() if key in shown))
        self._open.clear()


def kept_files(store: "Store") -> tuple[Path, ...]:
    """The newest files that were kept with this very detector, and are whole."""
    found = sorted(store.cached(name()), key=lambda path: path.stat().st_mtime, reverse=True)[:FILES]
    return tuple(path for path in found if _is_whole(path))


def keep(store: "Store", snapshot: Digest, scratch: Path) -> None:
    """Put what all processes have noted into the snapshot's cache."""
    import numpy

    kind = numpy.dtype([("key", "<u8", (2,)), ("code", f"S{_CODE}")])
    parts = [numpy.fromfile(path, kind) for path in sorted(scratch.glob(f"{SPOOL}*"))]
    every = numpy.concatenate([*parts, numpy.zeros(0, kind)])
    if not len(every):
        return
    order = numpy.lexsort((every["key"][:, 1], every["key"][:, 0]))
    first = numpy.concatenate([[True], (every["key"][order][1:] != every["key"][order][:-1]).any(axis=1)])
    chosen = every[order][first][:MOST]
    columns = [chosen["key"][:, 0].tobytes(), chosen["key"][:, 1].tobytes(), chosen["code"].tobytes()]
    target = store.cache(snapshot) / name()
    # In one step: there is the whole file or none.
    fresh = target.with_suffix(f".{os.getpid()}.bin")
    with fresh.open("wb") as file:
        file.write(_sum(columns).to_bytes(4, "little") + len(chosen).to_bytes(8, "little"))
        file.writelines(columns)
    os.replace(fresh, target)


@cache
def name() -> str:
    """Name a file by all that a language is told by: the detector's model, its version, and our own rules before it."""
    from py3langid import langid

    model = Path(langid.__file__).parent / langid.MODEL_FILE
    said = {"version": VERSION, "rules": languages.VERSION, "model": digest_file(model)}
    return f"{SPOOL}{digest_json(said)[:32]}.bin"


def _key(text: str) -> bytes:
    return blake2b(text[: languages.LOOKED_AT].encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()


def _read(path: Path) -> "tuple[NDArray[uint64], NDArray[uint64], NDArray[Any]]":
    """The columns of a file, unread until they are asked for; processes that read it share its memory."""
    import numpy

    count = (path.stat().st_size - _HEAD) // (_KEY + _CODE)
    high = numpy.memmap(path, "<u8", "r", _HEAD, (count,))
    low = numpy.memmap(path, "<u8", "r", _HEAD + 8 * count, (count,))
    return high, low, numpy.memmap(path, f"S{_CODE}", "r", _HEAD + _KEY * count, (count,))


def _find(known: "tuple[NDArray[uint64], NDArray[uint64], NDArray[Any]]", key: bytes) -> bytes | None:
    high, low, codes = known
    wanted, other = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    at = int(high.searchsorted(high.dtype.type(wanted)))
    while at < len(high) and int(high[at]) == wanted:
        if int(low[at]) == other:
            return bytes(codes[at]).rstrip()
        at += 1
    return None


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        count = int.from_bytes(head[4:], "little")
        if len(head) < _HEAD or not count or path.stat().st_size != _HEAD + count * (_KEY + _CODE):
            return False
        return _sum(iter(lambda: file.read(1 << 20), b"")) == int.from_bytes(head[:4], "little")


def _sum(parts: Iterable[bytes]) -> int:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found
