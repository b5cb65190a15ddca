"""A folder of safetensors, read as data: which files, which tensors, and one digest over all of them.

The digest is made per tensor, so the same weights in one file or in forty are the same base. Headers are checked in full
before a byte behind them is used: every byte of a file belongs to exactly one tensor. Errors: `BaseError`.
"""

import hashlib
import json
import math
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budwood.errors import BaseError
from budwood.identity import Digest, digest_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PIECE_BYTES = 1 << 22
MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 100_000
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


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
        return math.prod(self.shape)


def weight_files(folder: Path) -> list[Path]:
    """Find the safetensors of a base, as transformers would: model.safetensors, else the files of the index, else the only one.

    Raises:
        BaseError: none, several without an index, files that the index names are missing, or only pickles, which are never
            read.
    """
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        return _indexed(folder)
    found = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    if len(found) == 1:
        return found
    if found:
        raise BaseError(
            f"The folder has {len(found)} weight files ({', '.join(path.name for path in found[:3])}, …) but no {INDEX}.",
            where=str(folder),
            mend="Download the base again, whole.",
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BaseError(
            f"The base has its weights as pickles only ({', '.join(pickles[:3])}), which can run code and are never read.",
            where=str(folder),
            mend="Convert them: load once in a safe place and call save_pretrained(..., safe_serialization=True).",
        )
    raise BaseError("The folder has no weights (*.safetensors).", where=str(folder), mend="Name the folder that holds them.")


def read_tensors(files: Sequence[Path]) -> list[TensorEntry]:
    """Read the headers; no tensor is read.

    Raises:
        BaseError: a file that is no whole safetensors file, or a tensor that occurs in two of them.
    """
    found: dict[str, TensorEntry] = {}
    for file in files:
        for entry in read_header(file):
            if entry.name in found:
                raise BaseError(
                    f"Tensor {entry.name!r} occurs in {found[entry.name].file.name} and in {file.name}.",
                    where=str(file.parent),
                    mend="Download the base again, whole.",
                )
            found[entry.name] = entry
    return list(found.values())


def read_header(path: Path) -> list[TensorEntry]:
    """Read and check one file's header.

    Raises:
        BaseError: anything but a whole safetensors file; the reason is named.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise _broken(path, "it is no ordinary file")
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 8:
            raise _broken(path, f"it has {size} bytes")
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise _broken(path, f"its header claims {length:,} bytes, the file has {size:,}")
        header = _parse(file.read(length), lambda why: _broken(path, why))
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise _broken(path, f"it has {len(header):,} tensors, more than {MAX_TENSORS:,}")
    entries = [_entry(path, name, facts, 8 + length) for name, facts in header.items()]
    _check_offsets(path, entries, 8 + length, size)
    return entries


def weights_digest(entries: Sequence[TensorEntry]) -> Digest:
    """Hash name, dtype, shape and bytes of every tensor, in the order of their names.

    Raises:
        BaseError: a file became shorter meanwhile.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    return digest_json([[entry.name, entry.dtype, list(entry.shape), _hash(entry)] for entry in ordered])


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BaseError: it is none, or has a key twice.
    """

    def broken(why: str) -> BaseError:
        return BaseError(f"{path.name} cannot be read: {why}.", where=str(path.parent), mend="Download the base again.")

    try:
        return _parse(path.read_bytes(), broken)
    except OSError as error:
        raise broken(str(error.strerror)) from None


def _indexed(folder: Path) -> list[Path]:
    listed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise BaseError(f"{INDEX} has no weight_map.", where=str(folder), mend="Download the base again, whole.")
    names = sorted(set(listed.values()))
    absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if absent:
        raise BaseError(
            f"{len(absent)} of {len(names)} weight files are missing, first {absent[0]!r}.",
            where=str(folder / INDEX),
            mend="Download the base again, whole.",
        )
    inside = {(entry.name, name) for name in names for entry in read_header(folder / name)}
    lost = sorted(set(listed.items()) - inside)
    if lost:
        raise BaseError(
            f"{len(lost)} of {len(listed)} tensors are not in the file that the index names, first {lost[0][0]!r}.",
            where=str(folder / INDEX),
            mend="Download the base again, whole.",
        )
    return [folder / name for name in names]


def _entry(path: Path, name: str, facts: Any, start: int) -> TensorEntry:
    if not isinstance(facts, dict) or not {"dtype", "shape", "data_offsets"} <= set(facts):
        raise _broken(path, f"tensor {name!r} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if dtype not in _ITEM_BYTES:
        raise BaseError(
            f"Tensor {name!r} has the dtype {dtype!r}.", where=str(path), mend="Use the base in BF16, F16 or F32 weights."
        )
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise _broken(path, f"tensor {name!r} has a shape or offsets that are no counts")
    if math.prod(shape) * _ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise _broken(path, f"tensor {name!r} has shape {shape} and dtype {dtype}, but {offsets[1] - offsets[0]:,} bytes")
    return TensorEntry(name, dtype, tuple(shape), path, start + offsets[0], start + offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_offsets(path: Path, entries: Sequence[TensorEntry], start: int, size: int) -> None:
    at = start
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != at:
            raise _broken(path, f"tensor {entry.name!r} {'overlaps another' if entry.start < at else 'leaves a gap before it'}")
        at = entry.end
    if at != size:
        raise _broken(path, f"its tensors end at byte {at:,}, the file at {size:,}")


def _parse(data: bytes, broken: Callable[[str], BaseError]) -> dict[str, Any]:
    def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise broken("a name occurs twice in it")
        return found

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=without_twins)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise broken(f"its JSON is broken ({error})") from None
    if not isinstance(value, dict):
        raise broken("it holds no JSON object")
    return value


def _hash(entry: TensorEntry) -> str:
    hasher = hashlib.sha256()
    with entry.file.open("rb") as file:
        file.seek(entry.start)
        left = entry.end - entry.start
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise _broken(entry.file, "it became shorter while it was read")
            hasher.update(piece)
            left -= len(piece)
    return hasher.hexdigest()


def _broken(path: Path, why: str) -> BaseError:
    return BaseError(
        f"{path.name} is no whole safetensors file: {why}.", where=str(path.parent), mend="Download it again, whole."
    )
