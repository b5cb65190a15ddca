"""Texts → unit vectors, by an encoder or by any supported base.

    embedder = open_embedder("models/e5-small", start=folder)
    embedder.identity                  # digests of weights, tokenizer and config, and the pooling
    embedder(["Where is my order?"])   # (1, d) float32, rows of length 1

A text's vector is pooled from its tokens' last states: their mean, the first or the last one. A text longer than the model
reads is read in several windows, and the mean is over all of their tokens: nothing is cut off. A text without a token is a
vector of zeros, which is like nothing. The model is brought into memory at the first call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from budwood.engine.base import (
    BaseIdentity,
    BaseRef,
    hidden_states,
    identify_base,
    load_base,
    load_tokenizer,
    read_config,
    resolve_base,
    without_bars,
)
from budwood.engine.families import SUPPORTED, context_length
from budwood.engine.faults import cause, check_loaded, check_sizes, config_fault, reading
from budwood.engine.packed import Encoded, fill, pack
from budwood.engine.text_identity import tokenizer_digest
from budwood.engine.weights import read_json, read_tensors, weight_files, weights_digest
from budwood.errors import BaseError
from budwood.identity import digest_json

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Pooling = Literal["mean", "first", "last"]
VERSION = 1
"""Raised when the same text and model would give another vector."""
TOKENS_PER_PASS = 4096
LEAST_WINDOW = 8
UNSAID = 1 << 24
"""A tokenizer that gives a longest length beyond this has none."""
_NOT_THE_MODEL = ("_name_or_path", "transformers_version")
_STATED = {"pooling_mode_cls_token": "first", "pooling_mode_lasttoken": "last", "pooling_mode_mean_tokens": "mean"}
"""How a sentence-transformers folder says which pooling its model was trained with."""


@dataclass(frozen=True)
class Embedder:
    """Made by `open_embedder`.

    Args:
        ref: where the model lies.
        pooling: which states make the vector.
        base: what it is as a base of ours; None: an encoder, in transformers' own code.
        window: tokens that are read at once, special ones included.
        width: d.
        vocab: tokens that it has.
        identity: what vectors depend on besides the text, as JSON values.
        device: where to compute.
    """

    ref: BaseRef
    pooling: Pooling
    base: BaseIdentity | None
    window: int
    width: int
    vocab: int
    identity: Mapping[str, Any]
    device: str = "cpu"

    def __call__(self, texts: Sequence[str]) -> "NDArray[float32]":
        """Embed texts, (N, d); in passes of windows of like length."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        windows, of = self._windows(texts)
        sums = np.zeros((len(texts), self.width), np.float32)
        counts = np.zeros(len(texts), np.float32)
        lengths = np.array([len(ids) for ids in windows], np.int64)
        order = np.argsort(lengths, kind="stable")
        begin = 0
        for end in fill(lengths[order], TOKENS_PER_PASS).tolist() if len(order) else ():
            together = order[begin:end]
            begin = end
            states, weights = self._read([windows[place] for place in together.tolist()])
            # Of several windows the mean counts each token once; first and last are one window's alone.
            chosen = self._chosen(of, together)
            np.add.at(sums, of[together[chosen]], states[chosen])
            np.add.at(counts, of[together[chosen]], weights[chosen])
        means = sums / np.maximum(counts, 1)[:, None]
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), np.float32)

    def _windows(self, texts: Sequence[str]) -> "tuple[list[list[int]], NDArray[int64]]":
        """Token ids of each text in windows, and the text that each is of.

        Raises:
            BaseError: a token that the model does not have.
        """
        read = self._tokenizer(
            list(texts), truncation=True, max_length=self.window, padding=False, return_overflowing_tokens=True, verbose=False
        )
        ids, of = read["input_ids"], read.get("overflow_to_sample_mapping", range(len(texts)))
        last = max((max(window, default=0) for window in ids), default=0)
        if last >= self.vocab:
            raise BaseError(
                f"The tokenizer gives token {last:,}, and the model has {self.vocab:,} of them.",
                where=str(self.ref.folder),
                mend="Take tokenizer and weights from the same download.",
            )
        filled = [(list(window), text) for window, text in zip(ids, of, strict=True) if len(window)]
        return [window for window, _ in filled], np.array([text for _, text in filled], np.int64)

    def _chosen(self, of: "NDArray[int64]", together: "NDArray[int64]") -> "NDArray[np.bool_]":
        if self.pooling == "mean":
            return np.ones(len(together), np.bool_)
        first = np.concatenate([[True], of[1:] != of[:-1]])
        last = np.concatenate([of[1:] != of[:-1], [True]])
        chosen: NDArray[np.bool_] = (first if self.pooling == "first" else last)[together]
        return chosen

    def _read(self, windows: Sequence[Sequence[int]]) -> "tuple[NDArray[float32], NDArray[float32]]":
        """Pooled states of windows, summed, (N, d), and over how many tokens, (N,)."""
        with torch.no_grad():
            states, lengths = self._states(windows)
        if self.pooling == "mean":
            return np.stack([one.sum(0).float().cpu().numpy() for one in states]), np.asarray(lengths, np.float32)
        place = 0 if self.pooling == "first" else -1
        return np.stack([one[place].float().cpu().numpy() for one in states]), np.ones(len(states), np.float32)

    def _states(self, windows: Sequence[Sequence[int]]) -> tuple[list[Tensor], list[int]]:
        """Last states of each window's tokens, (n, d) each."""
        lengths = [len(window) for window in windows]
        if self.base is not None:
            batch = pack([Encoded(tuple(window), (False,) * len(window)) for window in windows], self.device)
            states = hidden_states(self._model, batch)[: sum(lengths)]
            return list(torch.split(states, lengths)), lengths
        longest = max(lengths)
        padding = int(self._tokenizer.pad_token_id or 0)
        ids = torch.tensor([[*window, *[padding] * (longest - len(window))] for window in windows], device=self.device)
        mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).long().to(self.device)
        output = self._model(input_ids=ids, attention_mask=mask)
        return [one[:length] for one, length in zip(output.last_hidden_state, lengths, strict=True)], lengths

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        return load_tokenizer(self.ref)

    @cached_property
    def _model(self) -> nn.Module:
        if self.base is None:
            return _load_encoder(self.ref, self.device)
        return load_base(self.ref, device=self.device, identity=self.base).model


