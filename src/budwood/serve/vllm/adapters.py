"""Adapters as vLLM reads them: one rank, one scale, plain LoRA, in a folder of its own that is never written again.

Ranks and scales that differ between layers are folded: older vLLM servers read the patterns of such an adapter as if they
were not there, and answer with wrong weights. The golden probes are replayed on what was written.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.errors import AdapterError

if TYPE_CHECKING:
    from budwood.engine.lora import Adapter
    from budwood.serve.bound import ReleaseBody

MEND = 'Serve it with [serve] backend = "embedded", or merge it into a model of its own (`budwood merge`) and release that.'


def check_servable(body: "ReleaseBody", *, where: str) -> None:
    """Refuse a release whose base vLLM cannot hold as it was judged.

    Raises:
        AdapterError: which part, by name.
    """
    if body.quantization != "none":
        raise AdapterError(
            f"This release was judged on a base quantised as {body.quantization!r}, which vLLM cannot compute: an adapter that "
            "is right on one form of a base can be wrong on another.",
            where=where,
            mend='Serve it with [serve] backend = "embedded", or release it again on the base in 16 bits.',
        )


def check_adapter(adapter: "Adapter", *, max_rank: int, where: str) -> None:
    """Refuse an adapter that vLLM would refuse, or take and compute wrongly.

    Args:
        adapter: as it is stored.
        max_rank: the server's --max-lora-rank.
        where: which release, for messages.

    Raises:
        AdapterError: every reason, by name.
    """
    rank = largest_rank(adapter)
    faults = [
        (adapter.config.dora, "it is a DoRA adapter (use_dora), which vLLM does not know"),
        (bool(adapter.rows), f"it has trained token rows ({', '.join(sorted(adapter.rows))}), which vLLM does not know"),
        (rank > max_rank, f"its rank is {rank}, and this vLLM takes up to {max_rank} ([serve] vllm_max_lora_rank)"),
    ]
    wrong = [reason for is_wrong, reason in faults if is_wrong]
    if wrong:
        raise AdapterError(f"vLLM cannot serve this adapter: {'; '.join(wrong)}.", where=where, mend=MEND)


def largest_rank(adapter: "Adapter") -> int:
    return max((pair.a.shape[0] for pair in adapter.pairs.values()), default=adapter.config.rank)


def write_adapter(adapter: "Adapter", folder: Path, *, base_id: str) -> None:
    """Write PEFT's two files into a folder that must not exist yet."""
    from budwood.engine.lora import save_adapter

    folder.mkdir(parents=True)
    save_adapter(uniform(adapter), folder, base_id=base_id, revision=None)


def uniform(adapter: "Adapter") -> "Adapter":
    """The same update with one rank and one scale: smaller ranks get rows and columns of zeros, other scales go into B.

    An adapter that is uniform already is given back as it is.
    """
    import torch

    from budwood.engine.lora import Adapter, Pair

    config, rank = adapter.config, largest_rank(adapter)
    plain = not config.rslora and not config.rank_pattern and not config.alpha_pattern
    if plain and all(pair.a.shape[0] == rank and math.isclose(pair.scaling, config.scaling) for pair in adapter.pairs.values()):
        return adapter
    pairs = {
        path: Pair(
            torch.nn.functional.pad(pair.a.float(), (0, 0, 0, rank - pair.a.shape[0])),
            torch.nn.functional.pad(pair.b.float() * pair.scaling, (0, rank - pair.b.shape[1])),
            1.0,
        )
        for path, pair in adapter.pairs.items()
    }
    level = replace(config, rank=rank, alpha=float(rank), rslora=False, rank_pattern={}, alpha_pattern={})
    return Adapter(level, pairs, adapter.fan_in_fan_out)
