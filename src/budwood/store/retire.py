"""Which releases may go, and why the others stay.

What stays: what an alias points to; what a server answers from; what an alias would roll back to; and what these were made
from. Of every other release the bytes may go: its tombstone keeps the lineage of those that came after it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store.history import HistoryEvent, line_of
from budwood.store.rows import AliasRow, ObservedRow, ReleaseRow

WARM = 1
"""So many releases before the live one stay for each alias: servers keep the predecessor loaded, a rollback goes there."""


def keepers(
    events: Sequence[HistoryEvent],
    aliases: Iterable[AliasRow],
    observed: Iterable[ObservedRow],
    releases: Sequence[ReleaseRow],
    parents: Callable[[Digest], Sequence[Digest]],
    current: Callable[[Digest], Digest],
    *,
    warm: int,
) -> dict[Digest, str]:
    """Say for each release that has to stay why that is.

    Args:
        events: the whole history.
        aliases: where they point.
        observed: what living servers say.
        releases: all that are registered.
        parents: what a release was made from; nothing where its bytes are gone.
        current: what stands in the place of a release.
        warm: how many before the live one to keep for each alias.
    """
    titles = {row.digest: f"{row.name}@{row.version}" for row in releases}
    kept: dict[Digest, str] = {}
    rows = list(aliases)
    for row in rows:
        kept.setdefault(row.digest, f"is live: {row.name}@{row.alias} points to it")
    for server in observed:
        kept.setdefault(server.digest, f"is warm: server {server.server_id} answers from it")
    for row in rows:
        before = [current(digest) for digest in line_of(events, row.name, row.alias)[:-1]]
        for digest in before[-warm:] if warm else ():
            kept.setdefault(digest, f"is warm: {row.name}@{row.alias} would roll back to it")
    for digest in list(kept):
        for parent in parents(digest):
            if parent in titles:
                kept.setdefault(parent, f"is referenced: {titles[digest]}, which stays, was made from it")
    return kept


def check_may_go(wanted: Iterable[ReleaseRow], kept: Mapping[Digest, str]) -> None:
    """Refuse to delete what has to stay."""
    for row in wanted:
        if row.digest in kept:
            raise StoreError(
                f"{row.name}@{row.version} ({short(row.digest)}…) {kept[row.digest]}.",
                mend="Nothing was changed. `budwood status` shows what is live; what is not needed any more can go then.",
            )
