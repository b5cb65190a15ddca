"""Which tokens use which adapter, worked out once for a forward pass and read by every layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from budwood.errors import AdapterError

# When runs are laid side by side. One core, d 256, 16 adapters of rank 8 and 16, one token each: 120 µs a layer, in a loop 230;
# below three runs, or above some dozens of tokens a run, the loop is as fast. Padding may at most double the rows.
_RUNS = 3
_LONGEST = 32
_PADDING = 2


@dataclass(frozen=True)
class Segments:
    """Runs of tokens that share an adapter.

    Args:
        starts: (S + 1,), rising from 0 to T; the last one is the number of tokens.
        adapter: (S,), slot in the bank; -1 = base only.
    """

    starts: Sequence[int]
    adapter: Sequence[int]

    def check(self) -> None:
        """Raise AdapterError unless the runs cover 0..T in order."""
        starts = list(self.starts)
        if len(starts) != len(self.adapter) + 1 or starts[0] != 0 or any(a > b for a, b in pairwise(starts)):
            raise AdapterError(
                f"Segments do not cover the tokens: starts {starts[:8]}, {len(self.adapter)} adapters.",
                where="a batch of mixed adapters",
                mend="starts has one entry more than adapter and rises from 0 to the number of tokens.",
            )


@dataclass(frozen=True)
class Run:
    """Tokens start..end (None: to the last) that use one slot."""

    start: int
    end: int | None
    slot: int


@dataclass(frozen=True)
class Padded:
    """Runs side by side as rows of one batched product, each filled up to the longest with tokens that are thrown away.

    Args:
        slots: (K,), one for each run.
        length: tokens of the longest run.
        gather: (K · length,) token to read; None if the runs are equally long and cover all tokens in order.
        kept: places in (K · length,) that are no filling.
        rows: token that each kept place belongs to.
    """

    slots: tuple[int, ...]
    length: int
    gather: Tensor | None
    kept: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Plan:
    """A forward pass as the layers see it.

    Args:
        tokens: how many there must be; None: however many come, all in one run.
        runs: those that use an adapter, in order.
        padded: another form of the same runs, where it is faster.
        dropout: slot → (share dropped, seed of this pass), in training.
    """

    tokens: int | None
    runs: tuple[Run, ...]
    padded: Padded | None = None
    dropout: Mapping[int, tuple[float, int]] = field(default_factory=dict)


def plan_all(slot: int) -> Plan:
    """Plan one adapter for all tokens."""
    return Plan(None, (Run(0, None, slot),))


def plan_segments(segments: Segments, device: torch.device) -> Plan:
    """Join neighbours that share an adapter and lay the runs side by side where that is faster.

    Raises:
        AdapterError: see `Segments.check`.
    """
    segments.check()
    runs: list[Run] = []
    for start, end, slot in zip(segments.starts, segments.starts[1:], segments.adapter, strict=False):
        if start == end or slot < 0:
            continue
        if runs and runs[-1].end == start and runs[-1].slot == slot:
            runs[-1] = Run(runs[-1].start, end, slot)
        else:
            runs.append(Run(start, end, slot))
    tokens = segments.starts[-1]
    return Plan(tokens, tuple(runs), _padded(runs, tokens, device))


def _padded(runs: list[Run], tokens: int, device: torch.device) -> Padded | None:
    spans = [(run.start, run.end or 0) for run in runs]
    covered = sum(end - start for start, end in spans)
    length = max((end - start for start, end in spans), default=0)
    if len(runs) < _RUNS or length > _LONGEST or length * len(runs) > _PADDING * covered:
        return None
    places = [
        (run * length + offset, start + offset) for run, (start, end) in enumerate(spans) for offset in range(end - start)
    ]
    kept = torch.tensor([place for place, _ in places], device=device)
    rows = torch.tensor([token for _, token in places], device=device)
    gather = None
    if covered != tokens or length * len(runs) != covered:
        gather = torch.zeros(length * len(runs), dtype=torch.long, device=device)
        gather[kept] = rows
    return Padded(tuple(run.slot for run in runs), length, gather, kept, rows)
