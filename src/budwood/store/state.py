"""One state of the catalog: everything that a check of the store compares with the objects on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.identity import Digest
from budwood.store.canaries import trial_rows
from budwood.store.catalog import Catalog
from budwood.store.event_rows import read_events
from budwood.store.history import Head, HistoryEvent
from budwood.store.index import action_rows, object_rows
from budwood.store.ledger import Ledger, head_row
from budwood.store.registry import alias_rows, release_rows
from budwood.store.rows import AliasRow, ReleaseRow
from budwood.store.trials import Trial


@dataclass(frozen=True)
class CatalogState:
    """What one transaction saw; `file` is the head file as it was just before, so that it may lag and never leads."""

    events: Sequence[HistoryEvent]
    head: Head | None
    file: Head | None
    releases: Sequence[ReleaseRow]
    aliases: Sequence[AliasRow]
    trials: Sequence[Trial]
    actions: Mapping[str, Digest]
    objects: Mapping[Digest, str]


def read_state(catalog: Catalog, ledger: Ledger) -> CatalogState:
    file = ledger.read_file()
    with catalog.read() as connection:
        return CatalogState(
            events=read_events(connection),
            head=head_row(connection),
            file=file,
            releases=release_rows(connection),
            aliases=alias_rows(connection),
            trials=trial_rows(connection),
            actions=action_rows(connection),
            objects=object_rows(connection),
        )
