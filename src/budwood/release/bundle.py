"""A release made portable: which objects go along, under which names, and what an import checks before it believes any of it.

Members, the same in an archive and in an OCI layout:

    budwood-release.json             what is in it: release, name and number, objects, what is left out, files of the base
    objects/<digest>/manifest.json   of each object; its bytes hash to the digest
    objects/<digest>/<path>          the files that the manifest names, no more and no fewer
    base/<path>                      the base's own files, where they were asked for
    signature.json                   where the release is signed

The release's digest is over its manifest, which names every part by digest; so everything is held to that one digest, except
what the index says of objects that are left out: their kinds are a label for the one who reads lineage. The base's files are
held to the weights, tokenizer and template digests that the release binds, after they have been copied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budwood.errors import ReleaseError, StoreError
from budwood.identity import Digest, canonical_json, digest_file, short
from budwood.json_text import decode
from budwood.release.tar_file import Member
from budwood.store import Kind, Manifest, Store
from budwood.store.manifest import KINDS, MANIFEST, FileEntry, read_manifest
from budwood.store.names import check_digest, check_name, check_paths
from budwood.store.signatures import SIGNATURE

INDEX = "budwood-release.json"
FORMAT = 1
MAX_INDEX_BYTES = 4 << 20
MAX_MANIFEST_BYTES = 64 << 20
MAX_SIGNATURE_BYTES = 1 << 20
_DATA: tuple[Kind, ...] = ("snapshot",)
_BASE_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
_MEND = "Nothing was imported. Fetch it again, or export the release again with `budwood release export`."


@dataclass(frozen=True)
class Piece:
    """One member to be written; `of` is the object that it belongs to ("base", or "" for index and signature)."""

    name: str
    size: int
    source: Path | bytes
    of: str

    def pieces(self) -> Iterator[bytes]:
        if isinstance(self.source, bytes):
            yield self.source
            return
        with self.source.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece


@dataclass(frozen=True)
class Bundle:
    """What goes into a portable form.

    Args:
        index: of `budwood-release.json`.
        pieces: members, the index first.
        kinds: object → kind.
    """

    index: Mapping[str, Any]
    pieces: tuple[Piece, ...]
    kinds: Mapping[str, Kind]


@dataclass(frozen=True)
class Offered:
    """What a portable form holds, its manifests and names checked; the files' bytes are not yet."""

    release: Digest
    name: str
    version: int
    manifests: Mapping[Digest, tuple[Manifest, bytes]]
    left_out: Mapping[Digest, Kind]
    base: tuple[FileEntry, ...]
    members: Mapping[str, Member]
    signature: bytes | None


def bundle(store: Store, release: Digest, name: str, version: int, *, with_data: bool, base_folder: Path | None) -> Bundle:
    """Choose what goes along: the release, its base's object, adapter or model, run and report; rows only if asked for.

    Earlier releases are named, not carried.

    Raises:
        StoreError: a part that has to go along is not here, or was altered.
    """
    manifest = store.manifest(release)
    taken = [release, *(parent for parent in manifest.parents if _goes_along(store, parent, with_data))]
    manifests = {digest: store.manifest(digest) for digest in taken}
    for digest in taken:
        faults = store.faults(digest)
        if faults:
            raise StoreError(
                f"The {manifests[digest].kind} {short(digest)}… was damaged: {faults[0]}.", mend="Read `budwood verify`."
            )
    parents = dict.fromkeys(parent for one in manifests.values() for parent in one.parents)
    left_out = [parent for parent in parents if parent not in manifests]
    base = [] if base_folder is None else _base_pieces(base_folder)
    signature = store.attachment(release, SIGNATURE)
    index = {
        "format": FORMAT,
        "release": release,
        "name": name,
        "version": version,
        "objects": sorted(taken),
        "left_out": {digest: _kind(store, digest) for digest in sorted(left_out)},
        "base": [{"path": one.name.removeprefix("base/"), "sha256": digest_file(_path(one)), "size": one.size} for one in base],
        "signed": signature.is_file(),
    }
    data = canonical_json(index) + b"\n"
    pieces = [Piece(INDEX, len(data), data, "")]
    if signature.is_file():
        signed = signature.read_bytes()
        pieces.append(Piece(SIGNATURE, len(signed), signed, ""))
    pieces += [piece for digest in sorted(taken) for piece in _object_pieces(store, digest, manifests[digest])]
    return Bundle(index, (*pieces, *base), {digest: one.kind for digest, one in manifests.items()})


def read_bundle(members: Mapping[str, Member]) -> Offered:
    """Check everything that can be known without reading the large files.

    Raises:
        ReleaseError: the index is missing or not one of ours; a manifest is not the one its digest names; an object does not
            belong to the release; a file is missing, extra or of another size.
    """
    if INDEX not in members:
        raise ReleaseError(f"There is no {INDEX} in it: this is no exported release.", mend=_MEND)
    index = _index(members[INDEX].read(MAX_INDEX_BYTES))
    manifests = {digest: _manifest(members, digest) for digest in index.objects}
    _check_belonging(index, {digest: manifest for digest, (manifest, _) in manifests.items()})
    _check_members(index, manifests, members)
    signature = members[SIGNATURE].read(MAX_SIGNATURE_BYTES) if index.signed else None
    return Offered(index.release, index.name, index.version, manifests, index.left_out, index.base, members, signature)


