"""Adapters on disk, in PEFT's format: adapter_config.json and adapter_model.safetensors.

Reading is strict where PEFT is not: each tensor in the file is consumed by exactly one slot of the base, each targeted
module has its full pair, and each shape follows from the settings and the base. Anything else is refused with the names,
before a tensor is read. Pickle files are never opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from budwood.engine.lora.adapter import Adapter, Pair
from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.peft_config import PeftSettings, read_settings, write_settings
from budwood.engine.lora.pissa import plain
from budwood.engine.lora.targets import Shapes, linear_shapes, nearest, target_paths
from budwood.engine.lora.tensor_file import TensorEntry, read_header
from budwood.engine.lora.token_rows import Tables, TokenRows, token_tables
from budwood.engine.lora.untrusted import open_plain, refusal
from budwood.errors import AdapterError

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
LARGEST_VALUE = 1e4
"""Trained adapters stay below ten or so; past this a file is damaged or made to break the numbers."""

_TAILS = {".lora_A.weight": 0, ".lora_B.weight": 1}
_MAGNITUDE = ".lora_magnitude_vector"
_ROWS = ".token_adapter.trainable_tokens_delta"
_NOT_LORA = (
    ("lora_magnitude_vector", "DoRA's magnitude without use_dora"),
    ("lora_embedding_", "an adapter of the embedding"),
    ("base_layer", "a copy of base weights"),
    ("trainable_tokens", "token rows without trainable_token_indices"),
    (".bias", "a bias"),
)
_SHOWN = 6


def save_adapter(adapter: Adapter, folder: Path, *, base_id: str, revision: str | None) -> None:
    """Write the two files into `folder`, which is made if need be. The same adapter gives the same bytes.

    Raises:
        AdapterError: a value is NaN or infinite. Nothing has been written then.
    """
    adapter = plain(adapter)
    tensors: dict[str, Tensor] = {}
    for path, pair in adapter.pairs.items():
        for tail, tensor in zip(_TAILS, (pair.a, pair.b), strict=True):
            tensors[f"{PREFIX}{path}{tail}"] = _stored(tensor)
        if pair.magnitude is not None:
            tensors[f"{PREFIX}{path}{_MAGNITUDE}"] = _stored(pair.magnitude)
    tensors |= {f"{PREFIX}{path}{_ROWS}": _stored(rows.values) for path, rows in adapter.rows.items()}
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise AdapterError(f"Not saved: NaN or infinity in {_list(bad)}.", where=str(folder), mend="Go back to a checkpoint.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSOR_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
    write_settings(
        folder / CONFIG_FILE,
        adapter.config,
        base_id=base_id,
        revision=revision,
        fan_in_fan_out=adapter.fan_in_fan_out,
        paths=list(adapter.pairs),
        token_rows={path: rows.ids for path, rows in adapter.rows.items()},
    )


def load_adapter(
    folder: Path,
    model: nn.Module | Shapes,
    *,
    allow_zero: bool = False,
    base_id: str | None = None,
    digest: str | None = None,
) -> Adapter:
    """Read an adapter for a base.

    Args:
        folder: holds the two files.
        model: the base, attached or not, or its `linear_shapes`, which cannot tell whether token rows fit.
        allow_zero: accept pairs whose B is all zero, which change nothing.
        base_id: refuse an adapter that names another base. None: the name is a label only.
        digest: sha256 that the tensor file must have, compared with the very bytes that are used.

    Raises:
        AdapterError: see the module. Nothing else has been read or run.
    """
    _refuse_pickle(folder)
    settings = read_settings(folder / CONFIG_FILE)
    _check_base(folder, settings, base_id)
    shapes = linear_shapes(model) if isinstance(model, nn.Module) else model
    tokens = _tokens(folder, settings, token_tables(model) if isinstance(model, nn.Module) else None)
    with open_plain(folder / TENSOR_FILE) as (descriptor, size):
        file = read_header(folder / TENSOR_FILE, descriptor, size)
        halves, lengths, rows = _apart(file.entries, settings)
        config, paths = _targets(folder, settings, shapes, halves)
        _check_names(folder, halves, paths, shapes)
        _check_shapes(folder, halves, paths, shapes, config)
        _check_exact(
            folder,
            "magnitudes of DoRA",
            lengths,
            {f"{PREFIX}{path}{_MAGNITUDE}": (shapes[path][0],) for path in (paths if settings.dora else ())},
        )
        _check_exact(folder, "token rows", rows, tokens.names)
        tensors = file.read(digest=digest)
    _check_values(folder, tensors, allow_zero)
    pairs = {
        path: Pair(*_pair(tensors, path), config.scaling_of(path), magnitude=tensors.get(f"{PREFIX}{path}{_MAGNITUDE}"))
        for path in paths
    }
    return Adapter(config, pairs, fan_in_fan_out=settings.fan_in_fan_out, rows=tokens.rows(tensors))


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous().clone()


Entries = dict[str, TensorEntry]


def _apart(entries: Mapping[str, TensorEntry], settings: PeftSettings) -> tuple[Entries, Entries, Entries]:
    """Names of halves of pairs; with DoRA, of magnitudes; and, where the settings name tokens, of token rows."""
    lengths = {name: entry for name, entry in entries.items() if settings.dora and name.endswith(_MAGNITUDE)}
    rows = {name: entry for name, entry in entries.items() if settings.token_rows and name.endswith(_ROWS)}
    return {name: entry for name, entry in entries.items() if name not in lengths and name not in rows}, lengths, rows


@dataclass(frozen=True)
class _Tokens:
    """Path → tokens in the order of the file's rows, and how wide a row is."""

    ids: Mapping[str, tuple[int, ...]]
    width: int

    @property
    def names(self) -> dict[str, tuple[int, ...]]:
        """Tensor → shape that it must have."""
        return {f"{PREFIX}{path}{_ROWS}": (len(ids), self.width) for path, ids in self.ids.items()}

    def rows(self, tensors: Mapping[str, Tensor]) -> dict[str, TokenRows]:
        return {path: TokenRows.of(ids, tensors[f"{PREFIX}{path}{_ROWS}"]) for path, ids in self.ids.items()}


