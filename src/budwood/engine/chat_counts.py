"""How many tokens texts have, by words that were counted before.

A byte-level BPE encodes by itself each piece that its pre-tokenizer cuts, so a text has as many tokens as its pieces have
together, and the pieces of a corpus are the same few over and over. Cutting by Python's `re` and looking each piece up takes
a fraction of the time of encoding. That is done where it is exact: in ASCII texts, where the classes of the tokenizer's
pattern are ranges. Everything else is encoded; both ways are held to each other by tests/engine/test_chat_counts.py.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEPT = 1 << 22
"""Characters of pieces whose counts are kept, some 60 MB as words; beyond that all are counted anew."""
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""By what `ByteLevel` cuts where no pattern is given."""
RANGES = {"L": "a-zA-Z", "Lu": "A-Z", "Ll": "a-z", "Lo": "", "Lt": "", "Lm": "", "M": "", "N": "0-9", "Nd": "0-9"}
"""What Unicode's classes hold of ASCII."""
_CLASS = re.compile(r"\\p\{(\w+)\}")
_NOT_KNOWN = re.compile(r"\\[^sSbdrntvf\-\[\]/.+*?(){}|\\]|\[\^?\]|&&|\[:|\[[^\]]*\[|(?<!\[)\^|\$|\(\?(?!:|=|!|i:)|\}[+?]")
"""What would mean something else in Python, or in the middle of a text. `{1,3}+` is possessive in Python alone."""


class WordCounts:
    """Counts tokens as `encoder` would.

    Args:
        encoder: encodes what cannot be looked up.
        state: of the encoder, as tokenizer.json holds it.
    """

    def __init__(self, encoder: "Tokenizer", state: dict[str, Any]) -> None:
        self._encoder = encoder
        self._pattern = ascii_pattern(state)
        names = sorted((token["content"] for token in state["added_tokens"] if not token["special"]), key=len, reverse=True)
        self._named = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._whole = _without_cuts(state) if self._pattern else None
        self._known: dict[str, int] = {}
        self._held = 0

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without special tokens."""
        if self._held > KEPT:
            self._known.clear()
            self._held = 0
        cut = [self._cut(text) for text in texts]
        self._learn({piece for pieces in cut if pieces is not None for piece in pieces}.difference(self._known))
        encoded = [text for text, pieces in zip(texts, cut, strict=True) if pieces is None]
        others = map(len, self._encoder.encode_batch_fast(encoded, add_special_tokens=False))
        known = self._known.__getitem__
        return [next(others) if pieces is None else sum(map(known, pieces)) for pieces in cut]

    def _cut(self, text: str) -> list[str] | None:
        """Give the pieces of a text; None for one that has to be encoded."""
        if self._pattern is None or not text.isascii() or self._named.search(text):
            return None
        pieces: list[str] = self._pattern.findall(text)
        # What the pattern leaves out would be a piece, too.
        return pieces if sum(map(len, pieces)) == len(text) else None

    def _learn(self, pieces: set[str]) -> None:
        if not pieces or self._whole is None:
            return
        new = sorted(pieces)
        encodings = self._whole.encode_batch_fast(new, add_special_tokens=False)
        self._known.update(zip(new, map(len, encodings), strict=True))
        self._held += sum(map(len, new))


def ascii_pattern(state: dict[str, Any]) -> "re.Pattern[str] | None":
    """The pattern by which a tokenizer cuts ASCII texts into what its model encodes; None for one that does otherwise."""
    model, normalizer = state["model"], state["normalizer"]
    if model["type"] != "BPE" or model.get("dropout") or (normalizer is not None and normalizer["type"] != "NFC"):
        return None
    found = _cutting(state["pre_tokenizer"])
    if found is None or not {held[1] for held in _CLASS.finditer(found)} <= RANGES.keys():
        return None
    translated = _with_ranges(found)
    if _NOT_KNOWN.search(translated) or not translated.isascii():
        return None
    try:
        compiled = re.compile(translated, re.ASCII)
    except re.error:  # written in what only the tokenizer's own engine reads
        return None
    return None if compiled.groups else compiled


def _cutting(step: dict[str, Any] | None) -> str | None:
    """The pattern of a byte-level pre-tokenizer that cuts once and puts nothing before a text."""
    steps = [] if step is None else step["pretokenizers"] if step["type"] == "Sequence" else [step]
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if len(steps) == 1:
        return GPT2 if steps[0]["use_regex"] else None
    if len(steps) > 2 or steps[0]["type"] != "Split" or steps[-1]["use_regex"]:
        return None
    split = steps[0]
    plain = split["behavior"] == "Isolated" and not split["invert"]
    pattern: str | None = split["pattern"].get("Regex")
    return pattern if plain else None


def _with_ranges(pattern: str) -> str:
    """Put ASCII ranges in the place of Unicode's classes: as they are inside brackets, in brackets outside."""
    made: list[str] = []
    at, inside = 0, False
    while at < len(pattern):
        found = _CLASS.match(pattern, at)
        if found is not None:
            held = RANGES[found[1]]
            made.append(held if inside else f"[{held}]")
            at = found.end()
            continue
        if pattern[at] == "\\":
            made.append(pattern[at : at + 2])
            at += 2
            continue
        if pattern[at] == "[":
            inside = True
        elif pattern[at] == "]":
            inside = False
        made.append(pattern[at])
        at += 1
    return "".join(made)


def _without_cuts(state: dict[str, Any]) -> "Tokenizer":
    """The same tokenizer for texts that are one piece each."""
    from tokenizers import Tokenizer

    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    made = Tokenizer.from_str(json.dumps(state | {"pre_tokenizer": step}))
    made.encode_special_tokens = True
    return made
