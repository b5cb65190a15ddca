"""Objects on disk: `objects/ab/<digest>/` with its files and `manifest.json`.

The files are the truth and the catalog only an index of them. A draft is written in `tmp/` under a lease and becomes an
object by one rename, after everything in it is on disk: at any moment there is the whole object or none.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from budwood.errors import StoreError
from budwood.identity import Digest, digest_file, short
from budwood.new_folder import sync
from budwood.store.durable import write_file
from budwood.store.manifest import MANIFEST, OUR_FILES, TOMBSTONE, FileEntry, Manifest, parent_folders, read_manifest
from budwood.store.names import SHORTEST_PREFIX, check_digest, check_prefix
from budwood.store.tombstones import Tombstone, read_tombstone


class Objects:
    """Read access to `objects/`, and the two moves that change it: `place` and `take_out`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, digest: str) -> Path:
        """Where an object lies or would lie."""
        checked = check_digest(digest)
        return self.root / checked[:2] / checked

    def exists(self, digest: str) -> bool:
        """Whether the object is here with its bytes; a tombstone is not."""
        folder = self.folder(digest)
        return (folder / MANIFEST).is_file() and not (folder / TOMBSTONE).exists()

    def digests(self) -> Iterator[Digest]:
        """Go through all objects and tombstones, in the order of their digests."""
        for shelf in sorted(self.root.iterdir()):
            if shelf.is_dir():
                yield from (Digest(entry.name) for entry in sorted(shelf.iterdir()) if self._is_ours(entry))

    def survey(self) -> tuple[list[Digest], list[str]]:
        """List all objects and tombstones as `digests` does, and apart from them a fault for whatever else is there.

        A folder that cannot be listed is such a fault and no exception: what lies beside it is still found.
        """
        ours: list[Digest] = []
        faults: list[str] = []
        try:
            for shelf in sorted(self.root.iterdir()):
                try:
                    entries = sorted(shelf.iterdir())
                    ours += [Digest(entry.name) for entry in entries if self._is_ours(entry)]
                    faults += [
                        f"objects/{shelf.name}/{entry.name} is no object" for entry in entries if not self._is_ours(entry)
                    ]
                except NotADirectoryError:
                    faults.append(f"objects/{shelf.name} is no object")
                except OSError as error:
                    faults.append(f"objects/{shelf.name} cannot be listed: {error.strerror}")
        except OSError as error:
            faults.append(f"objects/ cannot be listed: {error.strerror}")
        return ours, faults

    def manifest(self, digest: str) -> Manifest:
        """Read a manifest and check that it is the one the digest names.

        Raises:
            StoreError: no such object, its bytes were removed (the reason is given), or the manifest is missing, altered or
                cannot be read.
        """
        folder = self.folder(digest)
        tombstone = self.tombstone(digest)
        if tombstone is not None:
            raise tombstone.refusal()
        try:
            data = (folder / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if folder.is_dir():
                raise StoreError(
                    f"The object {short(digest)}… has no {MANIFEST}.", where=str(folder), mend=f"{_RESTORE} {_VERIFY}"
                ) from None
            raise StoreError(
                f"There is no object {short(digest)}… in this store.",
                where=str(self.root),
                mend="`budwood history` lists releases; run the stage that makes it, or open the store that holds it.",
            ) from None
        except OSError as error:
            raise StoreError(
                f"The {MANIFEST} of {short(digest)}… cannot be read: {error.strerror}.",
                where=str(folder),
                mend=f"Check the disk and the permissions of that folder. {_RESTORE}",
            ) from error
        return read_manifest(data, Digest(digest))

    def tombstone(self, digest: str) -> Tombstone | None:
        """Read what stays of a removed object; None when it was not removed.

        Raises:
            StoreError: there is a file, but it cannot be read or is about another object.
        """
        path = self.folder(digest) / TOMBSTONE
        try:
            return read_tombstone(path.read_bytes(), Digest(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(
                f"The {TOMBSTONE} of {short(digest)}… cannot be read: {error.strerror}.",
                where=str(path),
                mend="Check the disk and the permissions of that file, or restore it from a backup.",
            ) from error

    def remains(self, digest: Digest) -> list[str]:
        """List the files of an object that lie beside its tombstone: what a removal that was cut short has left."""
        plain, odd = walk(self.folder(digest))
        return sorted((plain | odd) - {TOMBSTONE})

    def resolve(self, prefix: str) -> Digest:
        """Find the one object whose digest begins with `prefix` (6 digits or more).

        Raises:
            StoreError: none or several begin so.
        """
        digits = check_prefix(prefix)
        shelf = self.root / digits[:2]
        names = sorted(os.listdir(shelf)) if shelf.is_dir() else []
        found = [name for name in names if name.startswith(digits) and len(name) == 64]
        if len(found) == 1:
            return Digest(found[0])
        if found:
            listed = ", ".join(f"{name[: len(digits) + 4]}…" for name in found[:5])
            raise StoreError(
                f"{len(found)} objects begin with {digits}: {listed}.", mend=f"Give more than {SHORTEST_PREFIX} digits."
            )
        raise StoreError(
            f"No object begins with {digits}.",
            where=str(self.root),
            mend="Check the digits; `budwood history` lists releases.",
        )

    def faults(self, digest: Digest) -> list[str]:
        """Hash an object again and name each file that is missing, extra or changed; empty when it is whole."""
        try:
            manifest = self.manifest(digest)
        except StoreError as error:
            return [error.what]
        return self.file_faults(digest, manifest)

    def file_faults(self, digest: Digest, manifest: Manifest) -> list[str]:
        """Hash the files of an object whose manifest has been read; see `faults`."""
        folder = self.folder(digest)
        wanted = {entry.path: entry for entry in manifest.files}
        try:
            found, odd = walk(folder)
        except OSError as error:
            return [f"its folder cannot be listed: {error.strerror}"]
        faults = [f"{path} is missing" for path in sorted(wanted.keys() - found)]
        faults += [f"{path} is extra" for path in sorted(found - wanted.keys() - set(OUR_FILES))]
        faults += [f"{path} is not a plain file" for path in sorted(odd)]
        checked = (_file_fault(folder, wanted[path]) for path in sorted(wanted.keys() & found))
        return faults + [fault for fault in checked if fault is not None]

    def place(self, ready: Path, digest: Digest, trash: Path) -> None:
        """Rename a finished folder into its place; an object that is already there and whole stays.

        One that is there but damaged is put aside into `trash`: the new bytes are known to be right.
        """
        target = self.folder(digest)
        target.parent.mkdir(exist_ok=True)
        tombstone = self.tombstone(digest)
        if tombstone is not None and not tombstone.absent:
            raise tombstone.refusal()
        if target.exists():
            if not self.faults(digest):
                return
            os.rename(target, trash)
        try:
            os.rename(ready, target)
        except OSError:
            # Another process placed the same content between our look and our rename; either folder would do.
            if not self.exists(digest):
                raise
        sync(target.parent)
        sync(self.root)

    def place_mark(self, ready: Path, digest: Digest) -> None:
        """Rename a folder that holds nothing but a tombstone into the place of an object that is not here."""
        target = self.folder(digest)
        target.parent.mkdir(exist_ok=True)
        sync(ready)
        try:
            os.rename(ready, target)
        except OSError:
            # Another process marked or placed it between our look and our rename; either will do.
            if not target.exists():
                raise
            shutil.rmtree(ready)
        sync(target.parent)
        sync(self.root)

    def take_out(self, digest: Digest, trash: Path) -> None:
        """Remove a whole object: one rename, then the deletion of what nobody can see any more."""
        os.rename(self.folder(digest), trash)
        sync(self.folder(digest).parent)
        shutil.rmtree(trash)

    def bury(self, tombstone: Tombstone) -> None:
        """Delete every byte of an object that already carries its tombstone."""
        folder = self.folder(tombstone.digest)
        for entry in folder.iterdir():
            if entry.name == TOMBSTONE:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        sync(folder)

    def _is_ours(self, entry: Path) -> bool:
        name = entry.name
        return len(name) == 64 and name[:2] == entry.parent.name and set(name) <= set("0123456789abcdef") and entry.is_dir()


_RESTORE = "Restore the object from a backup, or make it again."
_VERIFY = "`budwood verify` lists all damage."


def _file_fault(folder: Path, entry: FileEntry) -> str | None:
    """Say what is wrong with one file that is there."""
    file = folder / entry.path
    try:
        size_bytes = file.stat().st_size
        if size_bytes != entry.size:
            return f"{entry.path} has {size_bytes:,} bytes, not {entry.size:,}"
        return None if digest_file(file) == entry.sha256 else f"{entry.path} was altered"
    except OSError as error:
        return f"{entry.path} cannot be read: {error.strerror}"


def walk(folder: Path) -> tuple[set[str], set[str]]:
    """List the plain files under `folder`, and apart from them links, devices and whatever else is not one.

    Raises:
        OSError: a folder cannot be listed; taken for an empty one, it would hide what lies in it.
    """
    plain: set[str] = set()
    odd: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=_raise, followlinks=False):
        for name in [*names, *folders]:
            path = Path(here) / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                plain.add(path.relative_to(folder).as_posix())
            elif not stat.S_ISDIR(mode):
                odd.add(path.relative_to(folder).as_posix())
    return plain, odd


def _raise(error: OSError) -> None:
    raise error


def seal(folder: Path, manifest_bytes: bytes, entries: tuple[FileEntry, ...]) -> None:
    """Put everything in a draft on disk: files, manifest, folders. Files become read-only."""
    for entry in entries:
        sync(folder / entry.path)
        os.chmod(folder / entry.path, 0o444)
    write_file(folder / MANIFEST, manifest_bytes)
    for inner in sorted(parent_folders(entries), reverse=True):
        sync(folder / inner)
    sync(folder)
