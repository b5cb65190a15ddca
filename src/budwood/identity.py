"""Digests: sha256 over bytes, files, and the canonical JSON of a value.

Canonical JSON is what two machines agree on: keys sorted, no spaces, UTF-8, no NaN or infinity. Everything that is named by
its content goes through here, so there is exactly one way to compute an identity.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NewType

Digest = NewType("Digest", str)
"""64 lower-case hexadecimal digits of a sha256."""


def canonical_json(value: Any) -> bytes:
    """Encode `value` the one way that digests are computed over.

    Raises:
        ValueError: a float is NaN or infinite.
        TypeError: a value is not a JSON type.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest_bytes(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def digest_json(value: Any) -> Digest:
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> Digest:
    """Hash a file in pieces of 1 MiB: its size does not matter."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return Digest(hasher.hexdigest())


def short(digest: str) -> str:
    """Show the first 12 digits, enough to tell objects apart in print."""
    return digest[:12]