def _tokens(folder: Path, settings: PeftSettings, tables: Tables | None) -> _Tokens:
    if not settings.token_rows:
        return _Tokens({}, 0)
    where = str(folder / CONFIG_FILE)
    if tables is None:
        raise AdapterError(
            "It has token rows, and what it was compared with has no embedding and output head.",
            where=where,
            mend="Load it for the base itself.",
        )
    return _Tokens(tables.resolve(settings.token_rows, where=where, field="trainable_token_indices"), tables.width)


def _check_exact(folder: Path, what: str, found: Mapping[str, TensorEntry], wanted: Mapping[str, tuple[int, ...]]) -> None:
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name[:160]} is for no targeted module" for name in found if name not in wanted]
    problems += [
        f"{name} is {found[name].shape}, needs {shape}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    if problems:
        raise AdapterError(
            f"The {what} do not fit: {_list(problems)}.",
            where=str(folder),
            mend="Load the base that it was trained on, or export the adapter again.",
        )


def _pair(tensors: Mapping[str, Tensor], path: str) -> tuple[Tensor, Tensor]:
    a, b = (tensors[f"{PREFIX}{path}{tail}"] for tail in _TAILS)
    return a, b


@dataclass(frozen=True)
class _Found:
    """Module paths that the file's names speak of, and the names that are none of ours."""

    halves: Mapping[str, set[int]]
    strangers: list[str]


def _refuse_pickle(folder: Path) -> None:
    for name in ("adapter_model.bin", "adapter_model.pt"):
        if (folder / name).is_symlink() or (folder / name).exists():
            lone = not (folder / TENSOR_FILE).exists()
            what = "holds the adapter as a pickle, which could run code" if lone else "lies beside the safetensors file"
            mend = (
                f"If you trust it, load it with peft and save it with safe_serialization=True; then use {TENSOR_FILE}."
                if lone
                else f"It was not opened. Delete it, so that {TENSOR_FILE} is the adapter for every reader."
            )
            raise refusal(folder / name, what, mend)


def _check_base(folder: Path, settings: PeftSettings, base_id: str | None) -> None:
    if base_id is not None and settings.base_id is not None and settings.base_id != base_id:
        raise AdapterError(
            f'The adapter was made for base "{settings.base_id[:120]}", this is "{base_id}".',
            where=str(folder / CONFIG_FILE),
            mend="Load that base. The name is a label: nothing was fetched.",
        )


def _targets(
    folder: Path, settings: PeftSettings, shapes: Shapes, entries: Mapping[str, TensorEntry]
) -> tuple[LoraConfig, tuple[str, ...]]:
    where = str(folder / CONFIG_FILE)
    if isinstance(settings.targets, str) and settings.targets != "all-linear":
        names = sorted({path.rsplit(".", 1)[-1] for path in _found(entries).halves})
        raise AdapterError(
            "target_modules is a regular expression, which is never run.",
            where=where,
            mend=f"Write the names instead; the tensors are for {_list(names)}." if names else "Write the names instead.",
        )
    if isinstance(settings.targets, str):
        paths = target_paths(shapes, "all-linear", where=where)
        return settings.config(paths, paths), paths
    paths = target_paths(shapes, settings.targets, where=where)
    return settings.config(paths, tuple(sorted(settings.targets))), paths


def _found(entries: Mapping[str, TensorEntry]) -> _Found:
    halves: dict[str, set[int]] = {}
    strangers = []
    for name in entries:
        tail = next((tail for tail in _TAILS if name.endswith(tail)), None)
        if tail is None or not name.startswith(PREFIX):
            strangers.append(name)
        else:
            halves.setdefault(name[len(PREFIX) : -len(tail)], set()).add(_TAILS[tail])
    return _Found(halves, strangers)


def _check_names(folder: Path, entries: Mapping[str, TensorEntry], paths: tuple[str, ...], shapes: Shapes) -> None:
    """Prove the bijection between names and slots, or say all that is wrong with it."""
    found = _found(entries)
    problems = [f"{name[:160]} {_why_stranger(name)}" for name in found.strangers]
    for path, halves in found.halves.items():
        if path not in paths:
            problems.append(f"{path[:160]} {_why_untargeted(path, shapes)}")
        elif len(halves) == 1:
            problems.append(f"{path} has lora_{'AB'[min(halves)]} without lora_{'BA'[min(halves)]}")
    problems += [f"{path} is targeted but has no tensors" for path in paths if path not in found.halves]
    if problems:
        matched = sum(path in paths and len(halves) == 2 for path, halves in found.halves.items())
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
        raise AdapterError(
            f"{matched} of {len(paths)} targeted modules have their pair: {shown}.",
            where=str(folder),
            mend="Load the base that it was trained on, or export the adapter again as plain LoRA.",
        )


def _why_stranger(name: str) -> str:
    for mark, meaning in _NOT_LORA:
        if mark in name:
            return f"is {meaning}, which is not supported"
    if not name.startswith(PREFIX) and any(name.endswith(tail) for tail in _TAILS):
        return f'lacks the prefix "{PREFIX}"'
    return "is no lora_A.weight or lora_B.weight"


def _why_untargeted(path: str, shapes: Shapes) -> str:
    if path in shapes:
        return "is not in target_modules"
    near = nearest(path, shapes)
    return "is no layer of this base" + (f" (nearest: {', '.join(near)})" if near else "")


def _check_shapes(
    folder: Path, entries: Mapping[str, TensorEntry], paths: tuple[str, ...], shapes: Shapes, config: LoraConfig
) -> None:
    problems = []
    for path in paths:
        d_out, d_in = shapes[path]
        rank = config.rank_of(path)
        for tail, needed in zip(_TAILS, ((rank, d_in), (d_out, rank)), strict=True):
            shape = entries[f"{PREFIX}{path}{tail}"].shape
            if shape != needed:
                problems.append(f"{path}{tail} is {shape}, needs {needed}")
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
        raise AdapterError(
            f"{len(problems)} of {len(entries)} tensors do not fit rank {config.rank} and this base: {shown}.",
            where=str(folder),
            mend="Load the base that it was trained on, and keep r as it was in training.",
        )


def _check_values(folder: Path, tensors: Mapping[str, Tensor], allow_zero: bool) -> None:
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise AdapterError(f"NaN or infinity in {_list(broken)}.", where=str(folder), mend="Fetch it or train it again.")
    huge = {name: float(tensor.abs().max()) for name, tensor in tensors.items() if float(tensor.abs().max()) > LARGEST_VALUE}
    if huge:
        shown = [f"{name} ({value:.3g})" for name, value in huge.items()]
        raise AdapterError(
            f"Values above {LARGEST_VALUE:.0f} in {_list(shown)}.", where=str(folder), mend="Fetch it or train it again."
        )
    zero = [name for name, tensor in tensors.items() if name.endswith(".lora_B.weight") and not bool(tensor.any())]
    if zero and not allow_zero:
        raise AdapterError(
            f"lora_B is all zero in {_list(zero)}: there the adapter changes nothing.",
            where=str(folder),
            mend="Train it, or allow zero pairs if that is meant.",
        )


def _list(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