def open_embedder(id: str, *, start: Path, pooling: Pooling = "mean", device: str = "cpu") -> Embedder:
    """Find an embedding model and read what it is; its weights are hashed but not loaded.

    Args:
        id: as `resolve_base` takes it.
        start: where relative folders begin.
        pooling: which states make the vector.
        device: where to compute.

    Raises:
        BaseError: there is none, it cannot be used, or it was trained with another pooling.
    """
    ref = resolve_base(id, start=start)
    path = ref.folder / "config.json"
    if not path.is_file():
        raise BaseError("The model has no config.json.", where=str(ref.folder), mend="Name a Hugging Face model folder.")
    values = read_json(path)
    check_sizes(values, where=str(path))
    _check_pooling(ref.folder, pooling)
    base = identify_base(ref) if values.get("model_type") in SUPPORTED else None
    config = _encoder_config(ref) if base is None else read_config(ref)
    with reading(ref.folder):
        identity = {
            "weights": weights_digest(read_tensors(weight_files(ref.folder))) if base is None else base.weights_digest,
            "tokenizer": tokenizer_digest(ref.folder),
            "config": digest_json({key: value for key, value in values.items() if key not in _NOT_THE_MODEL}),
            "pooling": pooling,
            "version": VERSION,
        }
    window = _encoder_window(config, ref) if base is None else context_length(config)
    return Embedder(ref, pooling, base, window, int(config.hidden_size), int(config.vocab_size), identity, device)


def _check_pooling(folder: Path, pooling: Pooling) -> None:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return
    stated = [ours for name, ours in _STATED.items() if read_json(path).get(name) is True]
    if stated and pooling not in stated:
        raise BaseError(
            f"The model was trained with pooling {stated[0]!r}, and {pooling!r} is asked for.",
            where=str(path),
            mend=f'Set pooling = "{stated[0]}".',
        )


def _encoder_config(ref: BaseRef) -> Any:
    """The config of an encoder in transformers' own code.

    Raises:
        BaseError: it is none, or another kind of model.
    """
    from transformers import AutoConfig

    path = ref.folder / "config.json"
    try:
        config = AutoConfig.from_pretrained(ref.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a family's own checks fail in any way that its values bring about
        raise config_fault(path, error) from error
    if getattr(config, "is_encoder_decoder", False) or not isinstance(getattr(config, "hidden_size", None), int):
        raise BaseError(
            f"A {config.model_type} model is no encoder of texts, nor a base that is supported.",
            where=str(path),
            mend=f"Use an encoder such as BERT's kind, or a base of: {', '.join(SUPPORTED)}.",
        )
    return config


def _encoder_window(config: Any, ref: BaseRef) -> int:
    """Tokens that an encoder reads at once: what its config, its tokenizer and, where there is one, its maker's note allow."""
    limits = [int(getattr(config, "max_position_embeddings", 0) or 512)]
    # RoBERTa's kin count positions from behind the padding's.
    limits[0] -= 2 if limits[0] % 8 == 2 else 0
    told = int(load_tokenizer(ref).model_max_length)
    limits += [told] if told < UNSAID else []
    note = ref.folder / "sentence_bert_config.json"
    said = read_json(note).get("max_seq_length") if note.is_file() else None
    limits += [said] if isinstance(said, int) else []
    if min(limits) < LEAST_WINDOW:
        raise BaseError(
            f"The model reads {min(limits)} tokens at once.", where=str(ref.folder), mend="Use one that reads more."
        )
    return min(limits)


def _load_encoder(ref: BaseRef, device: str) -> nn.Module:
    from transformers import AutoModel

    make: Any = AutoModel
    try:
        with reading(ref.folder), without_bars():
            model, info = make.from_pretrained(
                ref.folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, in fewer words
            )
    except (OSError, ValueError, KeyError) as error:
        raise BaseError(
            f"The encoder cannot be loaded: {cause(error)}.", where=str(ref.folder), mend="Download it again, whole."
        ) from error
    # A head above the encoder may be there or not: its last states do not pass it.
    absent = [name for name in info["missing_keys"] if "pooler" not in name]
    check_loaded({**info, "missing_keys": absent, "unexpected_keys": []}, where=str(ref.folder))
    loaded: nn.Module = model.requires_grad_(False).eval().to(device)
    return loaded
