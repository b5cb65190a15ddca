"""[train]: method, adapter, schedule."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from budwood.recipe.section import Names, Section

Method = Literal["auto", "lora", "qlora", "full"]
Compile = Literal["auto", "on", "off"]


def _check_targets(value: Any) -> Any:
    """Say once what is expected; of an alternative of two types, pydantic would tell each one's complaint."""
    if value == "all-linear":
        return value
    if isinstance(value, str) and value.startswith("regex:"):
        return value
    if isinstance(value, str):
        raise ValueError(f'write names as a list: target_modules = ["{value}"]; or "all-linear"; or "regex:…"')
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError('write a list of names, e.g. ["q_proj", "v_proj"], or "all-linear"')
    if not value:
        raise ValueError('the list is empty: name at least one layer, or write "all-linear"')
    return value


def _check_tokens(value: Any) -> Any:
    """Say once what is expected, as above; true is no id."""
    parts = list(value.values()) if isinstance(value, dict) else [value]
    if not all(isinstance(part, list | tuple) and all(type(token) in (str, int) for token in part) for part in parts):
        raise ValueError('write a list of texts and ids, e.g. ["<|call|>", 151665], or a table of such lists')
    if isinstance(value, dict) and not all(parts):
        raise ValueError("a list is empty: name at least one token, or leave the table out")
    return {name: tuple(part) for name, part in value.items()} if isinstance(value, dict) else tuple(value)


Tokens = tuple[str | int, ...]


class TrainSection(Section):
    method: Method = Field(default="auto", description="auto: the planner chooses and says why")
    bits: Literal[4, 8] = Field(default=4, description="of a weight with qlora: 4 is NF4, 8 is int8 with a scale a row")
    rank: int = Field(default=16, ge=1, description="inner width of the update")
    alpha: float = Field(default=32.0, gt=0, description="numerator of the scale alpha / rank")
    rslora: bool = Field(default=False, description="scale alpha / sqrt(rank) instead")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on the adapter's input")
    target_modules: Annotated[Names | str, BeforeValidator(_check_targets)] = Field(
        default="all-linear", description='linear layers that get a pair: names, all-linear, or "regex:…" for whole paths'
    )
    dora: bool = Field(default=False, description="train the length of each weight's rows beside the update (DoRA)")
    init: Literal["default", "pissa"] = Field(
        default="default", description="pissa: start from the weights' largest directions; the adapter has twice the rank"
    )
    layers: str = Field(default="", description='decoder layers that get pairs, e.g. "8-" or "0-3,20"; empty: all')
    rank_pattern: dict[str, int] = Field(default={}, description="layer name or regex:… → rank of its own")
    alpha_pattern: dict[str, float] = Field(default={}, description="layer name or regex:… → alpha of its own")
    token_rows: Annotated[Tokens | dict[str, Tokens], BeforeValidator(_check_tokens)] = Field(
        default=(),
        description="tokens, by text or id, whose rows of the embedding (and a head tied to it) are trained; an untied head: "
        '{ embed_tokens = ["<|call|>"], lm_head = ["<|call|>"] }',
    )
    epochs: float = Field(default=2.0, gt=0, le=1000, description="passes over the training rows")
    learning_rate: float = Field(default=0.0, ge=0, description="peak; 0: by method (LoRA 4e-3 on small bases, see plan)")
    schedule: Literal["constant", "linear", "cosine"] = Field(default="cosine", description="after the warm-up")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of steps with a rising learning rate")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled, on matrices only")
    b_rate_ratio: float = Field(
        default=1.0, gt=0, le=1000, description="LoRA+: learning rate of the B matrices over that of the A matrices"
    )
    beta2: float = Field(default=0.99, gt=0, lt=1, description="AdamW's second moment")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm of a step")
    tokens_per_step: int = Field(default=4096, ge=16, description="token budget of an optimiser step")
    tokens_per_pass: int = Field(default=4096, ge=16, description="token budget of one forward and backward pass")
    validations: int = Field(default=6, ge=1, description="how often the validation loss is measured, the end included")
    checkpointing: Literal["auto", "none", "layer"] = Field(
        default="auto", description="layer: activations are made again on the way back; auto: only if memory asks for it"
    )
    compile: Compile = Field(default="auto", description="layers by torch.compile; auto: on a GPU, where it pays")
    checkpoint_every: int = Field(default=50, ge=1, description="steps between checkpoints")
    keep: Literal["best", "last"] = Field(default="best", description="adapter kept: lowest validation loss, or last step")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="compute dtype of the base")
    continue_from: str = Field(default="", description="release to start from, e.g. support@production; empty: fresh")

    @model_validator(mode="after")
    def _variants_go_together(self) -> Self:
        if self.dora and self.init == "pissa":
            raise ValueError('dora and init = "pissa" cannot be had together: leave one of them out')
        if self.dora and self.dropout > 0:
            raise ValueError("dora has no dropout here: set dropout = 0")
        if self.token_rows and self.method == "full":
            raise ValueError('token_rows are for an adapter: method = "full" trains every row, so leave them out')
        return self
