"""Small recipes as in tests/prepare, and what is made of their snapshots."""

from typing import Any

from tests.prepare.conftest import Bench, bench

from budwood.identity import Digest
from budwood.store import Kind, Store

__all__ = ["Bench", "bench", "put"]


def put(store: Store, kind: Kind, *, parents: list[Digest], **body: Any) -> Digest:
    """Store an object without files."""
    with store.draft(kind) as draft:
        return draft.commit(parents=parents, body=body)
