"""What stays of an object whose bytes were removed for good.

A tombstone keeps the kind and the parents, so that lineage can still be walked, and says why and when. It keeps no file
digest and no body: the digest of a short file can be guessed back.
"""

import json
from dataclasses import asdict, dataclass

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json, short
from budwood.store.manifest import Kind


@dataclass(frozen=True)
class Tombstone:
    digest: Digest
    kind: Kind
    parents: tuple[Digest, ...]
    reason: str
    who: str
    at: str

    def encode(self) -> bytes:
        return canonical_json(asdict(self))

    def refusal(self) -> StoreError:
        """Say why the object cannot be read."""
        return StoreError(
            f"The bytes of {self.kind} {short(self.digest)}… were removed on {self.at[:10]} by {self.who}: {self.reason}",
            mend="What was made from it stands; the object itself cannot be brought back.",
        )


def read_tombstone(data: bytes) -> Tombstone:
    """Read what `encode` wrote.

    Raises:
        StoreError: the bytes are something else.
    """
    try:
        value = json.loads(data)
        return Tombstone(**{**value, "parents": tuple(value["parents"])})
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"A tombstone cannot be read: {error!r}.", mend="Run `budwood verify` to see which one.") from None
