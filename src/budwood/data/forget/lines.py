"""JSON lines of stored objects, each with its own bytes, so that what stays can be written through unchanged."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store import Store


def every(line: bytes) -> bool:
    return True


def read_lines(
    store: Store, digest: Digest, path: str, *, worth: Callable[[bytes], bool] = every
) -> Iterator[tuple[bytes, Any]]:
    """Go through a file of JSON lines: bytes as they lie there, and what they say.

    Lines that are not `worth` it are passed over unread.

    Raises:
        StoreError: a line is no JSON.
    """
    with store.file(digest, path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not worth(line):
                continue
            try:
                yield line, json.loads(line.decode("utf-8", "surrogatepass"))
            except ValueError as error:
                raise StoreError(
                    f"Line {number:,} of {path} cannot be read: {error}.",
                    where=f"object {short(digest)}…",
                    mend="Nothing was changed. Run `budwood verify`.",
                ) from None
