"""What a base's text side is, by content: digests of its tokenizer and of its chat template, from the files alone."""

from pathlib import Path
from typing import Any

from budwood.engine.chat_source import source_digest, template_source
from budwood.engine.weights import read_json
from budwood.errors import BaseError
from budwood.identity import Digest, digest_file, digest_json

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
SETTINGS = "tokenizer_config.json"
_SETTINGS = ("tokenizer_class", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")


def tokenizer_digest(folder: Path) -> Digest:
    """Hash the tokenizer's files, and of tokenizer_config.json what changes ids: special tokens and the class.

    The rest of that file (the chat template, the longest length, who wrote it) is not the tokenizer.
    """
    settings = _config(folder)
    chosen = {
        key: value for key, value in settings.items() if key in _SETTINGS or key.endswith("_token") or key.startswith("add_")
    }
    return digest_json(
        {"files": {name: digest_file(folder / name) for name in FILES if (folder / name).is_file()}, "settings": chosen}
    )


def template_digest(folder: Path) -> Digest:
    """Hash the chat template that `chat_template` would use with this folder's tokenizer.

    Raises:
        BaseError: as `template_source`, or the file is not UTF-8.
    """
    file = template_file(folder)
    if file.name == SETTINGS:
        return source_digest(template_source(_config(folder).get("chat_template"), where=str(file)))
    try:
        return source_digest(template_source(file.read_text("utf-8"), where=str(file)))
    except UnicodeDecodeError as error:
        raise BaseError(
            f"chat_template.jinja is not UTF-8: {error}.", where=str(folder), mend="Download the base again."
        ) from None


def template_file(folder: Path) -> Path:
    """The file that a base's chat template stands in, where it has one."""
    separate = folder / "chat_template.jinja"
    return separate if separate.is_file() else folder / SETTINGS


def _config(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    return read_json(path) if path.is_file() else {}
