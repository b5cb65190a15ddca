"""A folder of safetensors, read as data: which files, which tensors, and one digest over all of them.

The digest is made per tensor, so the same weights in one file or in forty are the same base.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from budwood.errors import BaseError
from budwood.identity import Digest, digest_json

MAX_HEADER = 100_000_000
PIECE = 1 << 22
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `start` and `end` are byte offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def weight_files(folder: Path) -> list[Path]:
    """Find the safetensors of a base: the sharded index's files, else all in the folder.

    Raises:
        BaseError: none, or only pickles, which are never read.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_json(index)["weight_map"].values()))
        absent = [name for name in names if "/" in name or not (folder / name).is_file()]
        if absent:
            raise BaseError(
                f"{len(absent)} of {len(names)} weight files are missing, first {absent[0]!r}.",
                where=str(index),
                mend="Download the base again, whole.",
            )
        return [folder / name for name in names]
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    if found:
        return found
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BaseError(
            f"The base has its weights as pickles only ({', '.join(pickles[:3])}), which can run code and are never read.",
            where=str(folder),
            mend="Convert them: load once in a safe place and call save_pretrained(..., safe_serialization=True).",
        )
    raise BaseError("The folder has no weights (*.safetensors).", where=str(folder), mend="Name the folder that holds them.")


def read_tensors(files: list[Path]) -> list[TensorEntry]:
    """Read the headers; no tensor is read.

    Raises:
        BaseError: a header that is no safetensors header, offsets outside the file, or a name that occurs twice.
    """
    entries = [entry for file in files for entry in _entries(file)]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) != len(names) else []
    if twice:
        raise BaseError(f"Tensor {twice[0]!r} occurs in two files.", where=str(files[0].parent), mend="Download it again.")
    return entries


def weights_digest(entries: list[TensorEntry]) -> Digest:
    """Hash name, dtype, shape and bytes of every tensor, in the order of their names."""
    return digest_json(
        [
            [entry.name, entry.dtype, list(entry.shape), _hash(entry)]
            for entry in sorted(entries, key=lambda entry: entry.name)
        ]
    )


def _hash(entry: TensorEntry) -> str:
    hasher = hashlib.sha256()
    with entry.file.open("rb") as file:
        file.seek(entry.start)
        left = entry.end - entry.start
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise BaseError("A weight file became shorter while it was read.", where=str(entry.file))
            hasher.update(piece)
            left -= len(piece)
    return hasher.hexdigest()


def _entries(path: Path) -> Iterator[TensorEntry]:
    with path.open("rb") as file:
        size = path.stat().st_size
        header, start = _header(file, size, path)
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        first, last = facts["data_offsets"]
        if not 0 <= first <= last <= size - start:
            raise _broken(path, f"tensor {name!r} lies outside the file")
        yield TensorEntry(name, facts["dtype"], tuple(facts["shape"]), path, start + first, start + last)


def _header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    head = file.read(8)
    if len(head) < 8:
        raise _broken(path, f"it has {size} bytes")
    (length,) = struct.unpack("<Q", head)
    if length > min(MAX_HEADER, size - 8):
        raise _broken(path, f"its header claims {length:,} bytes, the file has {size:,}")
    try:
        header = json.loads(file.read(length).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _broken(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is not an object")
    return header, 8 + length


def _broken(path: Path, why: str) -> BaseError:
    return BaseError(f"This is no whole safetensors file: {why}.", where=str(path), mend="Download it again, whole.")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BaseError(f"This file is not JSON: {error}.", where=str(path), mend="Download it again.") from None
    if not isinstance(value, dict):
        raise BaseError("This file holds no JSON object.", where=str(path), mend="Download it again.")
    return value
