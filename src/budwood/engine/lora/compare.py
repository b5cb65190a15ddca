"""Two adapters compared module by module, from their files alone: how large each delta is, and how far they are apart.

No delta is multiplied out: of P Q with P (d_out, r) and Q (r, d_in) the Frobenius norm is that of the product of the two small
triangles of their QR decompositions, r by r, in float64.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from budwood.engine.lora.checkpoint import CONFIG_FILE, PREFIX, TENSOR_FILE
from budwood.engine.lora.peft_config import read_settings
from budwood.engine.lora.tensor_file import read_header
from budwood.engine.lora.untrusted import open_plain

_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class ModuleDistance:
    """One module of two adapters. Norms are Frobenius norms of scaling · B A; 0 where a side has no pair there.

    Args:
        path: of the module, or of a tensor that is no pair (a DoRA magnitude, token rows), which is compared as it is.
        before: norm on the first side.
        after: on the second.
        difference: norm of the difference.
    """

    path: str
    before: float
    after: float
    difference: float


def adapter_distances(before: Path, after: Path) -> list[ModuleDistance]:
    """Compare two adapter folders, largest difference first.

    Raises:
        AdapterError: a file is no adapter, or is damaged.
    """
    (pairs, others), (more_pairs, more_others) = _read(before), _read(after)
    found = [ModuleDistance(path, *_norms(pairs.get(path), more_pairs.get(path))) for path in {**pairs, **more_pairs}]
    found += [_plain(name, others.get(name), more_others.get(name)) for name in {**others, **more_others}]
    return sorted(found, key=lambda one: (-one.difference, one.path))


_Pair = tuple[Tensor, Tensor]
"""A (r, d_in), and B (d_out, r) times the scale, in float64."""


def _read(folder: Path) -> tuple[dict[str, _Pair], dict[str, Tensor]]:
    settings = read_settings(folder / CONFIG_FILE)
    with open_plain(folder / TENSOR_FILE) as (descriptor, size):
        tensors = read_header(folder / TENSOR_FILE, descriptor, size).read()
    paths = [name[len(PREFIX) : -len(_A)] for name in tensors if name.startswith(PREFIX) and name.endswith(_A)]
    config = settings.config(paths, tuple(paths))
    pairs: dict[str, _Pair] = {}
    for path in paths:
        a, b = tensors.pop(f"{PREFIX}{path}{_A}"), tensors.pop(f"{PREFIX}{path}{_B}", None)
        if b is not None:
            pairs[path] = a.double(), b.double() * config.scaling_of(path)
    return pairs, {name.removeprefix(PREFIX): tensor.double() for name, tensor in tensors.items()}


def _norms(one: _Pair | None, other: _Pair | None) -> tuple[float, float, float]:
    before, after = (0.0 if pair is None else _norm(*pair) for pair in (one, other))
    if one is None or other is None:
        return before, after, before + after
    if one[0].shape[1] != other[0].shape[1] or one[1].shape[0] != other[1].shape[0]:
        return before, after, float("inf")
    difference = _norm(torch.cat([one[0], other[0]]), torch.cat([one[1], -other[1]], dim=1))
    return before, after, difference


def _norm(a: Tensor, b: Tensor) -> float:
    left, right = torch.linalg.qr(b, mode="r").R, torch.linalg.qr(a.T.contiguous(), mode="r").R
    return float(torch.linalg.matrix_norm(left @ right.T))


def _plain(name: str, one: Tensor | None, other: Tensor | None) -> ModuleDistance:
    before, after = (0.0 if tensor is None else float(tensor.norm()) for tensor in (one, other))
    if one is None or other is None:
        return ModuleDistance(name, before, after, before + after)
    apart = float((one - other).norm()) if one.shape == other.shape else float("inf")
    return ModuleDistance(name, before, after, apart)
