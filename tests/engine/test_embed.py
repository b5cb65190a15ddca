"""Embedding models, held to transformers' own forward pass, one text at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.tiny import Case, byte_tokenizer, save_tiny

from budwood.engine.embed import Pooling, open_embedder
from budwood.errors import BaseError

TEXTS = ["hello", "a", "where is my order? I have waited for it", "hello hello", "", "x" * 150]
"""The last one is longer than what the tiny models read at once."""
BERT: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def save_bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model: Any = BertModel(BertConfig(**BERT))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    return folder


def plain(model: Any, tokenizer: Any, text: str, pooling: Pooling) -> Any:
    ids = tokenizer(text)["input_ids"]
    windows = [ids[start : start + 64] for start in range(0, len(ids), 64)]
    with torch.no_grad():
        states = [model(input_ids=torch.tensor([window])).last_hidden_state[0] for window in windows]
    if not states:
        return np.zeros(32)
    every = torch.cat(states).double()
    pooled = {"mean": every.mean(0), "first": every[0], "last": every[-1]}[pooling]
    return (pooled / pooled.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_vectors_are_those_of_each_text_alone(tmp_path: Path, kind: str, pooling: Pooling) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = save_bert(tmp_path) if kind == "bert" else save_tiny(tmp_path, Case(kind, kind, {"vocab_size": 128}))
    embedder = open_embedder(str(folder), start=tmp_path, pooling=pooling)
    found = embedder(TEXTS)
    make_model: Any = AutoModel
    make_tokenizer: Any = AutoTokenizer
    model, tokenizer = make_model.from_pretrained(folder).eval(), make_tokenizer.from_pretrained(folder)
    wanted = np.stack([plain(model, tokenizer, text, pooling) for text in TEXTS])
    assert np.abs(found - wanted).max() < 2e-5
    assert np.abs(np.linalg.norm(found, axis=1) - [1, 1, 1, 1, 0, 1]).max() < 1e-5


def test_an_identity_is_of_weights_tokenizer_config_and_pooling(tmp_path: Path) -> None:
    one, other = save_bert(tmp_path / "one"), save_bert(tmp_path / "other")
    first = open_embedder(str(one), start=tmp_path).identity
    assert open_embedder(str(other), start=tmp_path).identity == first
    assert open_embedder(str(one), start=tmp_path, pooling="first").identity != first
    path = other / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 0.1}))
    assert open_embedder(str(other), start=tmp_path).identity != first


def test_a_pooling_that_the_model_was_not_trained_with_is_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    with pytest.raises(BaseError, match="trained with pooling 'first', and 'mean' is asked for") as caught:
        open_embedder(str(folder), start=tmp_path)
    assert 'pooling = "first"' in caught.value.mend
    assert open_embedder(str(folder), start=tmp_path, pooling="first").width == 32


@pytest.mark.parametrize(
    ("model_type", "said"), [("t5", "A t5 model is no encoder of texts"), ("no_such_model", "config.json cannot be used")]
)
def test_what_is_no_encoder_is_refused(tmp_path: Path, model_type: str, said: str) -> None:
    folder = save_bert(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(BaseError, match=said):
        open_embedder(str(folder), start=tmp_path)


def test_weights_that_are_missing_are_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_bert(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: one for name, one in tensors.items() if "layer.1.attention" not in name}, folder / "model.safetensors")
    with pytest.raises(BaseError, match="tensors are missing, first"):
        open_embedder(str(folder), start=tmp_path)(["hello"])


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, Case("llama", "llama", {"vocab_size": 96}))
    with pytest.raises(BaseError, match=r"gives token 1\d\d, and the model has 96 of them"):
        open_embedder(str(folder), start=tmp_path)(["hello a"])
