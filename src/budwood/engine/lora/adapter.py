"""An adapter in memory: its settings and its A/B pairs as plain float32 tensors."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.targets import Shapes, has_conv1d, linear_shapes, nearest, short_targets, target_paths
from budwood.engine.lora.token_rows import Tables, TokenRows, misfits
from budwood.errors import AdapterError


@dataclass(frozen=True)
class Pair:
    """What one linear layer gets: y = W x + scaling · B A x, with a (r, d_in) and b (d_out, r).

    With an `anchor`, a frozen A0 and B0 of the same sizes, it is scaling · (B A - B0 A0) x; only in training (see `pissa`).
    With a `magnitude` (d_out,), the lengths of the rows of W + scaling · B A are set to it (see `dora`).
    """

    a: Tensor
    b: Tensor
    scaling: float
    anchor: tuple[Tensor, Tensor] | None = None
    magnitude: Tensor | None = None

    def delta(self) -> Tensor:
        """Multiply out: (d_out, d_in) in float32, lengths left aside. For merging and tests; no forward pass ever builds it."""
        product = self.b.float() @ self.a.float()
        if self.anchor is not None:
            product = product - self.anchor[1].float() @ self.anchor[0].float()
        return product * self.scaling


@dataclass(frozen=True)
class Adapter:
    """Settings and pairs, by module path in the transformers model.

    Args:
        config: what the pairs were made by.
        pairs: module path → pair.
        fan_in_fan_out: some layer stores its weight as (d_in, d_out), as GPT-2's Conv1D; a label for the file, A and B keep
            their shapes.
        rows: module path of embedding or head → rows of tokens that stand in the place of the base's.
    """

    config: LoraConfig
    pairs: Mapping[str, Pair]
    fan_in_fan_out: bool = False
    rows: Mapping[str, TokenRows] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        pairs = sum(
            pair.a.numel() + pair.b.numel() + (0 if pair.magnitude is None else pair.magnitude.numel())
            for pair in self.pairs.values()
        )
        return pairs + sum(rows.values.numel() for rows in self.rows.values())


def new_adapter(model: nn.Module, config: LoraConfig, *, seed: int) -> Adapter:
    """Make a fresh adapter: A ~ U(±1/sqrt(d_in)), as PEFT's default, and B = 0, so that it changes nothing yet.

    Each module draws from its own generator, seeded by `seed` and its path: neither the order of targets nor what else is
    targeted changes a layer's numbers.

    Raises:
        AdapterError: see `target_paths`.
    """
    shapes = linear_shapes(model)
    paths = target_paths(shapes, config.targets, rank=config.rank)
    pairs = {path: _new_pair(path, shapes[path], config, seed) for path in paths}
    named = replace(config, targets=short_targets(shapes, paths))
    return Adapter(named, pairs, fan_in_fan_out=has_conv1d(model, paths))


def check_fit(adapter: Adapter, shapes: Shapes, tables: Tables | None, *, name: str = "The adapter") -> None:
    """Raise AdapterError unless every pair is for a layer of these shapes, and all rows for these tables; misfits are named."""
    problems = [] if adapter.pairs else ["it has no pairs"]
    problems += misfits(adapter.rows, tables)
    for path, pair in adapter.pairs.items():
        if path not in shapes:
            near = nearest(path, shapes)
            problems.append(f"{path} is no layer of this base" + (f" (nearest: {', '.join(near)})" if near else ""))
            continue
        d_out, d_in = shapes[path]
        if (pair.a.shape[1], pair.b.shape[0]) != (d_in, d_out) or pair.a.shape[0] != pair.b.shape[1]:
            has = f"{tuple(pair.a.shape)} and {tuple(pair.b.shape)}"
            problems.append(f"{path} needs A (r, {d_in}) and B ({d_out}, r), the adapter has {has}")
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise AdapterError(f"{name} does not fit this base: {shown}.", mend="Load the base that it was trained on.")


def _new_pair(path: str, shape: tuple[int, int], config: LoraConfig, seed: int) -> Pair:
    d_out, d_in = shape
    rank = config.rank_of(path)
    digest = hashlib.sha256(f"{seed}:{path}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    bound = 1 / math.sqrt(d_in)
    a = torch.empty(rank, d_in).uniform_(-bound, bound, generator=generator)
    return Pair(a, torch.zeros(d_out, rank), config.scaling_of(path))
