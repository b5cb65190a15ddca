"""The seedling's tokenizer: byte-level BPE that keeps codes copyable.

Digits, and capitals that stand together or beside a digit or a hyphen, are tokens of their own, and so is the space in
front of them: an order number is the same run of tokens in a sentence, in JSON and at the start of a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tools.seedling.chat import END, PAD, SPECIALS, TEMPLATE, TEXT_END

SPLIT = (
    r"'(?:s|t|re|ve|m|ll|d)\b"  # endings of contractions
    r"|\p{N}|#"  # one digit, one number sign
    r"| ?\p{Lu}?[\p{Ll}\p{Lo}\p{M}]+"  # a word, with its capital and the space before it
    r"| ?\p{Lu}(?![\p{Lu}\p{N}_/-])"  # a capital that stands alone, as in "I"
    r"|\p{Lu}"  # a capital inside a code
    r"| ?[^\s\p{L}\p{N}#]+"  # punctuation
    r"|\s+(?!\S)|\s"
)


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn `size` tokens, the special ones first."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path, positions: int) -> None:
    """Write tokenizer.json and what transformers reads beside it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "pad_token": PAD,
        "eos_token": END,
        "additional_special_tokens": [token for token in SPECIALS if token not in (PAD, END)],
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    names = {"pad_token": PAD, "eos_token": END, "additional_special_tokens": config["additional_special_tokens"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def text_end(tokenizer: Tokenizer) -> int:
    """The id that ends every document in pretraining."""
    found = tokenizer.token_to_id(TEXT_END)
    assert found is not None, "the tokenizer lacks its own end-of-text token"
    return int(found)
