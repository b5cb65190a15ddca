"""Reading files that may have been made to harm: ordinary files only, bounded, JSON as plain data.

Everything is read through one open descriptor, so the bytes that were checked are the bytes that are used.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from budwood.errors import AdapterError

MAX_DEPTH = 16
# Each alternative begins with another character and none can match in two ways, so the time is linear in the text.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


@contextmanager
def open_plain(path: Path) -> Iterator[tuple[int, int]]:
    """Open an ordinary file for reading: descriptor and size. Never waits, as opening a FIFO would.

    Raises:
        AdapterError: it is missing, a symbolic link, a folder, a FIFO or a device, or may not be read.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise refusal(path, "is missing", "Give the folder that holds the adapter's files.") from None
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise refusal(path, reason, "Put an ordinary file in its place.") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise refusal(path, "is no ordinary file", "Put an ordinary file in its place.")
        yield descriptor, state.st_size
    finally:
        os.close(descriptor)


def read_exactly(descriptor: int, start: int, into: memoryview) -> int:
    """Fill `into` from `start`; fewer bytes than asked for mean that the file ends there. Gives how many there were."""
    done = 0
    while done < len(into):
        piece = os.preadv(descriptor, [into[done : done + (1 << 26)]], start + done)
        if piece == 0:
            break
        done += piece
    return done


def read_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object as data: UTF-8 without a mark, bounded depth, no name twice.

    NaN and infinities are passed on as floats: the reader of the field says which one is wrong.

    Raises:
        AdapterError: it is not that.
    """
    mend = "Write the file again with the tool that made the adapter."
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise refusal(path, "is not UTF-8", mend) from None
    if _depth(text) > MAX_DEPTH:
        raise refusal(path, f"is nested deeper than {MAX_DEPTH} levels", mend)
    try:
        value = json.loads(text, object_pairs_hook=_without_twins)
    except _TwinError as error:
        raise refusal(path, f'has the name "{error}" twice', mend) from None
    except ValueError as error:
        raise refusal(path, f"is not JSON: {error}", mend) from None
    if not isinstance(value, dict):
        raise refusal(path, f"holds a JSON {type(value).__name__}, not an object", mend)
    return value


def refusal(path: Path, what: str, mend: str) -> AdapterError:
    """Make the error for a file that is refused as a whole."""
    return AdapterError(f"{path.name} {what}.", where=str(path.parent), mend=mend)


class _TwinError(ValueError):
    pass


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _TwinError(name[:80])
        found[name] = value
    return found


def _depth(text: str) -> int:
    """Deepest nesting, found before a parser may recurse. Brackets inside strings do not count."""
    depth = deepest = 0
    for mark in _STRING_OR_BRACKET.findall(text):
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest
