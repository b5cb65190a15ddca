"""What a training depends on: the recipe's [train] with everything resolved that the recipe leaves to the planner."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from budwood.recipe import TrainSection
from budwood.recipe.train import Compile

if TYPE_CHECKING:
    from budwood.engine.base import Quantization
    from budwood.engine.lora.token_rows import Names

Method = Literal["lora", "qlora", "full"]
Checkpointing = Literal["none", "layer"]

ADAPTER_KEYS = (
    *("rank", "alpha", "rslora", "dropout", "target_modules", "layers", "rank_pattern", "alpha_pattern"),
    *("dora", "init", "b_rate_ratio", "token_rows"),
)
LATER: Mapping[str, Any] = {
    "b_rate_ratio": 1,
    "bits": 4,
    "dora": False,
    "init": "default",
    "layers": "",
    "rank_pattern": {},
    "alpha_pattern": {},
    "token_rows": (),
}
"""Settings that came later, with the value of the trainings before them, whose names must not change."""

LISTS = ("target_modules", "token_rows")
"""Settings that may hold tuples, which JSON does not know."""


@dataclass(frozen=True)
class TrainSettings:
    """One training. Keys mean what they mean in the recipe; `method` and `learning_rate` are decided."""

    method: Method
    learning_rate: float
    seed: int
    bits: Literal[4, 8]
    rank: int
    alpha: float
    rslora: bool
    dropout: float
    target_modules: tuple[str, ...] | str
    dora: bool
    init: Literal["default", "pissa"]
    layers: str
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    token_rows: "Names"
    epochs: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    weight_decay: float
    b_rate_ratio: float
    beta2: float
    clip: float
    tokens_per_step: int
    tokens_per_pass: int
    validations: int
    checkpoint_every: int
    checkpointing: Checkpointing
    compile: Compile
    keep: Literal["best", "last"]
    precision: Literal["float32", "bfloat16"]

    @classmethod
    def of(
        cls, section: TrainSection, *, method: Method, learning_rate: float, seed: int, checkpointing: Checkpointing = "none"
    ) -> Self:
        """Resolve a recipe's section with what the planner decided."""
        values = section.model_dump(exclude={"method", "learning_rate", "continue_from", "checkpointing"})
        return cls(method=method, learning_rate=learning_rate, seed=seed, checkpointing=checkpointing, **values)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Make them from `asdict` after a way through JSON."""
        return cls(**{**values, **{key: _from_json(values[key]) for key in LISTS}})

    @property
    def quantization(self) -> "Quantization":
        """Of the base."""
        if self.method != "qlora":
            return "none"
        return "nf4" if self.bits == 4 else "int8"

    def as_body(self) -> dict[str, Any]:
        """Give what the result depends on, as JSON values: not how often we save, what is kept, or what the method ignores.

        Nor whether layers are compiled: like a C compiler that is there or not, it is a way of computing, which a run notes.
        """
        body = asdict(self)
        del body["checkpoint_every"], body["checkpointing"], body["compile"]
        for key in ADAPTER_KEYS if self.method == "full" else ():
            del body[key]
        if self.method != "qlora":
            del body["bits"]
        for key, value in LATER.items():
            if body.get(key) == value:
                del body[key]
        return body | {key: _to_json(body[key]) for key in LISTS if key in body}


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _to_json(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _from_json(part) for name, part in value.items()}
    return tuple(value) if isinstance(value, list) else value
