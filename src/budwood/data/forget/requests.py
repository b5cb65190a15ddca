"""Sampled requests of production: which lines hold what is looked for, and the files without them.

These files are no objects, so nothing stands in a line's place and nothing has to be put on record for it: cut short, the next
call finds what is left.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from budwood.data.forget.found import InRequests
from budwood.data.forget.wanted import Wanted, key_of
from budwood.errors import StoreError
from budwood.store import Store
from budwood.store import traffic as files


def find_requests(store: Store, wanted: Wanted, keys: set[bytes]) -> Iterator[InRequests]:
    """Go through the files that hold such lines; `keys` are those of rows that go, whose copies go too."""
    goes = _goes(wanted, keys)
    for path in files.files(store.root):
        with path.open("rb") as lines:
            count = sum(goes(line.rstrip(b"\r\n")) for line in lines)
        if count:
            yield InRequests(path.relative_to(store.root).as_posix(), count)


def without_requests(store: Store, wanted: Wanted, keys: set[bytes]) -> int:
    """Take such lines out of all files; give how many.

    Raises:
        StoreError: a file cannot be written.
    """
    goes = _goes(wanted, keys)
    try:
        return sum(files.shorten(path, lambda line: not goes(line)) for path in files.files(store.root))
    except OSError as error:
        raise StoreError(
            f"Lines of sampled requests cannot be taken out: {error.strerror}.",
            where=str(store.root / files.FOLDER),
            mend="Free some space or set the permissions right, then run this again.",
        ) from None


def _goes(wanted: Wanted, keys: set[bytes]) -> Callable[[bytes], bool]:
    def goes(line: bytes) -> bool:
        if not line or not (keys or wanted.may_hold(line)):
            return False
        try:
            record = json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError:
            return wanted.in_text(line.decode("utf-8", "replace"))  # half a line, of a process that was killed
        if not isinstance(record, Mapping):
            return wanted.in_value(record)
        row = _as_row(record)
        return wanted.in_row(row) or wanted.in_value(record) or (bool(keys) and key_of(row) in keys)

    return goes


def _as_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a stored row has it: messages, and everything plain beside them as slices."""
    messages = record.get("messages")
    if not isinstance(messages, list):
        said = (("user", record.get("prompt", "")), ("assistant", record.get("completion", "")))
        messages = [{"role": role, "content": text} for role, text in said]
    return {"messages": messages, "slices": {key: value for key, value in record.items() if not isinstance(value, dict | list)}}
