"""What stays of an object whose bytes were removed for good.

A tombstone keeps the kind and the parents, so that lineage can still be walked, and says why and when. It keeps no file
digest and no body: the digest of a short file can be guessed back. Where another object took its place, without what had to
go, it names that one.

Of an object that was never here, because an import left it out, there is one too, marked `absent`: it stands for the parent
that lineage names, and gives way when the object itself comes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json, digest_bytes, short
from budwood.store.manifest import KINDS, TOMBSTONE, Kind
from budwood.store.names import check_digest


@dataclass(frozen=True)
class Tombstone:
    digest: Digest
    kind: Kind
    parents: tuple[Digest, ...]
    reason: str
    who: str
    at: str
    successor: Digest | None = None
    absent: bool = False

    def encode(self) -> bytes:
        values = asdict(self)
        if self.successor is None:
            # Both fields came later: tombstones without them keep the bytes that the history has on record.
            del values["successor"]
        if not self.absent:
            del values["absent"]
        return canonical_json(values)

    @property
    def own_digest(self) -> Digest:
        """What the history keeps of it, so that an edited tombstone is noticed."""
        return digest_bytes(self.encode())

    def fits(self, detail: Mapping[str, Any]) -> bool:
        """Whether it is the one that the event of the removal speaks of; older events do not say which."""
        return bool(detail.get("tombstone", self.own_digest) == self.own_digest)

    def line(self) -> str:
        """Say in a line what was removed, why, and what stands in its place."""
        instead = f" → {short(self.successor)}" if self.successor else ""
        return f"{self.kind} {short(self.digest)}{instead}, on {self.at[:10]} by {self.who}: {self.reason}"

    def refusal(self) -> StoreError:
        """Say why the object cannot be read."""
        if self.absent:
            return StoreError(
                f"The {self.kind} {short(self.digest)}… is not here: {self.reason}",
                mend="Import it with its data (`budwood release export --with-data`), or ask the store that it came from.",
            )
        instead = f" In its place stands {short(self.successor)}…." if self.successor else ""
        return StoreError(
            f"The bytes of {self.kind} {short(self.digest)}… were removed on {self.at[:10]} by {self.who}: {self.reason}",
            mend=f"What was made from it stands; the object itself cannot be brought back.{instead}",
        )


def read_tombstone(data: bytes, digest: Digest) -> Tombstone:
    """Read what `encode` wrote about the object `digest`.

    Raises:
        StoreError: the bytes are something else, or about another object.
    """
    try:
        value = json.loads(data)
        stone = Tombstone(**{**value, "parents": tuple(check_digest(parent) for parent in value["parents"])})
        if stone.successor is not None:
            check_digest(stone.successor)
        if type(stone.absent) is not bool:
            raise ValueError(f"absent is {stone.absent!r}")
    except (KeyError, TypeError, ValueError, RecursionError, StoreError) as error:
        raise _unreadable(digest, repr(error)) from None
    if stone.digest != digest:
        raise _unreadable(digest, f"it is about {str(stone.digest)[:12]!r}")
    if stone.kind not in KINDS or not all(isinstance(text, str) for text in (stone.reason, stone.who, stone.at)):
        raise _unreadable(digest, "a field has a value that is not possible")
    return stone


def _unreadable(digest: Digest, reason: str) -> StoreError:
    return StoreError(
        f"The {TOMBSTONE} of {short(digest)}… cannot be read: {reason}.",
        where=f"objects/{digest[:2]}/{digest}/{TOMBSTONE}",
        mend="Restore that file from a backup; the event in `budwood history` says who removed the object, and why.",
    )
