"""The store: one folder with everything in it.

    .budwood/
      objects/ab/abcd…/      manifest.json and files; never changed
      attestations/ab/abcd…/ what lies beside them: times, hosts, report.html
      catalog.sqlite         names, aliases, history, observed state, index
      history.head           second witness of the history's end
      work/                  scratch of stages that survives a kill: checkpoints
      cache/ab…/             what is made from an object again at any time; goes with it
      tmp/                   drafts and leases; cleared of dead ones at every start

Each method says in its own name what it does; the work is in the neighbouring modules. Several processes may use one store.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Literal, Self

from budwood.errors import StoreError
from budwood.events import Reporter, silent
from budwood.identity import Digest, digest_json, short
from budwood.new_folder import sync
from budwood.store.draft import Draft
from budwood.store.durable import replace_file, storing
from budwood.store.history import TOKEN_EVENTS, HistoryEvent, iso, live_at
from budwood.store.leases import gate, leased_digests, sweep
from budwood.store.manifest import Kind, Manifest
from budwood.store.names import check_digest, check_key, check_paths
from budwood.store.parts import Parts, Settings
from budwood.store.removals import BEGUN, ENDED, Removal, read_removal, unfinished
from budwood.store.rows import ANY, AliasRow, Anything, ObservedRow, ReleaseRow, ServerRow
from budwood.store.tombstones import Tombstone
from budwood.store.verify import VerifyReport, verify

if TYPE_CHECKING:
    from budwood.store.access import Access

WEEK_S = 7 * 86_400.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(
    root: Path, *, url: str = "", clock: Callable[[], datetime] = utc_now, wait_s: float = 10.0, read_only: bool = False
) -> "Store":
    """Open a store, making its folders on first use and clearing what dead processes left behind.

    Args:
        root: the store's own folder, usually `.budwood` beside the recipe.
        url: SQLAlchemy URL of a catalog elsewhere; empty: SQLite in `root`.
        clock: where times come from; aware datetimes.
        wait_s: how long a writer waits for another process.
        read_only: never write, whatever the permissions; a folder that may not be written is opened so anyway.

    Raises:
        StoreError: the folder cannot be made or read.
    """
    root = root.resolve()
    if not read_only:
        with storing("the store's layout", root if root.exists() else root.parent):
            read_only = root.is_dir() and not os.access(root, os.W_OK)
            if not read_only:
                for name in ("objects", "attestations", "work", "tmp"):
                    (root / name).mkdir(parents=True, exist_ok=True)
                sweep(root / "tmp")
    if not (root / "objects").is_dir():
        raise StoreError(f"There is no store at {str(root)!r}.", mend="Check the path, or make one with `budwood run`.")
    return Store(Settings(root, url, clock, wait_s, read_only))


class Store:
    """Made by `open_store`. Threads may share one."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self.read_only = settings.read_only
        self._parts = Parts(settings)
        self._clock = settings.clock
        self._tmp = self._parts.tmp
        self._objects = self._parts.objects
        self._attestations = self._parts.attestations

    def close(self) -> None:
        """Give back connections and the lease; the store opens again when it is used."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- objects ---

    @contextmanager
    def draft(self, kind: Kind) -> Iterator[Draft]:
        """Open a folder to write an object into; it is removed at the end unless it was committed."""
        self._parts.check_writable(f"a {kind}")
        with Draft(kind, self._tmp, self._publish) as draft:
            yield draft

    def manifest(self, digest: str) -> Manifest:
        return self._objects.manifest(digest)

    def folder(self, digest: str) -> Path:
        """Folder of a whole object; its files are read-only."""
        self._objects.manifest(digest)
        return self._objects.folder(digest)

    def file(self, digest: str, path: str) -> Path:
        """Path of one file of an object.

        Raises:
            StoreError: the object, or a file of that name in it, is not there.
        """
        manifest = self._objects.manifest(digest)
        names = [entry.path for entry in manifest.files]
        if path not in names:
            raise StoreError(
                f"The {manifest.kind} {short(digest)}… has no file {path!r}.", mend=f"It has: {', '.join(names) or 'none'}."
            )
        return self._objects.folder(digest) / path

    def exists(self, digest: str) -> bool:
        """Whether the object is here with its bytes."""
        return self._objects.exists(digest)

    def faults(self, digest: str) -> list[str]:
        """Hash one object again; empty when it is whole."""
        return self._objects.faults(check_digest(digest))

    def resolve(self, prefix: str) -> Digest:
        return self._objects.resolve(prefix)

    def objects(self, kind: Kind | None = None) -> Iterator[Digest]:
        """Go through all objects with bytes, in the order of their digests."""
        for digest in self._objects.digests():
            if self._objects.exists(digest) and (kind is None or self._objects.manifest(digest).kind == kind):
                yield digest

    def children(self, digest: str) -> list[Digest]:
        """Objects that name this one as a parent."""
        wanted = check_digest(digest)
        late = self._unindexed()
        if late and not self.read_only:
            self._parts.index.add((child, manifest.kind, manifest.parents) for child, manifest in late)
        found = {*self._parts.index.children(wanted), *(child for child, manifest in late if wanted in manifest.parents)}
        return sorted(child for child in found if self._objects.exists(child))

    def attestations(self, digest: str) -> list[dict[str, Any]]:
        """What was said about an object, oldest first; each has "at"."""
        return self._attestations.read(digest)

    def attest(self, digest: str, values: Mapping[str, Any]) -> None:
        """Add to what is said about an object; its digest does not change."""
        self._objects.manifest(digest)
        with self._parts.writing("an attestation"):
            self._attestations.add(digest, {"at": iso(self._clock()), **values}, self._parts.scratch())

    def attachment(self, digest: str, name: str) -> Path:
        """Where a file beside the object lies, e.g. report.html; it may not be there."""
        return self._attestations.attachment(digest, name)

    def attach(self, digest: str, name: str, data: bytes) -> Path:
        """Put a file beside the object, in the place of an older one of that name."""
        self._objects.manifest(digest)
        path = self._attestations.attachment(digest, name)
        with self._parts.writing("an attachment"):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data, scratch=self._parts.scratch())
        return path

    # --- work ---

    def work(self, key: str) -> Path:
        """Scratch folder of a stage; it stays until `drop_work`, also after a kill."""
        folder = self.root / "work" / check_key(key)
        with self._parts.writing("a work folder"):
            folder.mkdir(exist_ok=True)
        return folder

    def cache(self, digest: str) -> Path:
        """Folder for what can be made from an object again at any time, such as tokens; it goes with the object."""
        folder = self.root / "cache" / check_digest(digest)
        with self._parts.writing("a cache folder"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def cached(self, name: str) -> list[Path]:
        """All files of that name in caches, whichever object they are about."""
        return sorted((self.root / "cache").glob(f"*/{name}"))

    def drop_work(self, key: str) -> None:
        rmtree(self.root / "work" / check_key(key), ignore_errors=True)

    def action(self, stage: str, version: int, slice: Mapping[str, Any], inputs: Sequence[str], seed: int) -> str:
        """Name a piece of work: same key, same result, no need to do it again."""
        return digest_json({"stage": stage, "version": version, "slice": dict(slice), "inputs": list(inputs), "seed": seed})

    def done(self, key: str) -> Digest | None:
        """The result of an action, or what stands in its place, if it is here; held for as long as this store is open."""
        made = self._parts.index.result(check_digest(key))
        found = None if made is None else self.current(made)
        if found is None or not self._objects.exists(found):
            return None
        if not self.read_only:
            with self._parts.writing("a lease"), gate(self._tmp, exclusive=False):
                if not self._objects.exists(found):
                    return None
                self._parts.lease.note(found)
        return found

    def record(self, key: str, digest: str) -> None:
        self._objects.manifest(digest)
        self._parts.index.record(check_digest(key), digest, iso(self._clock()))

    # --- releases, aliases, servers ---

    def add_release(self, name: str, release: str, *, who: str, reason: str) -> int:
        """Register a release object under the next number of a name."""
        with self._at_gate("a release", alone=False):
            return self._parts.registry.add(name, check_digest(release), who=who, reason=reason)

    def check_known(self, name: str) -> None:
        """Refuse a release name that the store has never heard of.

        Raises:
            StoreError: it names the nearest one that it knows.
        """
        self._parts.registry.check_known(name)

    def releases(self, name: str | None = None) -> list[ReleaseRow]:
        return self._parts.registry.releases(name)

    def find_release(self, ref: str) -> ReleaseRow:
        """Find by name (= name@production), name@alias, name@number, name@digest, or digest; 6 digits will do."""
        return self._parts.registry.find(ref)

    def aliases(self, name: str | None = None) -> list[AliasRow]:
        return self._parts.registry.aliases(name)

    def check_place(self, name: str, alias: str, expect: Digest | None) -> None:
        """Refuse, in the words of `move_alias`, when an alias is not at `expect`; None: it must not be there yet."""
        self._parts.registry.check_place(name, alias, expect)

    def move_alias(
        self,
        name: str,
        alias: str,
        to: str,
        *,
        expect: Digest | Anything | None = ANY,
        who: str,
        reason: str,
        verdict: Digest | None = None,
        kind: Literal["promoted", "rolled_back"] = "promoted",
        override: bool = False,
    ) -> HistoryEvent:
        """Move an alias by compare-and-swap; moving it to where it is changes nothing and gives the event that did it.

        `expect` is where the mover believes the alias to be: a release, None for "not yet there", or ANY.

        Raises:
            StoreError: it is elsewhere (who moved it, and when, is said), or `to` is no whole release of this name.
        """
        with self._at_gate("a move", alone=False):
            return self._parts.registry.move(
                name, alias, to, expect=expect, who=who, reason=reason, verdict=verdict, kind=kind, override=override
            )

    def observe(self, server_id: str, name: str, alias: str, digest: str, ok: bool, detail: str) -> None:
        """Report what a server serves under an alias."""
        self._parts.observations.put(server_id, name, alias, digest, ok, detail)

    def observed(self, name: str | None = None, alias: str | None = None) -> list[ObservedRow]:
        return self._parts.observations.rows(name, alias)

    def server_beat(self, server_id: str) -> None:
        """Report that a server is there and follows this catalog, whether or not it serves anything yet."""
        self._parts.observations.beat(server_id)

    def servers(self) -> list[ServerRow]:
        return self._parts.observations.servers()

    def forget_server(self, server_id: str) -> None:
        self._parts.observations.forget(server_id)

    # --- access to servers ---

    @property
    def access(self) -> "Access":
        """Tokens, and the record of what was done with them."""
        return self._parts.access

    # --- history ---

    def history(self, name: str | None = None) -> list[HistoryEvent]:
        return [event for event in self._parts.ledger.events() if name is None or event.name == name]

    def add_event(self, event: HistoryEvent) -> HistoryEvent:
        """Put something on record that moves no alias, e.g. that a gate judged."""
        if event.kind in {"promoted", "rolled_back", "released", "forgotten", "repaired", BEGUN, ENDED, *TOKEN_EVENTS}:
            raise StoreError(f'"{event.kind}" events are written by the move itself.', mend="Call that instead.")
        with self._parts.ledger.transaction() as entry:
            return entry.append(event)

    def live_at(self, name: str, alias: str, when: datetime) -> Digest | None:
        """Where an alias pointed at a moment (aware datetime)."""
        return live_at(self._parts.ledger.events(), name, alias, _aware(when))

    def served_at(self, name: str, alias: str, when: datetime) -> dict[str, Digest]:
        """What each healthy server had acknowledged at a moment: server → release; one that died is left out since."""
        return self._parts.observations.at(name, alias, _aware(when))

    def accept_history(self, *, who: str, reason: str) -> HistoryEvent:
        """Go on after damage to the history; what was wrong is put on record, and `verify` lists it as accepted since."""
        return self._parts.ledger.repair(who=who, reason=reason)

    # --- care ---

    def verify(self, report: Reporter = silent) -> VerifyReport:
        """Hash every object again and check every link and every event. Reads only; the store may be in use meanwhile."""
        return verify(self._objects, self._attestations, self._parts.read_state, self._at_rest, report)

    def collect(self, dry_run: bool, *, older_than_s: float = WEEK_S) -> list[Digest]:
        """Remove objects that no release was made from, and return them (with `dry_run`: what would go).

        Kept besides: what a live process holds or has just made, and what is younger than `older_than_s`. Removals for good
        that were cut short are finished.
        """
        from budwood.store.care import doomed, finish_removals, remove

        with self._at_gate("a collection", alone=True):
            held = {Digest(digest) for digest in leased_digests(self._tmp)}
            roots = {row.digest for row in self.releases()} | held
            found = doomed(self._objects, self._attestations, roots, self._clock(), older_than_s)
            if not dry_run:
                remove(self._objects, self._attestations, self._parts.index, found, self._parts.scratch)
                finish_removals(self._objects, self._attestations, self.history())
                self._drop_caches()
        return found

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
            found = self.unfinished_removals()
            for begun in found:
                self._carry_out(begun)
        return len(found)

    def current(self, digest: str) -> Digest:
        """What stands in the place of an object: itself, or the last of those that replaced it one after the other."""
        found = check_digest(digest)
        while (stone := self._objects.tombstone(found)) is not None and stone.successor is not None:
            found = stone.successor
        return found

    def held_elsewhere(self) -> set[Digest]:
        """The objects that other living processes work with at this moment."""
        with self._at_gate("a look at who is at work", alone=True):
            return self._held_elsewhere()

    def tombstones(self) -> list[Tombstone]:
        found = [self._objects.tombstone(digest) for digest in self._objects.digests()]
        return [tombstone for tombstone in found if tombstone is not None]

    def tombstone_of(self, digest: str) -> Tombstone | None:
        return self._objects.tombstone(digest)

    # --- inside ---

    def _held_elsewhere(self) -> set[Digest]:
        return {Digest(digest) for digest in leased_digests(self._tmp, but=self._parts.lease.folder)}

    def _check_removable(self, digests: Iterable[Digest]) -> None:
        from budwood.store.care import check_removable

        held, aliases = self._held_elsewhere(), self.aliases()
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

    @contextmanager
    def _at_gate(self, what: str, *, alone: bool) -> Iterator[None]:
        """Pass the gate: with others to let a name point to an object, alone to take objects out."""
        self._parts.check_writable(what)
        # Both pass the gate themselves when they are made, so that comes before it is shut.
        _ = self._parts.lease, self._parts.ledger
        with self._parts.writing(what), gate(self._tmp, exclusive=alone):
            yield

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """A time in which nobody takes bytes out; a read-only store has no such people to wait for, or cannot."""
        if self.read_only:
            yield
            return
        _ = self._parts.ledger
        with storing("a lock", self.root), gate(self._tmp, exclusive=False):
            yield

    def _publish(
        self,
        ready: Path,
        attachments: Path,
        digest: Digest,
        parents: Sequence[Digest],
        kind: Kind,
        attestation: Mapping[str, Any],
    ) -> None:
        """Turn a sealed draft into an object; the gate is held from the look at the parents to the lease."""
        lease = self._parts.lease
        with gate(self._tmp, exclusive=False):
            for parent in parents:
                if not self._objects.exists(parent) and self._objects.tombstone(parent) is None:
                    raise StoreError(
                        f"The parent {short(parent)}… of this {kind} is not in the store.",
                        mend="Nothing was stored. Run the stage that makes the parent first.",
                    )
            lease.note(digest)
            self._attestations.take(digest, attachments)
            self._attestations.add(digest, {"at": iso(self._clock()), **attestation}, self._parts.scratch())
            self._objects.place(ready, digest, self._parts.scratch())
        self._parts.index.add([(digest, kind, parents)])

    def _unindexed(self) -> list[tuple[Digest, Manifest]]:
        """Objects that a crash kept out of the index; damaged ones are left to `verify`."""
        known = self._parts.index.known()
        found = []
        for digest in self._objects.digests():
            if digest not in known and self._objects.exists(digest):
                with suppress(StoreError):
                    found.append((digest, self._objects.manifest(digest)))
        return found


def _aware(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise StoreError(f"The time {when.isoformat()} has no time zone.", mend="Add one, e.g. 2026-09-01T14:00+00:00.")
    return when
