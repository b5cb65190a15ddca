"""Load a base: find it, name it by its content, and bring it into memory.

    ref = resolve_base("seedling")
    base = load_base(ref, dtype=torch.float32)
    hidden = hidden_states(base.model, pack(rows))       # (T, d)
    logits(base.model, hidden[-1:])                      # (1, V)

Model code and tokenizers are transformers'. Errors: `BaseError`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from budwood.engine.attention import NAME, register_attention
from budwood.engine.families import (
    SUPPORTED,
    check_family,
    check_settings,
    context_length,
    logit_softcap_of,
    stored_in_four_bits,
)
from budwood.engine.faults import check_head, check_loaded, check_shapes, check_sizes, config_fault, reading, tokenizer_fault
from budwood.engine.native.products import multiply
from budwood.engine.packed import PackedBatch
from budwood.engine.text_identity import template_digest, tokenizer_digest
from budwood.engine.weights import TensorEntry, read_json, read_tensors, weight_files, weights_digest
from budwood.errors import BaseError
from budwood.identity import Digest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "SUPPORTED",
    "BaseIdentity",
    "BaseRef",
    "LoadedBase",
    "Quantization",
    "head_weight",
    "hidden_states",
    "identify_base",
    "load_base",
    "load_tokenizer",
    "logit_softcap",
    "logits",
    "read_config",
    "resolve_base",
    "skeleton",
    "without_bars",
]

Quantization = Literal["none", "nf4", "int8"]


@dataclass(frozen=True)
class BaseRef:
    """Where a base lies. `revision` is the hub's commit, None for a folder."""

    id: str
    folder: Path
    revision: str | None


