"""Taking a portable release into a store: everything is copied beside the objects and checked before anything is visible.

A kill at any moment leaves the store as it was, or with whole objects that no release needs yet; doing it again finishes.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from budwood.errors import ReleaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.new_folder import new_folder
from budwood.release.bundle import Offered
from budwood.release.make import check_name
from budwood.release.tar_file import Member
from budwood.store import Manifest, Store
from budwood.store.draft import Draft
from budwood.store.imports import add_imported, leave_out
from budwood.store.signatures import SIGNATURE

_MEND = "Nothing was imported. Fetch it again, or export the release again with `budwood release export`."


@dataclass(frozen=True)
class Imported:
    """What came into the store; `left_out`: parts that are named by lineage and are not here."""

    name: str
    version: int
    digest: Digest
    objects: int
    left_out: int
    signed: bool
    base: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def import_release(
    store: Store,
    offered: Offered,
    *,
    as_name: str | None,
    who: str,
    reason: str,
    check_base: Callable[[Path, Any], None],
    report: Reporter,
) -> Imported:
    """Take a release into the store and register it.

    Args:
        store: that it goes into.
        offered: what `read_bundle` gave.
        as_name: register it under the next number of this name; None: under the name and number that it has.
        who: person or program.
        reason: why.
        check_base: given a folder with the base's files and the release's body: raises unless it is the base that is bound.
        report: told of progress.

    Raises:
        ReleaseError: a file's bytes are others than its digest says, or the base is another one.
        StoreError: the disk refuses, or the number belongs to another release here.
    """
    body = offered.manifests[offered.release][0].body
    check_name(as_name or offered.name, str(body["base"]["id"]))
    if as_name is None:
        _check_number(store, offered)
    total, done = sum(member.size for member in offered.members.values()), 0

    def copied(count: int) -> None:
        nonlocal done
        done += count
        report(Event("release", "Checking the files", done, total, "bytes"))

    with ExitStack() as stack:
        drafts = {
            digest: _copy(stack, store, offered, digest, copied)
            for digest in _parents_first({digest: manifest for digest, (manifest, _) in offered.manifests.items()})
        }
        base = _copy_base(store, offered, body, check_base, copied)
        origin = f"left out of the export of {offered.name}@{offered.version}"
        leave_out(store, offered.left_out, offered.release, who=who, reason=origin)
        for digest, draft in drafts.items():
            manifest, _ = offered.manifests[digest]
            said = {"who": who, "reason": reason, "imported": f"{offered.name}@{offered.version}"}
            made = draft.commit(parents=manifest.parents, body=manifest.body, attestation=said)
            assert made == digest
    if base is not None:
        store.attest(body["base"]["object"], {"folder": str(base), "imported": True})
    if offered.signature is not None:
        store.attach(offered.release, SIGNATURE, offered.signature)
    version = None if as_name else offered.version
    number = add_imported(store, as_name or offered.name, offered.release, version=version, who=who, reason=reason)
    return Imported(
        as_name or offered.name,
        number,
        offered.release,
        len(drafts),
        len(offered.left_out),
        offered.signature is not None,
        None if base is None else str(base),
    )


def _check_number(store: Store, offered: Offered) -> None:
    """Refuse before anything is copied what the registry would refuse at the end."""
    rows = [row for row in store.releases(offered.name) if row.version == offered.version and row.digest != offered.release]
    if rows:
        raise ReleaseError(
            f"{offered.name}@{offered.version} is release {short(rows[0].digest)}… here, not {short(offered.release)}…: "
            "a number means one release.",
            mend="Nothing was imported. Import it under another name: --as-name NAME.",
        )


def _copy(stack: ExitStack, store: Store, offered: Offered, digest: Digest, copied: Callable[[int], None]) -> Draft:
    """Write an object's files into a draft, hashing what is written."""
    manifest, _ = offered.manifests[digest]
    draft = stack.enter_context(store.draft(manifest.kind))
    for entry in manifest.files:
        target = draft.folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(offered.members[f"objects/{digest}/{entry.path}"], target, entry.sha256, copied)
    return draft


def _copy_file(member: Member, target: Path, sha256: Digest, copied: Callable[[int], None]) -> None:
    hasher = hashlib.sha256()
    with target.open("xb") as file:
        for piece in member.pieces():
            hasher.update(piece)
            file.write(piece)
            copied(len(piece))
    if hasher.hexdigest() != sha256:
        raise ReleaseError(
            f"{member.name} has other bytes than its digest says: {short(hasher.hexdigest())}…, not {short(sha256)}….",
            where=str(member.path),
            mend=_MEND,
        )


def _copy_base(
    store: Store, offered: Offered, body: Any, check_base: Callable[[Path, Any], None], copied: Callable[[int], None]
) -> Path | None:
    """Put the base's files under `bases/` of the store, once they are found to be the base that the release binds."""
    if not offered.base:
        return None
    place = store.root / "bases" / str(body["base"]["weights_digest"])
    if place.is_dir() and os.listdir(place):
        return place
    with new_folder(place) as folder:
        for entry in offered.base:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(offered.members[f"base/{entry.path}"], target, entry.sha256, copied)
        check_base(folder, body)
    return place


def _parents_first(manifests: dict[Digest, Manifest]) -> Iterator[Digest]:
    return iter(
        TopologicalSorter(
            {digest: [parent for parent in one.parents if parent in manifests] for digest, one in manifests.items()}
        ).static_order()
    )
