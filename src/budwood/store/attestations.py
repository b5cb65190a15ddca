"""What lies beside an object and is not part of its digest: times, hosts, versions, and files such as `report.html`.

Each attestation is one file, numbered, never rewritten; the first is the one of the run that made the object.
"""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json, short
from budwood.new_folder import sync
from budwood.store.durable import write_file
from budwood.store.names import check_digest, check_paths
from budwood.store.objects import walk

FILES = "files"


class Attestations:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, digest: str) -> list[dict[str, Any]]:
        """Read all attestations of an object, oldest first."""
        folder = self._folder(digest)
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json")) if folder.is_dir() else []
        return [self._parse(folder / name, digest) for name in names]

    def add(self, digest: str, values: Mapping[str, Any], scratch: Path) -> None:
        """Add one, in one step; `scratch` is a free name on the same file system."""
        try:
            data = canonical_json(values)
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"The attestation of {short(digest)}… cannot be written as JSON: {error}.",
                mend="Use finite numbers and JSON types only.",
            ) from None
        folder = self._folder(digest)
        (folder / FILES).mkdir(parents=True, exist_ok=True)
        write_file(scratch, data)
        number = 1 + len([name for name in os.listdir(folder) if name.endswith(".json")])
        while True:
            try:
                # A link, not a rename: it fails when another process has just taken this number.
                os.link(scratch, folder / f"{number:06d}.json")
                break
            except FileExistsError:
                number += 1
        scratch.unlink()
        sync(folder)

    def attachment(self, digest: str, name: str) -> Path:
        """Where an unhashed file of that name lies or may be put."""
        check_paths([name], kept=(), where=f"the attachments of {short(digest)}…")
        return self._folder(digest) / FILES / name

    def take(self, digest: str, source: Path) -> None:
        """Move every file under `source` to the attachments, in the place of older ones of the same name."""
        for here, _, names in os.walk(source):
            for name in names:
                path = Path(here) / name
                target = self.attachment(digest, path.relative_to(source).as_posix())
                target.parent.mkdir(parents=True, exist_ok=True)
                sync(path)
                os.replace(path, target)

    def attachments(self, digest: str) -> list[str]:
        """List the unhashed files beside an object."""
        folder = self._folder(digest) / FILES
        plain, odd = walk(folder) if folder.is_dir() else (set(), set())
        return sorted(plain | odd)

    def drop(self, digest: Digest, *, attachments_only: bool = False) -> None:
        """Delete what lies beside an object.

        Raises:
            OSError: something could not be deleted.
        """
        folder = self._folder(digest) / FILES if attachments_only else self._folder(digest)
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def _folder(self, digest: str) -> Path:
        checked = check_digest(digest)
        return self.root / checked[:2] / checked

    def _parse(self, path: Path, digest: str) -> dict[str, Any]:
        try:
            value = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise StoreError(
                f"Attestation {path.name} of {short(digest)}… cannot be read: {error}.",
                where=str(path),
                mend="It is not part of the object; remove that file.",
            ) from None
        if not isinstance(value, dict):
            raise StoreError(f"Attestation {path.name} of {short(digest)}… is no JSON object.", mend="Remove that file.")
        return value
