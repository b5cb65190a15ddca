"""The bases that are trained on, with random weights, and rows as long as real instructions are."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Sizes of a base, as its config states them."""

    name: str
    model_type: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    key_heads: int
    vocab: int
    tied: bool = True

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(d_out, d_in) of a layer's seven products."""
        keys = self.key_heads * self.head_width
        attention = [(self.hidden, self.hidden), (keys, self.hidden), (keys, self.hidden), (self.hidden, self.hidden)]
        return [*attention, (self.ffn, self.hidden), (self.ffn, self.hidden), (self.hidden, self.ffn)]

    def operations(self, tokens: float, supervised: float) -> float:
        """Multiplications and additions that no trainer can do without: base forward and back to its inputs, head both ways."""
        layer = sum(d_out * d_in for d_out, d_in in self.linears)
        return 4.0 * (self.layers * layer * tokens + self.vocab * self.hidden * supervised)


SHAPES = {
    "tiny": Shape("tiny", "llama", 2, 64, 128, 2, 1, 512),
    "135m": Shape("135m", "llama", 30, 576, 1536, 9, 3, 49_152),
    "0.5b": Shape("0.5b", "qwen2", 24, 896, 4864, 14, 2, 151_936),
    "1.5b": Shape("1.5b", "qwen2", 28, 1536, 8960, 12, 2, 151_936),
    "7b": Shape("7b", "qwen2", 28, 3584, 18_944, 28, 4, 152_064, tied=False),
}
LONGEST = 1024
"""TRL's own limit as it ships: nothing is cut on either side."""


def make_base(shape: Shape, folder: Path, device: str = "cpu") -> None:
    """Write a base folder in bfloat16: config, safetensors, and a tokenizer that knows one word a token.

    `device` is where the weights are drawn: a large base takes minutes on a CPU.
    """
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    config = AutoConfig.for_model(
        shape.model_type,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        vocab_size=shape.vocab,
        max_position_embeddings=8192,
        tie_word_embeddings=shape.tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM  # from_config has no annotations
    with torch.device(device):
        make.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    if device == "cuda":
        torch.cuda.empty_cache()  # the runs are processes of their own, and want that memory
    vocab = {f"t{index}": index for index in range(shape.vocab)}
    tokenizer: Any = PreTrainedTokenizerFast  # has no annotations
    tokenizer(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="t3")), bos_token="t0", eos_token="t1", pad_token="t2"
    ).save_pretrained(folder)


@dataclass(frozen=True)
class Row:
    """Tokens, the last `supervised` of which are the answer."""

    ids: list[int]
    supervised: int


def make_rows(count: int, vocab: int, *, seed: int) -> list[Row]:
    """Draw rows with a long tail: lognormal around 150 tokens, a third of them supervised."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        length = min(LONGEST, 16 + int(draw.lognormvariate(4.9, 0.8)))
        rows.append(Row([draw.randrange(4, vocab) for _ in range(length)], max(4, int(length * draw.uniform(0.15, 0.5)))))
    return rows


def histogram(rows: list[Row]) -> dict[str, float]:
    """State the lengths: quantiles, mean, and the share that is supervised."""
    lengths = sorted(len(row.ids) for row in rows)
    marks = {f"p{mark}": lengths[min(len(lengths) - 1, len(lengths) * mark // 100)] for mark in (5, 25, 50, 75, 95)}
    total = sum(lengths)
    return {
        **marks,
        "longest": lengths[-1],
        "mean": round(total / len(lengths), 1),
        "supervised": round(sum(row.supervised for row in rows) / total, 3),
    }
