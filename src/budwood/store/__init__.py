"""Objects, names and history: where everything that a stage makes is kept.

    store = open_store(Path(".budwood"))
    with store.draft("snapshot") as draft:
        (draft.folder / "train.jsonl").write_text(rows)
        digest = draft.commit(body={"name": "support"})
    store.manifest(digest).files

An object is a folder of files and a manifest; its digest is over both, so it can't change under its name. The catalog (SQL)
holds what may move: names, aliases, the history of who moved them, what servers report. The room knows no stage: it never
asks what a snapshot or a release means. All errors are `StoreError`. sqlalchemy is imported at the first use of the catalog.
"""

from budwood.store.history import Head, HistoryEvent
from budwood.store.manifest import KINDS, FileEntry, Kind, Manifest
from budwood.store.names import check_alias, check_digest, check_name
from budwood.store.removals import Removal
from budwood.store.rows import ANY, AliasRow, Anything, AuditRow, Observation, ObservedRow, ReleaseRow, ServerRow, TokenRow
from budwood.store.store import Store, open_store
from budwood.store.tombstones import Tombstone
from budwood.store.verify import VerifyReport

__all__ = [
    "ANY",
    "KINDS",
    "AliasRow",
    "Anything",
    "AuditRow",
    "FileEntry",
    "Head",
    "HistoryEvent",
    "Kind",
    "Manifest",
    "Observation",
    "ObservedRow",
    "ReleaseRow",
    "Removal",
    "ServerRow",
    "Store",
    "TokenRow",
    "Tombstone",
    "VerifyReport",
    "check_alias",
    "check_digest",
    "check_name",
    "open_store",
]
