"""Rendered chat text to token ids: control tokens come from the template alone, what people typed stays text.

The tokenizer's own model does the work; here is only what it leaves open. Text is cut at the control tokens that the
template wrote; each stretch between two of them is encoded with special tokens switched off. Special tokens that stood in a
message were replaced by marks before rendering (`hide`) and are put back as plain text.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from budwood.engine.chat_counts import WordCounts
from budwood.errors import BaseError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

MARKS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Unicode noncharacters: no text should contain one. The first that a conversation does not contain is used."""


class ChatTokens:
    """Encodes pieces of rendered text.

    Args:
        tokenizer: the base's; its state is copied, so that settings which others switch on it have no effect here.

    Raises:
        BaseError: it has no `tokenizers` backend.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise BaseError(
                f"The tokenizer {type(tokenizer).__name__} has no fast form.",
                where="the base's tokenizer",
                mend="Add a tokenizer.json to the base (save_pretrained of the fast tokenizer writes one).",
            )
        state: dict[str, Any] = json.loads(backend.to_str())
        state["truncation"] = state["padding"] = None
        named = set(tokenizer.all_special_tokens)
        for token in state["added_tokens"]:
            token["special"] = token["special"] or token["content"] in named
        control = {token["content"]: token for token in state["added_tokens"] if token["special"] and token["content"]}
        self.control: dict[str, int] = {text: int(token["id"]) for text, token in control.items()}
        self._names = tuple(control)
        self._eats_left = {text for text, token in control.items() if token["lstrip"]}
        self._eats_right = {text for text, token in control.items() if token["rstrip"]}
        longest_first = sorted(control, key=lambda text: -len(text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        bare, first_only = _without_prefix(state)
        self._opening = _tokenizer(state)
        self._inside = self._opening if bare == state else _tokenizer(bare)
        self._after_control = self._inside if first_only else self._opening
        self._counts = {id(one): WordCounts(one, of) for one, of in ((self._opening, state), (self._inside, bare))}

    def mark(self, texts: Iterable[str]) -> str:
        """Choose a mark that none of the texts contains.

        Raises:
            DataError: they contain all 32.
        """
        held = set().union(*texts)
        free = next((mark for mark in MARKS if mark not in held), None)
        if free is None:
            raise DataError("The conversation contains every Unicode noncharacter U+FDD0 to U+FDEF.", mend="Remove them.")
        return free

    def hide(self, text: str, mark: str) -> str:
        """Put marks in the place of the special tokens in a message."""
        return self._pattern.sub(lambda found: f"{mark}{self._names.index(found[0])}{mark}", text)

    def control_ends(self, text: str) -> list[tuple[int, int, int]]:
        """Find the control tokens in rendered text: (start, end, id) of each."""
        return [(found.start(), found.end(), self.control[found[0]]) for found in self._pattern.finditer(text)]

    def encode(self, pieces: Sequence[str], mark: str) -> list[list[int]]:
        """Encode pieces of one text, in order. A piece's ids depend on it, and on what kind of text ends before it."""
        encoded: list[list[int]] = [[] for _ in pieces]
        for place, encoder, held in self._stretches(pieces, mark):
            ids = encoded[place]
            if encoder is None:
                ids.append(self.control[held])
            else:
                ids += encoder.encode(held, add_special_tokens=False).ids
        return encoded

    def lengths(self, texts: Sequence[tuple[Sequence[str], str]]) -> list[int]:
        """Count the ids that `encode` gives for each of several texts, of which pieces and mark are given.

        All stretches that one encoder takes are counted at once, which is several times as fast.
        """
        counts = [0] * len(texts)
        waiting: dict[int, tuple[list[int], list[str]]] = {}
        for number, (pieces, mark) in enumerate(texts):
            for _, encoder, held in self._stretches(pieces, mark):
                if encoder is None:
                    counts[number] += 1
                    continue
                owners, stretches = waiting.setdefault(id(encoder), ([], []))
                owners.append(number)
                stretches.append(held)
        for encoder_id, (owners, stretches) in waiting.items():
            for number, count in zip(owners, self._counts[encoder_id].counts(stretches), strict=True):
                counts[number] += count
        return counts

    def _stretches(self, pieces: Sequence[str], mark: str) -> "Iterator[tuple[int, Tokenizer | None, str]]":
        """What pieces consist of: place of the piece, who encodes the stretch, its text; or None and a control token."""
        encoder = self._opening
        for place, piece in enumerate(pieces):
            for text, name in self._parts(piece):
                if text:
                    yield place, encoder, self._show(text, mark)
                    encoder = self._inside
                if name is not None:
                    yield place, None, name
                    encoder = self._after_control

    def _parts(self, piece: str) -> list[tuple[str, str | None]]:
        """Stretches of text, each with the control token that follows it, white space eaten as the token wants."""
        parts: list[tuple[str, str | None]] = []
        at, eaten = 0, False
        for found in self._pattern.finditer(piece):
            text = piece[at : found.start()]
            text = text.lstrip() if eaten else text
            parts.append((text.rstrip() if found[0] in self._eats_left else text, found[0]))
            at, eaten = found.end(), found[0] in self._eats_right
        rest = piece[at:]
        parts.append((rest.lstrip() if eaten else rest, None))
        return parts

    def _show(self, text: str, mark: str) -> str:
        if mark not in text:
            return text
        return re.sub(f"{mark}(\\d+){mark}", lambda found: self._names[int(found[1])], text)


def _tokenizer(state: dict[str, Any]) -> "Tokenizer":
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(json.dumps(state))
    made.encode_special_tokens = True  # as text: the control tokens have been cut out before
    return made


def _without_prefix(state: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The same tokenizer without the space that some put before a text, and whether it is put before the first text only.

    Where a text is cut in two, the second half must not begin with a space that nobody wrote.
    """
    bare: dict[str, Any] = json.loads(json.dumps(state))
    first_only = False
    for part in (*_steps(bare, "normalizer", "normalizers"), *_steps(bare, "pre_tokenizer", "pretokenizers")):
        if part["type"] == "Metaspace":
            first_only = first_only or part.get("prepend_scheme") == "first"
            part["prepend_scheme"] = "never"
        elif part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
        elif part["type"] == "Prepend":
            part["prepend"] = ""
    return bare, first_only


def _steps(state: dict[str, Any], kind: str, many: str) -> list[dict[str, Any]]:
    step = state[kind]
    if step is None:
        return []
    return list(step[many]) if step["type"] == "Sequence" else [step]