@dataclass(frozen=True)
class BaseIdentity:
    """What a base is, by content."""

    id: str
    revision: str | None
    model_type: str
    architecture: str
    weights_digest: Digest
    tokenizer_digest: Digest
    template_digest: Digest
    parameters: int
    layers: int
    hidden: int
    vocab: int
    context: int

    def as_body(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class LoadedBase:
    """A base in memory: frozen, in eval mode, with packed attention."""

    model: nn.Module
    tokenizer: "PreTrainedTokenizerBase"
    identity: BaseIdentity
    quantization: Quantization
    dtype: torch.dtype
    device: torch.device


def resolve_base(id: str, *, start: Path = Path("."), cache: Path | None = None, endpoint: str | None = None) -> BaseRef:
    """Find a base.

    Args:
        id: "seedling", a folder (absolute, or relative to `start`), or org/name@revision on the hub.
        start: where relative folders begin.
        cache: the hub client's cache; None: its own default.
        endpoint: another hub; None: the client's default.

    Raises:
        BaseError: there is no such base.
    """
    if id == "seedling":
        return BaseRef(id, Path(str(files("budwood") / "seedling")), None)
    folder = (start / id).expanduser()
    if folder.is_dir():
        return BaseRef(id, folder.resolve(), None)
    if folder.exists() or id.startswith((".", "/", "~")) or id.count("/") > 1:
        raise BaseError(f"There is no base folder {id!r}.", where="[base] id", mend="Check the path.")
    from budwood.engine.hub import fetch

    path, commit = fetch(id, cache=cache, endpoint=endpoint)
    return BaseRef(id.partition("@")[0], path, commit)


def identify_base(ref: BaseRef) -> BaseIdentity:
    """Read config and weights (not into memory at once) and name the base by its content.

    Raises:
        BaseError: no config, an unsupported family or setting, no safetensors, broken or unreadable files, weights of other
            shapes than the config says, or a chat template that cannot be pinned.

    Cost: every byte of the weights is hashed.
    """
    config = read_config(ref)
    with reading(ref.folder):
        entries = read_tensors(weight_files(ref.folder))
        model = _build(config, ref)
        packed = stored_in_four_bits(config)
        check_shapes(model, [entry for entry in entries if not (packed and entry.dtype == "U8")], where=str(ref.folder))
        weights, tokenizer = weights_digest(entries), tokenizer_digest(ref.folder)
        template = template_digest(ref.folder)
    return BaseIdentity(
        id=ref.id,
        revision=ref.revision,
        model_type=config.model_type,
        architecture=str((config.architectures or [""])[0]),
        weights_digest=weights,
        tokenizer_digest=tokenizer,
        template_digest=template,
        parameters=_parameters(model, entries, packed),
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        vocab=int(config.vocab_size),
        context=context_length(config),
    )


def _parameters(model: nn.Module, entries: Sequence[TensorEntry], packed: bool) -> int:
    """Weights of a base; where its files hold them packed, as many as the model has."""
    return sum(tensor.numel() for tensor in model.parameters()) if packed else sum(entry.elements for entry in entries)


def read_config(ref: BaseRef) -> "PreTrainedConfig":
    """Read config.json and refuse what cannot be done right.

    Raises:
        BaseError: missing, not JSON, of an unsupported family, or with a value that is impossible or not supported.
    """
    from transformers import AutoConfig

    path = ref.folder / "config.json"
    if not path.is_file():
        raise BaseError("The base has no config.json.", where=str(ref.folder), mend="Name a Hugging Face model folder.")
    values = read_json(path)
    check_family(values.get("model_type"), where=str(path))
    check_sizes(values, where=str(path))
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(ref.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a family's own checks fail in any way that its values bring about
        raise config_fault(path, error) from error
    check_settings(config, where=str(path))
    return config


def load_base(
    ref: BaseRef,
    *,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization = "none",
    device: torch.device | str = "cpu",
    identity: BaseIdentity | None = None,
) -> LoadedBase:
    """Bring a base into memory: frozen, eval mode, packed attention.

    Args:
        ref: from `resolve_base`.
        dtype: of the weights and of the computation.
        quantization: "nf4" holds the linear layers in 4 bits, "int8" in 8; embeddings and head stay as they are. They are
            quantised as they are read, unless the files name tensors otherwise than the model does.
        device: where to.
        identity: of this very base, when it is known already; else its weights are hashed.

    Raises:
        BaseError: see `identify_base`; or tensors that are missing or left over.
    """
    known = identity or identify_base(ref)
    register_attention()
    with reading(ref.folder), without_bars():
        model = _load_quantized(ref, dtype, quantization)
        if model is None:
            model = _load_whole(ref, dtype, quantization)
    check_head(model, where=str(ref.folder))
    model.requires_grad_(False)
    model.eval()
    place = torch.device(device)
    return LoadedBase(model.to(place), load_tokenizer(ref), known, quantization, dtype, place)


def _load_quantized(ref: BaseRef, dtype: torch.dtype, quantization: Quantization) -> nn.Module | None:
    """Load a base whose linear layers are quantised in its files, or while they are read; None if it is neither."""
    config = read_config(ref)
    stored = stored_in_four_bits(config)
    if stored and quantization != "nf4":
        raise BaseError(
            f"This base is stored in 4 bits (NF4) and cannot be had as {quantization!r}.",
            where=str(ref.folder),
            mend='Train with method = "qlora" and bits = 4, or use the base that it was quantised from.',
        )
    if quantization == "none":
        return None
    from budwood.engine.quant.stream import load_prequantized, load_streamed

    entries = read_tensors(weight_files(ref.folder))
    if stored:
        return load_prequantized(config, entries, dtype=dtype, attention=NAME, where=str(ref.folder))
    return load_streamed(config, entries, quantization, dtype=dtype, attention=NAME)


def _load_whole(ref: BaseRef, dtype: torch.dtype, quantization: Quantization) -> nn.Module:
    from transformers import AutoModelForCausalLM

    with without_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            ref.folder,
            dtype=dtype,
            attn_implementation=NAME,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in fewer words
        )
    model: nn.Module = loaded[0]
    check_loaded(loaded[1], where=str(ref.folder))
    if quantization != "none":
        from budwood.engine.quant import quantize_linears

        quantize_linears(model, quantization)
    return model


def skeleton(ref: BaseRef) -> nn.Module:
    """Build a base's modules without any weights (meta tensors): for shapes and names.

    Raises:
        BaseError: as `read_config`, or the config describes no model that could be built.
    """
    return _build(read_config(ref), ref)


def _build(config: "PreTrainedConfig", ref: BaseRef) -> nn.Module:
    from transformers import AutoModelForCausalLM

    make: Any = AutoModelForCausalLM  # from_config has no annotations
    try:
        with torch.device("meta"):
            model: nn.Module = make.from_config(config)
    except Exception as error:  # as in `read_config`
        raise config_fault(ref.folder / "config.json", error) from error
    return model


def load_tokenizer(ref: BaseRef) -> "PreTrainedTokenizerBase":
    """Load the tokenizer alone.

    Raises:
        BaseError: the folder has none, or one that is broken.
    """
    from transformers import AutoTokenizer

    if not any((ref.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BaseError("The base has no tokenizer files.", where=str(ref.folder), mend="Add tokenizer.json to the folder.")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            ref.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # several libraries read these files, and the one in Rust raises plain `Exception`
        raise tokenizer_fault(ref.folder, error) from error
    return tokenizer


def hidden_states(model: nn.Module, batch: PackedBatch, *, only: Tensor | None = None) -> Tensor:
    """Run the body over packed rows: (T, d), after the last norm, before the head.

    Args:
        model: with packed attention.
        batch: the rows.
        only: (N,) int64, tokens whose states are wanted: then (N, d); a fused last layer does not compute the others.

    Raises:
        BaseError: a row is longer than the base's context.
    """
    limit = context_length(model.config)
    if batch.max_length > limit:
        raise BaseError(
            f"A row has {batch.max_length:,} tokens; this base can do {limit:,}.",
            where="a packed batch",
            mend="Shorten or drop rows that are too long before they are packed.",
        )
    body = model.base_model
    assert isinstance(body, nn.Module)
    ids, positions = batch.input_ids[None], batch.position_ids[None]
    chooses = only is not None and _selects(model)
    named = {"only": only} if chooses else {}
    output = body(input_ids=ids, position_ids=positions, use_cache=False, layout=batch.layout, **named)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden if only is None or chooses else hidden.index_select(0, only)


def _selects(model: nn.Module) -> bool:
    from budwood.engine.fused import selects

    return selects(model)


def head_weight(model: nn.Module) -> Tensor:
    """The output head's weight, (V, d); the embedding itself where they are tied."""
    head = model.get_output_embeddings()  # type: ignore[operator]  # nn.Module types every attribute as Tensor | Module
    weight: Tensor = head.weight
    return weight


def logit_softcap(model: nn.Module) -> float | None:
    """The tanh cap on the logits, None for families without one."""
    return logit_softcap_of(model.config)


def logits(model: nn.Module, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
    """(n, d) → (n, V), soft cap included.

    Args:
        model: what its bank has in use now is what counts, as for `hidden_states`: adapters may bring rows of the head.
        hidden: states of tokens of one pass.
        tokens: (n,) int64, which tokens of the pass; None: all, in order.
    """
    from budwood.engine.lora.token_layers import head_parts

    raw = multiply(hidden, head_weight(model))
    for part in head_parts(model, len(hidden), tokens):
        part.replace(raw, hidden)
    cap = logit_softcap(model)
    return raw if cap is None else torch.tanh(raw / cap) * cap


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' own bar and reports off the terminal, and put its settings back."""
    import transformers.utils.logging

    logging: Any = transformers.utils.logging  # its switches have no annotations
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
