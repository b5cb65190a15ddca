"""AdamW with decoupled decay on matrices but for token rows, clipping by the global norm, and its whole state as named tensors.

With a `b_rate_ratio` other than 1 the B matrices of an adapter learn that much faster than the A matrices: LoRA+
(arXiv 2402.12354).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from budwood.train.settings import TrainSettings

BETA1 = 0.9
EPSILON = 1e-8
B_SUFFIX = ".lora_B"
"""How the bank names the B matrix of a pair."""
ROWS_SUFFIX = ".token_rows"
"""How the bank names rows of tokens. Nothing decays there: zero is where an update vanishes, and no place for a token."""


class Optimiser:
    """AdamW over named float32 parameters.

    `measure` first, then `update`: whoever looks at the norm in between can stop before anything was changed.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: TrainSettings) -> None:
        self._parameters = dict(parameters)
        self._clip = settings.clip
        kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self._parameters.items():
            decay = settings.weight_decay if parameter.ndim > 1 and not name.endswith(ROWS_SUFFIX) else 0.0
            ratio = settings.b_rate_ratio if name.endswith(B_SUFFIX) else 1.0
            kinds.setdefault((decay, ratio), []).append(parameter)
        groups = [{"params": group, "weight_decay": decay, "ratio": ratio} for (decay, ratio), group in kinds.items()]
        self._adam = torch.optim.AdamW(groups, lr=0.0, betas=(BETA1, settings.beta2), eps=EPSILON, fused=True)

    def measure(self) -> float:
        """Norm of all gradients together; not finite when one of them is not."""
        return float(torch.nn.utils.get_total_norm(self._gradients(), foreach=True))

    def update(self, learning_rate: float, norm: float) -> None:
        """Clip to the recipe's norm, change the parameters, drop the gradients."""
        if norm > self._clip:
            torch._foreach_mul_(self._gradients(), self._clip / norm)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["ratio"]
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Both moments of every parameter; empty before the first update."""
        state: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            if parameter in self._adam.state:
                state[f"first.{name}"] = self._adam.state[parameter]["exp_avg"]
                state[f"second.{name}"] = self._adam.state[parameter]["exp_avg_sq"]
        return state

    def restore(self, state: Mapping[str, Tensor], *, updates: int) -> None:
        """Go on from `state` after so many updates."""
        for name, parameter in self._parameters.items():
            self._adam.state[parameter] = {
                "step": torch.tensor(float(updates), dtype=torch.float32, device=parameter.device),
                "exp_avg": state[f"first.{name}"].to(parameter.device, copy=True),
                "exp_avg_sq": state[f"second.{name}"].to(parameter.device, copy=True),
            }

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
