"""Rank against what the data holds, and what a person should know before starting."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from budwood.plan.lengths import Lengths
from budwood.plan.memory import Method
from budwood.recipe import TrainSection

BITS_PER_TOKEN, BITS_PER_PARAMETER = 1.0, 2.0
"""LoRA Without Regret's rule: epochs add nothing."""
LARGEST_RANK = 256
FEW_ROWS = 32
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value")


@dataclass(frozen=True)
class RankCheck:
    """Whether the adapter can hold the data.

    Args:
        supervised_tokens: of one epoch.
        needed_parameters: for them, at 1 bit a token and 2 bits a parameter.
        needed_rank: for that, at least 1.
        rank: from the recipe.
        scale: alpha / rank, or alpha / sqrt(rank): what the update is multiplied with.
    """

    supervised_tokens: int
    needed_parameters: int
    needed_rank: int
    rank: int
    scale: float

    @property
    def enough(self) -> bool:
        return self.rank >= self.needed_rank

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "enough": self.enough}


def check_rank(section: TrainSection, per_rank: int, lengths: Lengths) -> RankCheck:
    """Compare the recipe's rank with what the data needs. `per_rank`: parameters that one rank adds, Σ (d_in + d_out)."""
    supervised = round(lengths.tokens * lengths.supervised)
    needed = math.ceil(supervised * BITS_PER_TOKEN / BITS_PER_PARAMETER)
    return RankCheck(supervised, needed, max(1, math.ceil(needed / per_rank)), section.rank, scale(section))


def scale(section: TrainSection) -> float:
    return section.alpha / (math.sqrt(section.rank) if section.rslora else section.rank)


def warnings(
    section: TrainSection, method: Method, lengths: Lengths | None, rank: RankCheck | None, targets: tuple[str, ...]
) -> tuple[str, ...]:
    """Say what is unusual about a training."""
    notes = []
    if section.epochs > 3:
        notes.append(f"{section.epochs:g} epochs: above 3 instruction data is mostly memorised; watch the validation loss.")
    if lengths is not None and lengths.rows:
        rows = section.tokens_per_step * lengths.rows / lengths.tokens
        if rows >= FEW_ROWS and method != "full":
            notes.append(
                f"About {rows:.0f} rows a step: from {FEW_ROWS} on LoRA falls behind full fine-tuning; lower tokens_per_step."
            )
        if lengths.longest > section.tokens_per_pass:
            notes.append(
                f"The longest row has {lengths.longest:,} tokens, more than tokens_per_pass {section.tokens_per_pass:,}: "
                "it makes a pass of its own, and memory is predicted for it."
            )
    if method != "full":
        if all(target.rsplit(".", 1)[-1] in ATTENTION for target in targets):
            notes.append("Only attention layers are targeted: at equal parameters the MLP's layers learn more.")
        if rank is not None and not rank.enough:
            notes.append(
                f"The training rows hold about {rank.supervised_tokens:,} supervised tokens, which ask for rank "
                f"{rank.needed_rank}; the recipe has {rank.rank}. Raise the rank if the loss stops falling early."
            )
    return tuple(notes)