def _goes_along(store: Store, digest: Digest, with_data: bool) -> bool:
    return store.exists(digest) and (kind := store.manifest(digest).kind) != "release" and (with_data or kind not in _DATA)


def _kind(store: Store, digest: Digest) -> Kind:
    stone = store.tombstone_of(digest)
    return store.manifest(digest).kind if stone is None else stone.kind


def _object_pieces(store: Store, digest: Digest, manifest: Manifest) -> Iterator[Piece]:
    folder = store.folder(digest)
    place = f"objects/{digest}"
    yield Piece(f"{place}/{MANIFEST}", (folder / MANIFEST).stat().st_size, folder / MANIFEST, digest)
    for entry in manifest.files:
        yield Piece(f"{place}/{entry.path}", entry.size, folder / entry.path, digest)


def _base_pieces(folder: Path) -> list[Piece]:
    """Weights, configuration and tokenizer of a base; links into a cache of the hub are read through. Never code or pickles."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _BASE_SUFFIXES)
    return [Piece(f"base/{path.name}", path.stat().st_size, path, "base") for path in files]


def _path(piece: Piece) -> Path:
    assert isinstance(piece.source, Path)
    return piece.source


@dataclass(frozen=True)
class _Index:
    release: Digest
    name: str
    version: int
    objects: tuple[Digest, ...]
    left_out: Mapping[Digest, Kind]
    base: tuple[FileEntry, ...]
    signed: bool


def _index(data: bytes) -> _Index:
    try:
        value = decode(data.decode("utf-8"))
        if value["format"] != FORMAT:
            raise ReleaseError(f"{INDEX} has format {value['format']!r}; this Budwood reads {FORMAT}.", mend="Use a newer one.")
        kinds = {check_digest(digest): kind for digest, kind in value["left_out"].items()}
        if not set(kinds.values()) <= set(KINDS):
            raise ValueError("a kind of object that is none")
        base = tuple(FileEntry(one["path"], check_digest(one["sha256"]), _count(one["size"])) for one in value["base"])
        check_paths((entry.path for entry in base), kept=(), where=INDEX)
        return _Index(
            check_digest(value["release"]),
            check_name(value["name"]),
            _count(value["version"]),
            tuple(check_digest(digest) for digest in value["objects"]),
            kinds,
            base,
            bool(value["signed"]),
        )
    except StoreError as error:
        raise ReleaseError(f"{INDEX} cannot be honoured: {error.what}", mend=_MEND) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{INDEX} cannot be read: {error!r}.", mend=_MEND) from None


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _manifest(members: Mapping[str, Member], digest: Digest) -> tuple[Manifest, bytes]:
    member = members.get(f"objects/{digest}/{MANIFEST}")
    if member is None:
        raise ReleaseError(f"The {MANIFEST} of {short(digest)}… is missing.", mend=_MEND)
    data = member.read(MAX_MANIFEST_BYTES)
    try:
        return read_manifest(data, digest), data
    except StoreError as error:
        raise ReleaseError(error.what, where=member.name, mend=_MEND) from None


def _check_belonging(index: _Index, manifests: Mapping[Digest, Manifest]) -> None:
    """Everything is a part of this one release, and every part is here or said to be left out."""
    release = manifests.get(index.release)
    if release is None or release.kind != "release":
        raise ReleaseError(f"The release {short(index.release)}… itself is not in it.", mend=_MEND)
    parts = {index.release, *release.parents}
    strange = [digest for digest in manifests if digest not in parts]
    if strange:
        raise ReleaseError(f"{short(strange[0])}… is in it, but is no part of release {short(index.release)}….", mend=_MEND)
    named = {parent for manifest in manifests.values() for parent in manifest.parents}
    absent = named - manifests.keys()
    if absent != index.left_out.keys():
        wrong = min(absent ^ index.left_out.keys())
        told = "is missing, and not said to be left out" if wrong in absent else "is said to be left out, and nothing names it"
        raise ReleaseError(f"{short(wrong)}… {told}.", mend=_MEND)
    body = release.body
    needed = [body.get("base", {}).get("object"), body.get("result", {}).get("digest")]
    if index.base and needed[0] is None:
        raise ReleaseError("A base is in it, and the release names no object of one.", mend=_MEND)
    lacking = [digest for digest in needed if digest is not None and digest not in manifests]
    if lacking:
        raise ReleaseError(f"What the release answers with is missing: {short(str(lacking[0]))}….", mend=_MEND)


def _check_members(index: _Index, manifests: Mapping[Digest, tuple[Manifest, bytes]], members: Mapping[str, Member]) -> None:
    wanted = {INDEX: members[INDEX].size, **{f"base/{entry.path}": entry.size for entry in index.base}}
    if index.signed:
        wanted[SIGNATURE] = members[SIGNATURE].size if SIGNATURE in members else 0
    for digest, (manifest, data) in manifests.items():
        wanted[f"objects/{digest}/{MANIFEST}"] = len(data)
        wanted |= {f"objects/{digest}/{entry.path}": entry.size for entry in manifest.files}
    problems = [f"{name} is missing" for name in wanted if name not in members]
    problems += [f"{name[:160]} is extra" for name in members if name not in wanted]
    problems += [
        f"{name} has {members[name].size:,} bytes, not {size:,}"
        for name, size in wanted.items()
        if name in members and members[name].size != size
    ]
    if problems:
        raise ReleaseError(f"Its files are not those that it lists: {'; '.join(sorted(problems)[:5])}.", mend=_MEND)
