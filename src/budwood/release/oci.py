"""A release as an OCI image layout, after the CNCF ModelPack specification: any registry can hold it, any runtime mount it.

    oci-layout · index.json · blobs/sha256/<digest>

One manifest, one uncompressed layer for each object of the bundle (weights must stay mountable), one for index and signature,
one for a base that goes along. Media types are the specification's (`vnd.cncf.model`; drafts before 2025 said `vnd.cnai.model`,
which is read, too). The annotation `dev.budwood.release` holds the release's digest.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from budwood.errors import ReleaseError
from budwood.identity import Digest, canonical_json, digest_bytes, short
from budwood.json_text import decode
from budwood.new_folder import new_folder
from budwood.release.archive import refuse_existing
from budwood.release.bundle import Bundle, Piece
from budwood.release.tar_file import Member, add_member, end, read_members
from budwood.store import Kind

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MODEL = "application/vnd.cncf.model"
DRAFT_MODEL = "application/vnd.cnai.model"
RELEASE_KEY = "dev.budwood.release"
MAX_JSON_BYTES = 4 << 20
MAX_LAYERS = 256
_PARTS: Mapping[Kind, str] = {
    "adapter": "weight",
    "model": "weight",
    "snapshot": "dataset",
    "release": "weight.config",
    "base": "weight.config",
    "run": "doc",
    "report": "doc",
}
_MEND = "Nothing was imported. Fetch it again, or export the release again with `budwood release export --as oci`."


def write_layout(bundle: Bundle, to: Path) -> Digest:
    """Write a bundle as a layout that appears whole or not at all; return the digest of its manifest.

    Raises:
        ReleaseError: something is there already.
        OSError: the disk refuses.
    """
    refuse_existing(to)
    with new_folder(to) as folder:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layers = [_layer(blobs, of, pieces, bundle) for of, pieces in _grouped(bundle)]
        config = _put_json(blobs, _config(bundle, [layer["digest"] for layer in layers]))
        manifest = _put_json(
            blobs,
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": f"{MODEL}.manifest.v1+json",
                "config": {"mediaType": f"{MODEL}.config.v1+json", **config},
                "layers": layers,
                "annotations": _annotations(bundle),
            },
        )
        entry = {
            "mediaType": OCI_MANIFEST,
            "artifactType": f"{MODEL}.manifest.v1+json",
            **manifest,
            "annotations": {"org.opencontainers.image.ref.name": f"{bundle.index['name']}-{bundle.index['version']}"},
        }
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        (folder / "index.json").write_bytes(canonical_json(index))
        (folder / "oci-layout").write_bytes(canonical_json({"imageLayoutVersion": "1.0.0"}))
    return Digest(manifest["digest"].removeprefix("sha256:"))


def read_layout(folder: Path) -> dict[str, Member]:
    """Hash every blob that the manifest names and list the members of all layers.

    Raises:
        ReleaseError: it is no such layout; a blob is missing, extra, changed or no plain file; a layer is compressed or holds
            anything but plain files; a member is in two layers.
    """
    seen = {folder / "oci-layout", folder / "index.json"}
    if _json(folder / "oci-layout").get("imageLayoutVersion") != "1.0.0":
        raise _refused(folder, "is no OCI layout of version 1.0.0")
    entries = _list(_json(folder / "index.json"), "manifests", folder)
    if len(entries) != 1:
        raise _refused(folder, f"holds {len(entries)} manifests, not one")
    path = _blob(folder, entries[0], seen)
    manifest = _json(path)
    kinds = {f"{prefix}.manifest.v1+json" for prefix in (MODEL, DRAFT_MODEL)}
    if manifest.get("artifactType") not in kinds:
        raise _refused(folder, f"holds {str(manifest.get('artifactType'))[:80]!r}, no model")
    _blob(folder, manifest.get("config"), seen)
    layers = _list(manifest, "layers", folder)
    if len(layers) > MAX_LAYERS:
        raise _refused(folder, f"has {len(layers)} layers, more than {MAX_LAYERS}")
    members: dict[str, Member] = {}
    for layer in layers:
        if not str(layer.get("mediaType") if isinstance(layer, dict) else None).endswith(".tar"):
            raise _refused(folder, "has a layer that is no uncompressed tar")
        for member in read_members(_blob(folder, layer, seen)):
            if member.name in members:
                raise _refused(folder, f"holds {member.name!r} in two layers")
            members[member.name] = member
    _refuse_extra(folder, seen)
    return members


def _grouped(bundle: Bundle) -> Iterator[tuple[str, list[Piece]]]:
    for of in dict.fromkeys(piece.of for piece in bundle.pieces):
        yield of, [piece for piece in bundle.pieces if piece.of == of]


def _layer(blobs: Path, of: str, pieces: list[Piece], bundle: Bundle) -> dict[str, Any]:
    scratch = blobs / "layer.new"
    with scratch.open("xb") as file:
        for piece in sorted(pieces, key=lambda one: one.name):  # as the specification asks, so that layers repeat
            add_member(file, piece.name, piece.size, piece.pieces())
        end(file)
    digest, size = _hash(scratch), scratch.stat().st_size
    os.rename(scratch, blobs / digest)
    part = "weight" if of == "base" else _PARTS[bundle.kinds[of]] if of else "weight.config"
    place = "base" if of == "base" else f"objects/{of}" if of else "."
    return {
        "mediaType": f"{MODEL}.{part}.v1.tar",
        "digest": f"sha256:{digest}",
        "size": size,
        "annotations": {"org.cncf.model.filepath": place},
    }


def _config(bundle: Bundle, layers: list[str]) -> dict[str, Any]:
    index = bundle.index
    return {
        "descriptor": {"name": index["name"], "version": str(index["version"]), "revision": index["release"]},
        "modelfs": {"type": "layers", "diffIds": layers},
        "config": {"format": "safetensors"},
    }


def _annotations(bundle: Bundle) -> dict[str, str]:
    index = bundle.index
    return {
        RELEASE_KEY: index["release"],
        "org.opencontainers.image.title": index["name"],
        "org.opencontainers.image.version": str(index["version"]),
    }


def _put_json(blobs: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    data = canonical_json(value)
    digest = digest_bytes(data)
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path) -> dict[str, Any]:
    _refuse_odd(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise _refused(path, f"has more than {MAX_JSON_BYTES:,} bytes")
    try:
        value = decode(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise _refused(path, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _refused(path, "is no JSON object")
    return value


def _list(value: Mapping[str, Any], key: str, folder: Path) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise _refused(folder, f"has no list of {key}")
    return found


def _blob(folder: Path, descriptor: Any, seen: set[Path]) -> Path:
    """Where the blob of a descriptor lies, once its size and digest are found to be as it says."""
    told = descriptor if isinstance(descriptor, dict) else {}
    digest, size = str(told.get("digest", "")), told.get("size")
    hexadecimal = digest.removeprefix("sha256:")
    if not digest.startswith("sha256:") or len(hexadecimal) != 64 or not set(hexadecimal) <= set("0123456789abcdef"):
        raise _refused(folder, f"names a blob {json.dumps(digest[:80])}, which is no sha256 digest")
    path = folder / "blobs" / "sha256" / hexadecimal
    _refuse_odd(path)
    if path.stat().st_size != size or _hash(path) != hexadecimal:
        raise _refused(folder, f"has a blob {short(hexadecimal)}… of other bytes than its digest says")
    seen.add(path)
    return path


def _refuse_odd(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise _refused(path, "is no plain file" if os.path.lexists(path) else "is missing")


def _refuse_extra(folder: Path, seen: set[Path]) -> None:
    for here, folders, names in os.walk(folder, followlinks=False):
        for name in [*names, *(inner for inner in folders if os.path.islink(os.path.join(here, inner)))]:
            if Path(here) / name not in seen:
                raise _refused(folder, f"holds {name[:80]!r}, which nothing names")


def _refused(path: Path, what: str) -> ReleaseError:
    return ReleaseError(f"{path.name} {what}.", where=str(path.parent), mend=_MEND)
