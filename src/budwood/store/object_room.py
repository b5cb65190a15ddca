"""The face of a store for objects: making, reading, what is said about them, and who was made from whom."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store.draft import Draft
from budwood.store.durable import replace_file
from budwood.store.history import iso
from budwood.store.leases import gate
from budwood.store.manifest import Kind, Manifest
from budwood.store.names import check_digest
from budwood.store.room import Room
from budwood.store.tombstones import Tombstone


class ObjectRoom(Room):
    """Objects; see `Store`."""

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

    def current(self, digest: str) -> Digest:
        """What stands in the place of an object: itself, or the last of those that replaced it one after the other."""
        found = check_digest(digest)
        while (stone := self._objects.tombstone(found)) is not None and stone.successor is not None:
            found = stone.successor
        return found

    def tombstones(self) -> list[Tombstone]:
        found = [self._objects.tombstone(digest) for digest in self._objects.digests()]
        return [tombstone for tombstone in found if tombstone is not None]

    def tombstone_of(self, digest: str) -> Tombstone | None:
        return self._objects.tombstone(digest)

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
