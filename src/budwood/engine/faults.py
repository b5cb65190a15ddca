"""What is wrong with a base's folder, told with the name of the file.

Config, tokenizer and weights are strangers' files, and transformers answers a faulty one with whatever its code happens to
run into. Errors: `BaseError`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from budwood.engine.tensor_names import model_name
from budwood.engine.weights import TensorEntry, read_json
from budwood.errors import BaseError

TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "tokenizer.json")
LAYERS = ("num_hidden_layers", "n_layer")
SIZES = (
    *LAYERS,
    *("hidden_size", "n_embd", "intermediate_size", "vocab_size", "num_attention_heads", "n_head", "num_key_value_heads"),
    *("max_position_embeddings", "n_positions"),
)
"""Keys of config.json that count something which there must be at least one of."""
MOST_LAYERS = 1_000
"""Modules are built to learn shapes and names; a number without bound would take time and memory without bound."""
LONGEST_CAUSE = 300
_AGAIN = "Download the base again, whole."


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn what the system says about a file of the base into a `BaseError`."""
    try:
        yield
    except OSError as error:
        name = Path(str(error.filename)).name if error.filename is not None else "The base"
        raise BaseError(
            f"{name} cannot be read: {error.strerror or cause(error)}.", where=str(folder), mend="Check owner and permissions."
        ) from error


def cause(error: BaseException) -> str:
    """An error of a library in one line that is not too long; its kind where it says no more than a word."""
    said = " ".join(str(error).split())[:LONGEST_CAUSE].rstrip(".")
    return said if " " in said else f"{type(error).__name__}{': ' if said else ''}{said}"


def config_fault(path: Path, error: Exception) -> BaseError:
    return BaseError(f"config.json cannot be used: {cause(error)}.", where=str(path), mend=_AGAIN)


def check_sizes(values: Mapping[str, Any], *, where: str) -> None:
    """Refuse what stands in config.json and no model could be built with, before it is tried.

    Raises:
        BaseError: the impossible values are listed.
    """
    names = values.get("architectures")
    faults = [] if names is None or isinstance(names, list) else [f"architectures = {names!r}"]
    faults += [f"{name} = {values[name]}" for name in SIZES if isinstance(values.get(name), int) and values[name] < 1]
    faults += [
        f"{name} = {values[name]:,}" for name in LAYERS if isinstance(values.get(name), int) and values[name] > MOST_LAYERS
    ]
    if faults:
        raise BaseError(f"config.json has impossible values: {', '.join(faults)}.", where=where, mend=_AGAIN)


def check_shapes(model: nn.Module, entries: Sequence[TensorEntry], *, where: str) -> None:
    """Hold the weight files' headers to the shapes that the config asks for, by name.

    Names that only one side knows are left to loading: some families store their tensors under other names.

    Raises:
        BaseError: shapes differ.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    prefix = getattr(model, "base_model_prefix", "")
    faults = [
        f"{entry.name} is {entry.shape}, needs {need}"
        for entry in entries
        for name in [model_name(entry.name, wanted, prefix)]
        if name is not None and (need := wanted[name]) != entry.shape
    ]
    if faults:
        more = f" and {len(faults) - 2:,} more" if len(faults) > 2 else ""
        raise BaseError(
            f"Weights and config do not fit: {'; '.join(faults[:2])}{more}.",
            where=where,
            mend="Take config.json and weights from the same download.",
        )


def check_loaded(info: Mapping[str, Any], *, where: str) -> None:
    """Refuse what transformers would load in part.

    Raises:
        BaseError: tensors that are missing, left over, or of another shape.
    """
    absent, extra = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys", ()))
    faults = [
        f"{len(names)} {what}, first {names[0]}"
        for names, what in ((absent, "tensors are missing"), (extra, "do not belong"), (wrong, "have another shape"))
        if names
    ]
    if faults:
        raise BaseError(f"Weights and config do not fit: {'; '.join(faults)}.", where=where, mend="Download it again.")


def check_head(model: nn.Module, *, where: str) -> None:
    """Refuse an output head with a bias.

    No supported family has one; a config that asks for it would otherwise lose it in `logits` and in the loss.
    """
    if getattr(model.get_output_embeddings(), "bias", None) is not None:  # type: ignore[operator]  # nn.Module's attributes
        raise BaseError("The output head has a bias, which is not supported.", where=where, mend="Use another base.")


def tokenizer_fault(folder: Path, error: Exception) -> BaseError:
    """Find out which of the tokenizer's files is to blame for an error."""
    from tokenizers import Tokenizer

    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            try:
                read_json(folder / name)
            except BaseError as fault:
                return fault
    try:
        Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as fault:  # the library raises nothing more special
        if (folder / "tokenizer.json").is_file():
            return BaseError(f"tokenizer.json holds no tokenizer: {cause(fault)}.", where=str(folder), mend=_AGAIN)
    return BaseError(f"The tokenizer cannot be loaded: {cause(error)}.", where=str(folder), mend=_AGAIN)
