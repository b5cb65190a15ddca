"""A merged model as files, made from the base's files one weight at a time; no model is ever in memory.

Each file of the base is written again from its first byte to its last: header, order and offsets are its own, and so are all
tensors that the merge leaves alone. A weight that changes is read where its file is mapped and written as it will be. What is
held at once is that one weight, and with `onto` the form that it has in 4 or 8 bits.
"""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor, nn

from budwood.engine.base import BaseRef, skeleton
from budwood.engine.faults import check_shapes, reading
from budwood.engine.lora.adapter import Adapter, Pair, check_fit
from budwood.engine.lora.frozen import is_transposed
from budwood.engine.lora.merge import merged
from budwood.engine.lora.targets import linear_shapes
from budwood.engine.lora.token_rows import Tables, TokenRows, token_tables
from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.load import Form, quantized_layer, quantized_paths
from budwood.engine.tensor_names import model_name
from budwood.engine.weights import INDEX, PIECE_BYTES, SINGLE, TensorEntry, read_tensors, weight_files
from budwood.errors import AdapterError
from budwood.new_folder import new_folder

BESIDE = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files that are copied byte by byte where the base has them."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def merged_model_files(base_folder: Path, adapter: Adapter, out: Path, *, onto: Form | None = None) -> None:
    """Write a base with an adapter merged in as a folder that transformers loads: weights, configuration, tokenizer.

    Args:
        base_folder: a local base with safetensors files.
        adapter: fits this base.
        out: a folder that does not exist yet, or is empty.
        onto: merge onto what these weights become in 4 or 8 bits, expanded again; None: onto the weights as they are.

    Raises:
        AdapterError: `out` holds something, the base is quantised or lacks a weight, or the adapter does not fit it; or the
            disk refuses. Nothing is left under `out` then, nor after a kill.
        BaseError: the base has no weights or config that could be read, or a weight is not finite and has no 4-bit form.
    """
    with merged_folder(out, base_folder) as folder:
        write_merged(base_folder, adapter, folder, onto=onto)


@contextmanager
def merged_folder(out: Path, base_folder: Path) -> Iterator[Path]:
    """Give a folder to write merged models into, which becomes `out` at the end of the block or leaves nothing.

    Raises:
        AdapterError: `out` holds something, or the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError(f"{out} holds something already.", mend="Name a new folder for the merged model.")
    try:
        with new_folder(out) as folder:
            yield folder
    except OSError as error:
        full = error.errno in _FULL
        needed = f" Its weights take {_size_bytes(base_folder):,} bytes." if full else ""
        raise AdapterError(
            f"The merged model could not be written: {error}.{needed}",
            where=str(out),
            mend=f"Nothing was left there. {'Free some space' if full else 'Check that folder'}, then merge again.",
        ) from error


def write_merged(base_folder: Path, adapter: Adapter, folder: Path, *, onto: Form | None = None) -> None:
    """Do the work of `merged_model_files` in a folder that is there.

    Raises:
        OSError: the disk refuses.
        AdapterError, BaseError: see there.
    """
    ref = BaseRef(str(base_folder), base_folder, None)
    model = skeleton(ref)
    with reading(base_folder):
        sources = weight_files(base_folder)
        entries = read_tensors(sources)
    changes = _changes(model, entries, adapter, onto, base_folder)
    indexed = not (base_folder / SINGLE).exists() and (base_folder / INDEX).exists()
    for source in sources:
        own = [entry for entry in entries if entry.file == source]
        _write_file(source, folder / (source.name if indexed else SINGLE), own, changes)
    # Which tensor is in which file, and how large they are together: as before.
    for name in (*BESIDE, INDEX) if indexed else BESIDE:
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, folder / name)


def _size_bytes(base_folder: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(base_folder))


_Change = Callable[[Tensor, str], Iterable[Tensor]]
"""A tensor as it is, and its name → the tensor as it will be, in parts that lie one behind the other."""


@dataclass(frozen=True)
class _Layer:
    """A linear layer's weight: its way into few bits and back, then the pair's delta; either may be absent."""

    module: nn.Module
    form: Form | None
    pair: Pair | None
    workspace: Workspace

    def __call__(self, weight: Tensor, name: str) -> Iterable[Tensor]:
        if self.form is not None:
            layer = quantized_layer(self.module, weight, self.form, name=name, bias=None, workspace=self.workspace)
            weight = layer.dequantized()
        yield weight if self.pair is None else merged(weight, self.pair, transposed=is_transposed(self.module))


@dataclass(frozen=True)
class _Table:
    """A table of tokens, some of whose rows are the adapter's. What lies between them is written from where it is mapped."""

    rows: TokenRows

    def __call__(self, weight: Tensor, name: str) -> Iterable[Tensor]:
        at = 0
        for token, row in zip(self.rows.ids, self.rows.values.to(weight), strict=True):
            yield weight[at:token]
            yield row
            at = token + 1
        yield weight[at:]


