"""Between text and token ids, for one engine.

Short prompts are encoded where they arrive, in the event loop; a long one must not hold that up and goes to a thread of its
own. A fast tokenizer's settings are not safe to change while another thread reads them, so each of the two has its own copy.
"""

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError

if TYPE_CHECKING:
    from budwood.engine.chat import ChatTemplate


LONG_CHARACTERS = 8192
"""From here on a prompt is encoded in the other thread: about 2 ms of work against two switches of threads."""


class Texts:
    """Tokenizer and chat template of one base. Its methods belong to one thread; `aside` is the same for another one.

    Args:
        tokenizer: the base's; it is copied.
        vocab: ids below this are valid.
    """

    def __init__(self, tokenizer: Any, *, vocab: int) -> None:
        from budwood.engine.chat import chat_template

        self.vocab = vocab
        self._tokenizer = copy.deepcopy(tokenizer)
        self.template: ChatTemplate = chat_template(self._tokenizer)

    @cached_property
    def aside(self) -> "Texts":
        """A copy for `executor`, made there at first use."""
        return Texts(self._tokenizer, vocab=self.vocab)

    @cached_property
    def executor(self) -> ThreadPoolExecutor:
        """One thread for what takes long: encoding long prompts, compiling schemas."""
        return ThreadPoolExecutor(1, thread_name_prefix="encode")

    def close(self) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[int, ...]:
        """Render messages with the release's template, up to where the answer begins.

        Raises:
            DataError: the template does not take these messages, or leaves out tools, calls or results.
        """
        return tuple(self.template.encode_prompt(messages, tools))

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode plain text; control tokens typed in it stay text.

        Raises:
            DataError: it has no tokens.
        """
        ids = self._tokenizer.encode(text, add_special_tokens=True, split_special_tokens=True)
        if not ids:
            raise DataError("The prompt has no tokens.", mend="Send some text.")
        return tuple(ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of an answer, control tokens left out."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def token_text(self, token: int) -> str:
        """Text of one token as the log-probability lists show it, control tokens included."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def token_bytes(self, token: int) -> list[int] | None:
        """Bytes of one token, which may be part of a character; None where the tokenizer cannot say."""
        text = self.token_text(token)
        if "\ufffd" not in text:
            return list(text.encode())
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return [int(piece[3:5], 16)]
        if all(character in self._byte_of for character in piece):
            return [self._byte_of[character] for character in piece]
        return None

    @cached_property
    def _byte_of(self) -> dict[str, int]:
        """How byte-level tokenizers write bytes: printable Latin-1 as itself, the rest from U+0100 on, in order."""
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        rest = [byte for byte in range(256) if byte not in set(printable)]
        return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(rest)}


class TextStream:
    """Turns a stream of tokens into a stream of text: no half characters, nothing of a stop string, nothing twice.

    Args:
        texts: decodes.
        stops: strings that end the answer and are no part of it.
    """

    MOST_HELD = 8
    """Tokens after which bytes that form no character are given out as they decode: a character has at most 4 bytes."""

    def __init__(self, texts: Texts, stops: Sequence[str] = ()) -> None:
        self._texts = texts
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._window = 0
        self._read = 0
        self._before = ""
        self._held = ""
        self.stopped = False
        self.length = 0
        """Characters decoded so far, given out or not."""
        self.given = 0
        """Characters given out so far."""

    def push(self, token: int) -> str:
        """Take one token and give the text that is now certain."""
        self._tokens.append(token)
        window = self._texts.decode(self._tokens[self._window :])
        if window.endswith("\ufffd") and len(self._tokens) - self._read < self.MOST_HELD:
            return ""
        fresh = window[len(self._before) :]
        # The window keeps the tokens of the last piece: some tokenizers write a token differently at the start of a text.
        self._window, self._read = self._read, len(self._tokens)
        self._before = self._texts.decode(self._tokens[self._window : self._read])
        return self._give(fresh)

    def end(self) -> str:
        """Give what was held back. Call once, after the last token, unless `stopped`."""
        window = self._texts.decode(self._tokens[self._window :])
        rest = self._give(window[len(self._before) :])
        if not self.stopped:
            rest += self._held
            self.given += len(self._held)
            self._held = ""
        return rest

    def _give(self, fresh: str) -> str:
        self.length += len(fresh)
        self._held += fresh
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            out, self._held = self._held[: min(places)], ""
        else:
            keep = _possible_stop(self._held, self._stops)
            out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self.given += len(out)
        return out


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that could be the beginning of a stop string."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
