"""A draft: the folder that a stage writes into until it is committed.

    with store.draft("report") as draft:
        (draft.folder / "cases.jsonl").write_text(lines)
        (draft.attachments / "report.html").write_text(page)      # beside the object, not part of its digest
        digest = draft.commit(parents=[snapshot, adapter], body={...}, attestation={"seconds": 12.5})

`draft.scratch` is for what is needed on the way, and never stored.
Left without a commit, by an exception or by `kill -9`, it leaves nothing behind.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from budwood.errors import BudwoodError, StoreError
from budwood.identity import Digest, digest_file
from budwood.store.durable import disk_error, is_full, size_under, storing
from budwood.store.leases import Lease
from budwood.store.manifest import FileEntry, Kind, make_manifest
from budwood.store.objects import seal, walk

Publish = Callable[[Path, Path, Digest, Sequence[Digest], Kind, Mapping[str, Any]], None]
"""Called with: sealed folder, attachments, digest, parents, kind, attestation."""


class Draft:
    """Made by `Store.draft`; one commit at most."""

    def __init__(self, kind: Kind, tmp: Path, publish: Publish) -> None:
        self._kind = kind
        self._publish = publish
        with storing(f"a {kind}", tmp):
            self._lease = Lease(tmp, "draft")
            self.folder = self._lease.folder / "object"
            self.attachments = self._lease.folder / "attachments"
            self.scratch = self._lease.folder / "scratch"
            try:
                self.folder.mkdir()
                self.attachments.mkdir()
                self.scratch.mkdir()
            except OSError:
                self._lease.release()
                raise
        self._digest: Digest | None = None

    def commit(
        self,
        *,
        parents: Sequence[str] = (),
        body: Mapping[str, Any] | None = None,
        attestation: Mapping[str, Any] | None = None,
    ) -> Digest:
        """Make the object and return its digest; the same content twice is the same object.

        Args:
            parents: objects that this one was made from; they must be in the store.
            body: what else the digest is over; JSON values only.
            attestation: what differs between runs without changing the thing; appended when the object already exists.

        Raises:
            StoreError: no plain files, a parent that is missing, a full or read-only disk. The store is unchanged.
        """
        if self._digest is not None:
            raise StoreError("This draft was committed already.", mend="Open a new draft for another object.")
        with storing(f"a {self._kind}", self._lease.folder.parent, needed=self.folder):
            entries = self._entries()
            manifest, data, digest = make_manifest(self._kind, entries, parents, body or {})
            seal(self.folder, data, manifest.files)
            self._publish(self.folder, self.attachments, digest, manifest.parents, self._kind, attestation or {})
        self._digest = digest
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        size_bytes = size_under(self.folder) if error is not None and self.folder.exists() else 0
        self._lease.release()
        if error is None or isinstance(error, BudwoodError) or not is_full(error):
            return
        full = error if isinstance(error, OSError) else OSError(28, str(error))
        raise disk_error(full, f"a {self._kind}", self._lease.folder.parent, size_bytes) from error

    def _entries(self) -> list[FileEntry]:
        plain, odd = walk(self.folder)
        if odd:
            raise StoreError(
                f"{min(odd)!r} is not a plain file.", where=f"a {self._kind} draft", mend="Links and devices are not stored."
            )
        self._drop_empty_folders()
        return [FileEntry(path, digest_file(self.folder / path), (self.folder / path).stat().st_size) for path in sorted(plain)]

    def _drop_empty_folders(self) -> None:
        """An empty folder has no place in a manifest."""
        folders = sorted((path for path in self.folder.rglob("*") if path.is_dir()), reverse=True)
        for folder in folders:
            if not any(folder.iterdir()):
                shutil.rmtree(folder)
