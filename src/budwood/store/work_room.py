"""The face of a store for stages at work: scratch folders, caches, and which work is done already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from budwood.identity import Digest, digest_json
from budwood.store.history import iso
from budwood.store.leases import gate
from budwood.store.names import check_digest, check_key
from budwood.store.object_room import ObjectRoom


class WorkRoom(ObjectRoom):
    """Work; see `Store`."""

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
