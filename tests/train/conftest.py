"""A tiny base with a word tokenizer, a snapshot of sums, and a store: all that a training needs, in a second."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from budwood.engine.base import BaseRef, resolve_base
from budwood.identity import Digest
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.store import Store, open_store
from budwood.train.settings import TrainSettings

WORDS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|unk|>", "plus", "is", *[str(number) for number in range(40)]]
TEMPLATE = (
    "{%- for message in messages -%}{{- '<|' + message['role'] + '|> ' + message['content'] -}}"
    "{%- if message['role'] == 'assistant' -%}{{- ' <|end|>' -}}{%- endif -%}{{- ' ' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|> ' -}}{%- endif -%}"
)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two layers, random weights, tied embeddings."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers
        tokenizer_object=words,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def base_ref(base_folder: Path) -> BaseRef:
    return resolve_base(str(base_folder))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / ".budwood") as opened:
        yield opened


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from_mapping({"name": "sums", "source": [{"path": "sums.jsonl"}]}, folder=Path("."))


@pytest.fixture
def settings(recipe: Recipe) -> TrainSettings:
    """Settings of a training of about twenty steps."""
    resolved = TrainSettings.of(recipe.train, method="lora", learning_rate=1e-2, seed=3)
    return replace(resolved, rank=4, alpha=8.0, tokens_per_step=128, tokens_per_pass=64, validations=3, checkpoint_every=4)


def record(number: int, messages: Sequence[tuple[str, str]], weight: float = 1.0) -> dict[str, Any]:
    return {
        "row_id": f"{number:016x}",
        "messages": [{"role": role, "content": content} for role, content in messages],
        "source": {"file": "sums.jsonl", "sha256": "0" * 64, "line": number + 1},
        "group": f"{number:x}",
        "split": "train",
        "slices": {},
        "weight": weight,
        "touched": [],
    }


def sums(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Rows such as "3 plus 4 plus 1" → "is 8", 6 to 14 tokens long."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        parts = [draw.randrange(8) for _ in range(draw.randrange(1, 6))]
        question = " plus ".join(map(str, parts))
        rows.append(record(number, [("user", question), ("assistant", f"is {sum(parts)}")]))
    return rows


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    return sums


Snapshots = Callable[..., Digest]


@pytest.fixture
def make_snapshot(store: Store) -> Snapshots:
    """Store a snapshot of given rows; by default 100 and 20 sums."""

    def make(train: list[dict[str, Any]] | None = None, validation: list[dict[str, Any]] | None = None) -> Digest:
        splits = {
            "train": sums(100, seed=1) if train is None else train,
            "validation": sums(20, seed=2) if validation is None else validation,
        }
        with store.draft("snapshot") as draft:
            for name, rows in splits.items():
                (draft.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return draft.commit(body={"name": "sums"})

    return make


@pytest.fixture
def snapshot(make_snapshot: Snapshots) -> Digest:
    return make_snapshot()
