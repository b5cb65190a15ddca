"""What a LoRA adapter is set to: rank, alpha, the scale that follows from them, dropout, targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from budwood.errors import AdapterError

MAX_RANK = 1 << 16
MAX_ALPHA = 1e6


@dataclass(frozen=True)
class LoraConfig:
    """Settings of one adapter, as its file states them.

    Args:
        rank: inner width of the update.
        alpha: numerator of the scale.
        rslora: scale by alpha / sqrt(rank) instead of alpha / rank.
        dropout: share of the adapter's input that is dropped in training.
        targets: names of linear layers: the end of a module path ("q_proj") or all of it.
        rank_pattern: full module path → rank, where it is not `rank`. Empty in adapters that we make.
        alpha_pattern: full module path → alpha, where it is not `alpha`.
        dora: pairs have a magnitude.

    Raises:
        AdapterError: a value is outside its range.
    """

    rank: int
    alpha: float
    rslora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    dora: bool = False

    def __post_init__(self) -> None:
        for rank in (self.rank, *self.rank_pattern.values()):
            _check_rank(rank)
        for alpha in (self.alpha, *self.alpha_pattern.values()):
            _check_alpha(alpha)
        if not 0 <= self.dropout < 1:
            raise AdapterError(
                f"dropout is {self.dropout}, outside 0 to 1.", where="the adapter's settings", mend="Use 0 to 0.1."
            )

    @property
    def scaling(self) -> float:
        return self._scale(self.alpha, self.rank)

    def rank_of(self, path: str) -> int:
        return self.rank_pattern.get(path, self.rank)

    def scaling_of(self, path: str) -> float:
        """Scale of one module; PEFT looks rank and alpha up independently, so a rank of its own changes the scale."""
        return self._scale(self.alpha_pattern.get(path, self.alpha), self.rank_of(path))

    def _scale(self, alpha: float, rank: int) -> float:
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def _check_rank(rank: int) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise AdapterError(
            f"rank is {rank!r}, not a whole number from 1 to {MAX_RANK}.",
            where="the adapter's settings",
            mend="Use a small power of two, such as 16.",
        )


def _check_alpha(alpha: float) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not (math.isfinite(alpha) and 0 < alpha <= MAX_ALPHA):
        raise AdapterError(
            f"alpha is {alpha!r}, not a number above 0 and up to {MAX_ALPHA:.0f}.",
            where="the adapter's settings",
            mend="Use one to two times the rank.",
        )
