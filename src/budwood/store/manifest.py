"""The manifest: what an object is made of, and the one way to write it down.

The bytes of `manifest.json` are its canonical JSON, so `sha256sum manifest.json` prints the object's digest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from budwood.errors import StoreError
from budwood.identity import Digest, canonical_json, digest_bytes, short
from budwood.store.names import check_digest, check_paths

Kind = Literal["base", "snapshot", "run", "adapter", "model", "report", "release"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT = 1
MANIFEST = "manifest.json"
TOMBSTONE = "tombstone.json"
OUR_FILES = (MANIFEST, TOMBSTONE)


@dataclass(frozen=True)
class FileEntry:
    """One file: `path` is relative with forward slashes, `size` in bytes."""

    path: str
    sha256: Digest
    size: int


@dataclass(frozen=True)
class Manifest:
    """What the digest is over. `files` are sorted by path; `parents` keep the order that the stage gave."""

    format: int
    kind: Kind
    files: tuple[FileEntry, ...]
    parents: tuple[Digest, ...]
    body: Mapping[str, Any]


def make_manifest(
    kind: Kind, files: Sequence[FileEntry], parents: Sequence[str], body: Mapping[str, Any]
) -> tuple[Manifest, bytes, Digest]:
    """Check the parts and give the manifest, its bytes and its digest.

    Raises:
        StoreError: unknown kind, a path that is not allowed, a parent that is no digest, or a body that is not finite JSON.
    """
    if kind not in KINDS:
        raise StoreError(f"{kind!r} is no kind of object.", mend=f"Kinds: {', '.join(KINDS)}.")
    check_paths((entry.path for entry in files), kept=OUR_FILES, where=f"a {kind} object")
    ordered = tuple(sorted(files, key=lambda entry: entry.path))
    unique = tuple(dict.fromkeys(check_digest(parent) for parent in parents))
    try:
        plain_body = json.loads(canonical_json(body).decode("utf-8", "surrogatepass"))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"The body of this {kind} cannot be written as JSON: {error}.", mend="Use finite numbers and JSON types only."
        ) from None
    manifest = Manifest(FORMAT, kind, ordered, unique, plain_body)
    data = canonical_json(
        {
            "format": FORMAT,
            "kind": kind,
            "files": [{"path": entry.path, "sha256": entry.sha256, "size": entry.size} for entry in ordered],
            "parents": list(unique),
            "body": plain_body,
        }
    )
    return manifest, data, digest_bytes(data)


def read_manifest(data: bytes, digest: Digest) -> Manifest:
    """Read the bytes of `manifest.json`, which must hash to `digest`.

    Raises:
        StoreError: other bytes than the digest's, a newer format, or (hand-made) contents that break the rules.
    """
    found = digest_bytes(data)
    if found != digest:
        raise StoreError(
            f"The manifest of {short(digest)}… was altered: its bytes hash to {short(found)}….",
            mend="Restore the object from a backup, or make it again; `budwood verify` lists all damage.",
        )
    try:
        value = json.loads(data.decode("utf-8", "surrogatepass"))
        if value["format"] != FORMAT:
            raise StoreError(
                f"Object {short(digest)}… has format {value['format']!r}; this Budwood reads format {FORMAT}.",
                mend="Use a newer Budwood.",
            )
        files = tuple(FileEntry(item["path"], check_digest(item["sha256"]), int(item["size"])) for item in value["files"])
        parents = tuple(check_digest(parent) for parent in value["parents"])
        kind, body = value["kind"], value["body"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"The manifest of {short(digest)}… is not one of ours: {error!r}.", mend="Remove that object."
        ) from None
    if kind not in KINDS or not isinstance(body, dict):
        raise StoreError(f"The manifest of {short(digest)}… has kind {kind!r}.", mend=f"Kinds: {', '.join(KINDS)}.")
    check_paths((entry.path for entry in files), kept=OUR_FILES, where=f"the manifest of {short(digest)}…")
    return Manifest(FORMAT, kind, files, parents, body)


def parent_folders(files: Sequence[FileEntry]) -> set[str]:
    """List the folders that the files of a manifest lie in, "" left out."""
    return {str(folder) for entry in files for folder in PurePosixPath(entry.path).parents} - {"."}
