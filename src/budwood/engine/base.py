"""Load a base: find it, name it by its content, and bring it into memory.

    ref = resolve_base("seedling")
    base = load_base(ref, dtype=torch.float32)
    hidden = hidden_states(base.model, pack(rows))       # (T, d)
    logits(base.model, hidden[-1:])                      # (1, V)

Model code and tokenizers are transformers'. Errors: `BaseError`.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from budwood.engine.attention import NAME, register_attention
from budwood.engine.packed import PackedBatch
from budwood.engine.weights import read_tensors, weight_files, weights_digest
from budwood.errors import BaseError
from budwood.identity import Digest, digest_bytes, digest_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Quantization = Literal["none", "nf4"]

SUPPORTED: Mapping[str, str] = {
    "llama": "",
    "mistral": "sliding window",
    "qwen2": "",
    "qwen3": "",
    "gemma2": "soft caps, alternating windows",
    "gemma3_text": "alternating windows",
    "phi3": "fused q/k/v",
    "gpt2": "Conv1D",
    "gpt_neox": "",
    "olmo2": "",
    "mixtral": "attention only; experts are not targeted",
    "qwen2_moe": "attention only; experts are not targeted",
}
"""model_type in config.json → what is special about it."""


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
        BaseError: no config, an unsupported family, no safetensors, or broken files.
    """
    config = read_config(ref)
    entries = read_tensors(weight_files(ref.folder))
    return BaseIdentity(
        id=ref.id,
        revision=ref.revision,
        model_type=config["model_type"],
        architecture=(config.get("architectures") or [""])[0],
        weights_digest=weights_digest(entries),
        tokenizer_digest=_tokenizer_digest(ref.folder),
        template_digest=_template_digest(ref.folder),
        parameters=sum(entry.elements for entry in entries),
        layers=int(_first(config, "num_hidden_layers", "n_layer")),
        hidden=int(_first(config, "hidden_size", "n_embd")),
        vocab=int(config["vocab_size"]),
        context=int(_first(config, "max_position_embeddings", "n_positions")),
    )


def read_config(ref: BaseRef) -> dict[str, Any]:
    """Read config.json and refuse families that cannot be done right.

    Raises:
        BaseError: missing, not JSON, without a model_type, or of an unsupported family.
    """
    path = ref.folder / "config.json"
    if not path.is_file():
        raise BaseError("The base has no config.json.", where=str(ref.folder), mend="Name a Hugging Face model folder.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BaseError(f"config.json is not JSON: {error}.", where=str(path), mend="Download the base again.") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in SUPPORTED:
        near = difflib.get_close_matches(str(kind), SUPPORTED, n=1)
        hint = f" Nearest: {near[0]}." if near else ""
        raise BaseError(
            f"The model family {kind!r} is not supported.{hint}",
            where=str(path),
            mend=f"Supported: {', '.join(SUPPORTED)}.",
        )
    return dict(config)


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
        quantization: "nf4" holds the linear layers in 4 bits.
        device: where to.
        identity: of this very base, when it is known already; else its weights are hashed.

    Raises:
        BaseError: see `identify_base`; or tensors that are missing or left over.
    """
    from transformers import AutoModelForCausalLM

    known = identity or identify_base(ref)
    register_attention()
    with _quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            ref.folder,
            dtype=dtype,
            attn_implementation=NAME,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, info = loaded
    _check_loaded(ref, info)
    model.requires_grad_(False)
    model.eval()
    if quantization == "nf4":
        from budwood.engine.quant import quantize_linears

        quantize_linears(model)
    place = torch.device(device)
    return LoadedBase(model.to(place), load_tokenizer(ref), known, quantization, dtype, place)


def load_tokenizer(ref: BaseRef) -> "PreTrainedTokenizerBase":
    """Load the tokenizer alone.

    Raises:
        BaseError: the folder has none.
    """
    from transformers import AutoTokenizer

    if not any((ref.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BaseError("The base has no tokenizer files.", where=str(ref.folder), mend="Add tokenizer.json to the folder.")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(ref.folder, local_files_only=True)
    return tokenizer


def hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Run the body over packed rows: (T, d), after the last norm, before the head."""
    body = model.base_model
    assert isinstance(body, nn.Module)
    output = body(
        input_ids=batch.input_ids[None], position_ids=batch.position_ids[None], use_cache=False, layout=batch.layout
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def head_weight(model: nn.Module) -> Tensor:
    """The output head's weight, (V, d); the embedding itself where they are tied."""
    head = model.get_output_embeddings()  # type: ignore[operator]  # nn.Module types every attribute as Tensor | Module
    weight: Tensor = head.weight
    return weight


def logit_softcap(model: nn.Module) -> float | None:
    """The tanh cap on the logits, None for families without one."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    return None if cap is None else float(cap)


def logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """(n, d) → (n, V), soft cap included."""
    raw = hidden @ head_weight(model).T
    cap = logit_softcap(model)
    return raw if cap is None else torch.tanh(raw / cap) * cap


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own bar off the terminal, and put its setting back."""
    import transformers.utils.logging

    logging: Any = transformers.utils.logging  # its switches have no annotations
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_loaded(ref: BaseRef, info: Mapping[str, Any]) -> None:
    absent, extra = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    wrong = sorted(str(key) for key in info.get("mismatched_keys", ()))
    faults = [
        f"{len(names)} {what}, first {names[0]}"
        for names, what in ((absent, "tensors are missing"), (extra, "do not belong"), (wrong, "have another shape"))
        if names
    ]
    if faults:
        raise BaseError(
            f"Weights and config do not fit: {'; '.join(faults)}.", where=str(ref.folder), mend="Download it again."
        )


def _first(config: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if name in config:
            return config[name]
    raise BaseError(f'config.json has no "{names[0]}".', mend="Download the base again.")


def _tokenizer_digest(folder: Path) -> Digest:
    from budwood.identity import digest_file

    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
    return digest_json({name: digest_file(folder / name) for name in names if (folder / name).is_file()})


def _template_digest(folder: Path) -> Digest:
    return digest_bytes(_template_source(folder).encode())


def _template_source(folder: Path) -> str:
    separate = folder / "chat_template.jinja"
    if separate.is_file():
        return separate.read_text("utf-8")
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return ""
    template = json.loads(path.read_text("utf-8")).get("chat_template") or ""
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)
