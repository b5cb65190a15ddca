"""The base as an object of the store: no files, only what it is, so that everything made from it can name it."""

from pathlib import Path
from typing import TYPE_CHECKING

from budwood.identity import Digest

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity
    from budwood.store import Store


def ensure_base(store: "Store", identity: "BaseIdentity", folder: Path) -> Digest:
    """Put the base's identity into the store, or find it there; say beside it in which folder it was found.

    What the base is called may be a path that starts at a recipe; whoever serves it later stands elsewhere.
    """
    body = identity.as_body()
    key = store.action("base", 1, body, [], 0)
    digest = store.done(key)
    if digest is None:
        with store.draft("base") as draft:
            digest = draft.commit(body=body)
        store.record(key, digest)
    if str(folder) not in (one.get("folder") for one in store.attestations(digest)):
        store.attest(digest, {"folder": str(folder)})
    return digest
