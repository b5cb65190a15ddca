"""The face of a store for its care: checking everything, collecting what nothing needs, removing for good."""

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from shutil import rmtree

from budwood.errors import StoreError
from budwood.events import Reporter, silent
from budwood.identity import Digest
from budwood.new_folder import sync
from budwood.store.history import Head, HistoryEvent, iso
from budwood.store.leases import at_work, leased_digests
from budwood.store.name_room import NameRoom
from budwood.store.names import check_digest, check_key, check_paths
from budwood.store.object_room import ObjectRoom
from budwood.store.removals import BEGUN, DELETED, ENDED, Removal, read_removal, unfinished
from budwood.store.rows import AliasRow, ReleaseRow
from budwood.store.tombstones import Tombstone
from budwood.store.verify import VerifyReport, verify

WEEK_S = 7 * 86_400.0


class CareRoom(ObjectRoom, NameRoom):
    """Care; see `Store`."""

    def verify(self, report: Reporter = silent, *, noted: Head | None = None) -> VerifyReport:
        """Hash every object again and check every link and every event. Reads only; the store may be in use meanwhile.

        `noted` is what `head` gave at an earlier time: the history must still have it.
        """
        return verify(self._objects, self._attestations, self._parts.read_state, self._at_rest, report, noted)

    def collect(
        self,
        dry_run: bool,
        *,
        older_than_s: float = WEEK_S,
        keep_live: int | None = None,
        who: str = "budwood gc",
        reason: str = "not live any more",
    ) -> list[Digest]:
        """Remove objects that no release was made from, and return them (with `dry_run`: what would go).

        Kept besides: what a live process holds or has just made, and what is younger than `older_than_s`. Removals for good
        that were cut short are finished. With `keep_live`, releases go too: all but what is live, what servers answer from,
        so many before the live one for each alias, and what these were made from.
        """
        from budwood.store.care import doomed, finish_removals, remove

        with self._at_gate("a collection", alone=True):
            if not dry_run:
                self._finish()
            held = {Digest(digest) for digest in leased_digests(self._tmp)}
            rows = [] if keep_live is None else self._idle(keep_live, older_than_s, held)
            if rows and not dry_run:
                self._delete(rows, who=who, reason=reason)
            retired = {row.digest for row in rows}
            roots = ({row.digest for row in self.releases()} - retired) | held
            found = doomed(self._objects, self._attestations, roots, self._clock(), older_than_s, retired)
            if not dry_run:
                remove(self._objects, self._attestations, self._parts.index, found, self._parts.scratch)
                finish_removals(self._objects, self._attestations, self.history())
                self._drop_caches()
        return [*dict.fromkeys(row.digest for row in rows), *found]

    def delete(self, name: str, digest: Digest, *, who: str, reason: str) -> None:
        """Remove a release for good; its number stays taken, its tombstone says why, its parts are collected later.

        Raises:
            StoreError: it is live, warm or referenced (which, is said), in use, or gone already; nothing was changed then.
        """
        from budwood.store.care import check_reason
        from budwood.store.retire import WARM, check_may_go

        check_reason(reason)
        with self._at_gate("a deletion", alone=True):
            rows = [row for row in self.releases() if row.digest == digest]
            self._objects.manifest(digest)
            check_may_go(sorted(rows, key=lambda row: row.name != name), self._keepers(WARM))
            self._check_removable([digest])
            self._delete(rows, who=who, reason=reason)

    def catalog_place(self) -> str:
        """Where the catalog is: the URL of a database, or the path of the file in this folder."""
        from budwood.store.place import LOCAL, settle

        return settle(self.root, self._parts.settings.url) or str(self.root / LOCAL)

    def move_catalog(self, url: str) -> int:
        """Move the catalog to another database (empty: into this folder) and return how many rows that were.

        Raises:
            StoreError: somebody else is at work here, the database is not empty, or the history is damaged.
        """
        from budwood.store.moving import move_catalog

        settings = self._parts.settings
        _ = self._parts.lease, self._parts.ledger
        with self._at_gate("a move of the catalog", alone=True):
            if at_work(self._tmp, but=self._parts.lease.folder) or any(server.alive for server in self.servers()):
                raise StoreError(
                    "Another process works with this store: it would go on with the old catalog.",
                    where=str(self.root),
                    mend="Nothing was moved. Stop servers and running commands, then run this again.",
                )
            # The target's lock is our own folder: the gate is shut, and the target is nobody else's yet.
            own = self._parts.lease.folder
            copied = move_catalog(self.root, self._parts.catalog, self._parts.ledger, url, locks=own, wait_s=settings.wait_s)
        self._parts.reopen(url)
        return copied

    def tombstone(self, digest: str, *, who: str, reason: str, successor: Digest | None = None) -> Tombstone:
        """Remove the bytes of an object for good, and leave a mark that says why. Again on the same object: finishes.

        `successor` is what stands in its place from now on.

        Raises:
            StoreError: another process works with it, or an alias needs it: it points to this release, or to one that
                answers with this base, adapter or model. Data and reports that a live release came from may go.
        """
        with self._at_gate("a tombstone", alone=True):
            self._check_removable([check_digest(digest)])
            return self._bury(check_digest(digest), successor, who=who, reason=reason)

    def remove(self, removal: Removal, *, who: str, reason: str) -> None:
        """Remove several objects for good, and files beside others, as one; on record before and after.

        Raises:
            StoreError: one of them is live or in use (see `tombstone`); nothing was changed then.
        """
        from budwood.store.care import check_reason

        check_reason(reason)
        self._files_of(removal)
        with self._at_gate("a removal", alone=True):
            self._check_removable(removal.objects)
            with self._parts.ledger.transaction() as entry:
                begun = entry.append(HistoryEvent(0, "", BEGUN, who, reason=reason, detail=removal.as_detail()))
            self._carry_out(begun)

    def unfinished_removals(self) -> list[HistoryEvent]:
        """The removals that began and have not ended: those that were cut short, and one that is being carried out."""
        return unfinished(self._parts.ledger.events())

    def finish_removals(self) -> int:
        """Carry out what is left of removals that were cut short; return how many there were."""
        with self._at_gate("a removal", alone=True):
            return self._finish()

    def held_elsewhere(self) -> set[Digest]:
        """The objects that other living processes work with at this moment."""
        with self._at_gate("a look at who is at work", alone=True):
            return self._held_elsewhere()

    def _finish(self) -> int:
        found = self.unfinished_removals()
        for begun in found:
            self._carry_out(begun)
        return len(found)

    def _keepers(self, warm: int) -> dict[Digest, str]:
        from budwood.store.retire import keepers

        def parents(digest: Digest) -> Sequence[Digest]:
            return self._objects.manifest(digest).parents if self._objects.exists(digest) else ()

        alive = {server.server_id for server in self.servers() if server.alive}
        seen = [row for row in self.observed() if row.server_id in alive]
        return keepers(self.history(), self._needed_by_names(), seen, self.releases(), parents, self.current, warm=warm)

    def _idle(self, warm: int, older_than_s: float, held: Container[Digest]) -> list[ReleaseRow]:
        """Releases whose bytes are here and that nothing needs."""
        kept = self._keepers(warm)
        limit = iso(self._clock() - timedelta(seconds=older_than_s))
        young = {row.digest for row in self.releases() if row.created_at > limit}
        return [
            row
            for row in self.releases()
            if self._objects.exists(row.digest) and row.digest not in {*kept, *young} and row.digest not in held
        ]

    def _delete(self, rows: Sequence[ReleaseRow], *, who: str, reason: str) -> None:
        """Put on record under each name which releases go, and let them go."""
        with self._parts.ledger.transaction() as entry:
            for row in rows:
                detail = {"version": row.version}
                entry.append(HistoryEvent(0, "", DELETED, who, row.name, to=row.digest, reason=reason, detail=detail))
            removal = Removal(dict.fromkeys(row.digest for row in rows))
            begun = entry.append(HistoryEvent(0, "", BEGUN, who, reason=reason, detail=removal.as_detail()))
        self._carry_out(begun)

    def _held_elsewhere(self) -> set[Digest]:
        return {Digest(digest) for digest in leased_digests(self._tmp, but=self._parts.lease.folder)}

    def _needed_by_names(self) -> list[AliasRow]:
        """Aliases, and what is on trial beside them as if it were one."""
        # A release on trial answers, and what a watch goes back to may have to: both are needed as a live one is.
        trials = [
            AliasRow(row.name, f"{row.alias} ({row.kind})", needed, row.version, row.seq)
            for row in self.canaries.rows()
            for needed in (row.digest, row.against)
        ]
        return [*self.aliases(), *trials]

    def _check_removable(self, digests: Iterable[Digest]) -> None:
        from budwood.store.care import check_removable

        held, aliases = self._held_elsewhere(), self._needed_by_names()
        for digest in digests:
            check_removable(self._objects, aliases, held, digest)

    def _carry_out(self, begun: HistoryEvent) -> None:
        """Do what a removal on record says, or what is left of it, and put on record that it is done."""
        removal = read_removal(begun)
        for digest, successor in removal.objects.items():
            self._bury(digest, successor, who=begun.who, reason=begun.reason)
        for file in self._files_of(removal):
            with suppress(FileNotFoundError):
                file.unlink()
                sync(file.parent)
        with self._parts.ledger.transaction() as entry:
            detail = {"of": begun.seq, "facts": dict(removal.facts)}
            entry.append(HistoryEvent(0, "", ENDED, begun.who, reason=begun.reason, detail=detail))

    def _files_of(self, removal: Removal) -> list[Path]:
        """Where a removal's single files lie; a path that would leave its folder is refused."""
        attached = [self._attestations.attachment(digest, name) for digest, name in removal.attachments]
        work = {f"{check_key(key)}/{name}" for key, name in removal.work}
        check_paths(work, kept=(), where="a removal")
        return [*attached, *(self.root / "work" / path for path in sorted(work))]

    def _bury(self, digest: Digest, successor: Digest | None, *, who: str, reason: str) -> Tombstone:
        from budwood.store.care import bury, make_tombstone

        stone = make_tombstone(self._objects, digest, who=who, reason=reason, now=self._clock(), successor=successor)
        # Before the object: a removal for good that is cut short must not leave the tokens.
        self._drop_cache(digest)
        return bury(self._objects, self._attestations, self._parts.ledger, stone, self._parts.scratch)

    def _drop_caches(self) -> None:
        """Drop the caches of objects that are not here any more."""
        root = self.root / "cache"
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if not self._objects.exists(folder.name):
                self._drop_cache(folder.name)

    def _drop_cache(self, digest: str) -> None:
        folder = self.root / "cache" / digest
        if folder.is_dir():
            with self._parts.writing("a cache folder"):
                rmtree(folder)
