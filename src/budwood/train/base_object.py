"""The base as an object of the store: no files, only what it is, so that everything made from it can name it."""

from typing import TYPE_CHECKING

from budwood.identity import Digest

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity
    from budwood.store import Store


def ensure_base(store: "Store", identity: "BaseIdentity") -> Digest:
    """Put the base's identity into the store, or find it there."""
    body = identity.as_body()
    key = store.action("base", 1, body, [], 0)
    found = store.done(key)
    if found is not None:
        return found
    with store.draft("base") as draft:
        digest = draft.commit(body=body)
    store.record(key, digest)
    return digest
