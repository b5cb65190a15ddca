"""safetensors, read strictly: the header is checked as data before any tensor is touched.

8 bytes length of the header, the header (a JSON object: name → dtype, shape, offsets), then the tensors end to end in that
order, nothing between or behind them. The library would map some of what is refused here (100,000 entries, empty tensors),
and does not hash what it maps.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from budwood.engine.lora.untrusted import read_exactly, read_object, refusal
from budwood.identity import Digest

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 1 << 16
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MEND = "Fetch or export the adapter again; the file is damaged or no adapter."


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header announces it; offsets count from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class TensorFile:
    """A checked header, and the way to the tensors behind it. Valid while the file is open."""

    path: Path
    entries: dict[str, TensorEntry]
    descriptor: int
    header: bytes
    size: int

    def read(self, *, digest: str | None = None) -> dict[str, Tensor]:
        """Read every tensor as float32.

        Raises:
            AdapterError: the file shrank meanwhile, or its sha256 is not `digest`.
        """
        data = bytearray(self.size - len(self.header))
        if read_exactly(self.descriptor, len(self.header), memoryview(data)) != len(data):
            raise refusal(self.path, "changed while it was read", "Load it again when nothing writes to it.")
        if digest is not None:
            self._compare(data, digest)
        tensors = {}
        for name, entry in self.entries.items():
            count = (entry.end - entry.start) // entry.dtype.itemsize
            flat = torch.frombuffer(data, dtype=entry.dtype, count=count, offset=entry.start)
            tensors[name] = flat.reshape(entry.shape).to(torch.float32, copy=True)
        return tensors

    def _compare(self, data: bytearray, digest: str) -> None:
        hasher = hashlib.sha256(self.header)
        hasher.update(data)
        found = Digest(hasher.hexdigest())
        if found != digest:
            raise refusal(self.path, f"has digest {found[:12]}, not {digest[:12]}", "The file was changed: fetch it again.")


def read_header(path: Path, descriptor: int, size: int) -> TensorFile:
    """Check the header of an open file of `size` bytes.

    Raises:
        AdapterError: anything but a well-formed file that ends with its last tensor.
    """
    if size < 8:
        raise refusal(path, f"is too short: {size} bytes", _MEND)
    length = int.from_bytes(_bytes(descriptor, 0, 8), "little")
    if length > size - 8:
        raise refusal(path, f"announces a header of {length} bytes, but has {size} in all", _MEND)
    if length > MAX_HEADER_BYTES:
        raise refusal(path, f"has a header of {length} bytes, more than {MAX_HEADER_BYTES}", _MEND)
    header = _bytes(descriptor, 0, 8 + length)
    if len(header) < 8 + length:
        raise refusal(path, "changed while it was read", "Load it again when nothing writes to it.")
    if header[8:9] != b"{":
        raise refusal(path, "has a header that is no JSON object", _MEND)
    tensors = header.count(b'"data_offsets"')  # before parsing, which a million entries would make slow
    if tensors > MAX_TENSORS:
        raise refusal(path, f"has {tensors} tensors, more than {MAX_TENSORS}", _MEND)
    entries = _entries(path, read_object(header[8:], path))
    _check_offsets(path, entries, size - 8 - length)
    return TensorFile(path, entries, descriptor, header, size)


def _bytes(descriptor: int, start: int, count: int) -> bytes:
    data = bytearray(count)
    return bytes(data[: read_exactly(descriptor, start, memoryview(data))])


def _entries(path: Path, header: dict[str, Any]) -> dict[str, TensorEntry]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise refusal(path, "has metadata that is no table of texts", _MEND)
    return {name: _entry(path, name, value) for name, value in header.items()}


def _entry(path: Path, name: str, value: Any) -> TensorEntry:
    shown = name[:120]
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refusal(path, f"describes {shown} by other fields than dtype, shape, data_offsets", _MEND)
    if value["dtype"] not in _DTYPES:
        raise refusal(path, f"stores {shown} as {str(value['dtype'])[:40]}", "Convert the adapter to F32, F16 or BF16.")
    dtype = _DTYPES[value["dtype"]]
    shape, offsets = value["shape"], value["data_offsets"]
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise refusal(path, f"has a shape or offsets of {shown} that are no lists of counts", _MEND)
    size = dtype.itemsize
    for side in shape:
        size *= side
    if size >= 1 << 63 or offsets[1] - offsets[0] != size:
        raise refusal(path, f"has {shown} of shape {shape[:8]} in {offsets[1] - offsets[0]} bytes, which disagree", _MEND)
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_offsets(path: Path, entries: dict[str, TensorEntry], data_bytes: int) -> None:
    """Every byte behind the header belongs to exactly one tensor."""
    expected = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != expected:
            kind = "overlaps the tensor before it" if entry.start < expected else "leaves a gap before it"
            raise refusal(path, f"has {name[:120]} at byte {entry.start}, which {kind}", _MEND)
        expected = entry.end
    if expected != data_bytes:
        kind = "is cut off" if expected > data_bytes else "has bytes behind its last tensor"
        raise refusal(path, f"{kind}: tensors take {expected} bytes, there are {data_bytes}", _MEND)