def _changes(
    model: nn.Module, entries: Sequence[TensorEntry], adapter: Adapter, onto: Form | None, folder: Path
) -> dict[str, _Change]:
    """Name in the files → what becomes of that tensor."""
    if getattr(model.config, "quantization_config", None) is not None:
        raise AdapterError(f"The base in {folder} is quantised.", mend="Merge into the base that is not.")
    tables = token_tables(model)
    check_fit(adapter, linear_shapes(model), tables)
    check_shapes(model, entries, where=str(folder))
    wanted = _wanted(model, adapter, tables, onto)
    found: dict[str, _Change] = {}
    absent = set(wanted)
    for entry in entries:
        name = model_name(entry.name, wanted, str(model.base_model_prefix))
        if name is None:
            continue
        if entry.dtype not in _FLOATS:
            raise AdapterError(f"{entry.name} is stored as {entry.dtype}.", where=str(folder), mend="Use a base in floats.")
        found[entry.name] = wanted[name]
        absent.discard(name)
    one_tensor = set(_sharing(tables, tables.embedding)) if tables else set()
    if one_tensor - absent:  # files hold tied tables once, under either name
        absent -= one_tensor
    if absent:
        raise AdapterError(f"The base in {folder} lacks {', '.join(sorted(absent)[:5])}.", mend="Fetch the base again.")
    return found


def _wanted(model: nn.Module, adapter: Adapter, tables: Tables | None, onto: Form | None) -> dict[str, _Change]:
    """The model's name of a tensor → what becomes of it."""
    quantized = set(quantized_paths(model, ())) if onto else set()
    workspace = Workspace()
    wanted: dict[str, _Change] = {
        f"{path}.weight": _Layer(
            model.get_submodule(path), onto if path in quantized else None, adapter.pairs.get(path), workspace
        )
        for path in quantized | adapter.pairs.keys()
    }
    for path, rows in adapter.rows.items():
        wanted |= dict.fromkeys(_sharing(tables, path), _Table(rows)) if tables else {}
    return wanted


def _sharing(tables: Tables, path: str) -> list[str]:
    return [f"{one}.weight" for one in tables.sharing(path)]


def _write_file(source: Path, target: Path, entries: Sequence[TensorEntry], changes: Mapping[str, _Change]) -> None:
    with source.open("rb") as read, target.open("xb") as write, safe_open(source, framework="pt") as mapped:
        at = 0
        for entry in sorted(entries, key=lambda entry: entry.start):
            if entry.name in changes:
                _copy(read, write, entry.start - at)
                for part in changes[entry.name](mapped.get_tensor(entry.name), entry.name):
                    write.write(part.contiguous().flatten().view(torch.uint8).numpy().data)
                assert write.tell() == entry.end
                at = read.seek(entry.end)
        _copy(read, write, source.stat().st_size - at)


def _copy(read: BinaryIO, write: BinaryIO, count: int) -> None:
    while count:
        piece = read.read(min(count, PIECE_BYTES))
        if not piece:
            raise OSError(f"{read.name} became shorter while it was read")
        write.write(piece)
        count -= len(piece)
