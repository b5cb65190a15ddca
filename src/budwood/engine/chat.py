"""Messages to token ids, and which of them the model shall learn to produce.

    template = chat_template(tokenizer)
    row = template.encode_row([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    ids = template.encode_prompt([{"role": "user", "content": "Hi"}])       # row.ids starts with exactly these

What is supervised is found by rendering prefixes: everything that the template adds when an assistant message is appended to
the rendered prompt, up to and with the token that closes the turn. A template for which that does not hold is refused, never
guessed at. Text is encoded in pieces that end where an answer begins or ends, in training and in serving alike, so both see
the same tokens. A special token typed into a message stays text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.engine.packed import Encoded
from budwood.errors import BaseError, DataError
from budwood.identity import Digest, digest_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]

ROLES = ("system", "user", "assistant", "tool", "developer")

DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
"""For bases that have no template: role, colon, text, blank line; an answer ends with the base's own end token."""

OPEN, CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{OPEN}(\\d+){CLOSE}")


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, checked.

    Args:
        tokenizer: the base's.
        source: Jinja text; rendered in transformers' sandbox.
        stop_ids: tokens that end an answer: what the template closes a turn with, and the tokenizer's end token.
        digest: sha256 of `source`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    source: str
    stop_ids: tuple[int, ...]
    digest: Digest

    def encode_row(self, messages: Sequence[Message]) -> Encoded:
        """Encode a conversation for training: every assistant turn is supervised.

        Raises:
            DataError: no assistant turn, an unknown role, or a conversation that this template renders in a way that its
                parts cannot be told apart.
        """
        _check(messages)
        ids: list[int] = []
        supervised: list[bool] = []
        for text, is_answer in self._pieces(messages, generation=False):
            piece = self._encode(text)
            ids += piece
            supervised += self._marks(piece) if is_answer else [False] * len(piece)
        if not any(supervised):
            raise DataError(
                "The row has no supervised token: it has no assistant message, or only an empty one.",
                mend='Give it an answer, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        return Encoded(tuple(ids), tuple(supervised))

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation that the model shall answer; ends where the answer begins.

        Raises:
            DataError: as `encode_row`, but no assistant turn is needed.
        """
        _check(messages)
        return [id for text, _ in self._pieces(messages, generation=True) for id in self._encode(text)]

    def render(self, messages: Sequence[Message], *, generation: bool) -> str:
        """Render to text."""
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation,
            )
        except (TypeError, ValueError, KeyError) as error:
            raise _unrenderable(error) from error
        except Exception as error:
            # Jinja's own error classes: a template that calls raise_exception, e.g. for roles that do not alternate.
            if type(error).__module__.partition(".")[0] != "jinja2":
                raise
            raise _unrenderable(error) from error
        return str(text)

    def _pieces(self, messages: Sequence[Message], *, generation: bool) -> list[tuple[str, bool]]:
        """Cut the rendered conversation where answers begin and end."""
        hidden = [self._hide(message) for message in messages]
        pieces: list[tuple[str, bool]] = []
        done = ""
        for index, message in enumerate(hidden):
            if message["role"] != "assistant":
                continue
            before = self.render(hidden[:index], generation=True)
            after = self.render(hidden[: index + 1], generation=False)
            if not (before.startswith(done) and after.startswith(before)):
                raise _not_prefix(index)
            pieces += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
        whole = self.render(hidden, generation=generation)
        if not whole.startswith(done):
            raise _not_prefix(len(messages) - 1)
        return [*pieces, (whole[len(done) :], False)]

    def _hide(self, message: Message) -> dict[str, str]:
        """Put marks in the place of special tokens that somebody typed."""
        content = message["content"]
        if OPEN in content or CLOSE in content:
            content = content.replace(OPEN, "\ufffd").replace(CLOSE, "\ufffd")
        for number, token in enumerate(self.tokenizer.all_special_tokens):
            if token and token in content:
                content = content.replace(token, f"{OPEN}{number}{CLOSE}")
        return {**message, "content": content}

    def _encode(self, text: str) -> list[int]:
        if OPEN not in text:
            return self._plain(text, split=False)
        ids: list[int] = []
        for number, part in enumerate(_MARK.split(text)):
            if number % 2:
                ids += self._plain(self.tokenizer.all_special_tokens[int(part)], split=True)
            elif part:
                ids += self._plain(part, split=False)
        return ids

    def _plain(self, text: str, *, split: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=split)["input_ids"]
        return ids

    def _marks(self, piece: list[int]) -> list[bool]:
        """Supervise an answer up to and with the token that closes it; the line break that may follow is the template's."""
        last = max((index for index, id in enumerate(piece) if id in self.stop_ids), default=-1)
        if last < 0:
            raise DataError(
                "The template does not close the answer with an end token, so the model would never learn to stop.",
                mend="Use a base whose template closes assistant turns.",
            )
        return [index <= last for index in range(len(piece))]


def chat_template(tokenizer: "PreTrainedTokenizerBase", source: str | None = None) -> ChatTemplate:
    """Make the template of a tokenizer, or of another source with this tokenizer.

    Raises:
        BaseError: it cannot render one question and answer, or does not close an answer.
    """
    chosen = source or tokenizer.chat_template or DEFAULT_TEMPLATE
    if not isinstance(chosen, str):
        raise BaseError("The base has several chat templates.", mend="Keep one, in chat_template.jinja.")
    ends = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    special = set(tokenizer.all_special_ids)
    trial = ChatTemplate(tokenizer, chosen, tuple(special), digest_bytes(chosen.encode()))
    try:
        row = trial.encode_row([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
    except DataError as error:
        raise BaseError(f"The base's chat template cannot be used: {error.what}", mend=error.mend) from error
    closing = next(id for id, wanted in zip(reversed(row.ids), reversed(row.supervised), strict=True) if wanted)
    return ChatTemplate(tokenizer, chosen, tuple(dict.fromkeys((closing, *ends))), trial.digest)


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise DataError("The conversation has no message.", mend="Give it at least one user message.")
    for number, message in enumerate(messages):
        role: Any = message.get("role")
        if role not in ROLES:
            raise DataError(f"Message {number} has the unknown role {role!r}.", mend=f"Known roles: {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise DataError(f"Message {number} ({role}) has no text content.", mend="Give content as a string.")


def _unrenderable(error: Exception) -> DataError:
    return DataError(
        f"The chat template refuses this conversation: {error}.", mend="Correct the order of roles, or the base's template."
    )


def _not_prefix(index: int) -> DataError:
    return DataError(
        f"The chat template renders earlier turns differently once message {index} follows, so the tokens that training "
        "would see are not those of serving.",
        mend="Use single-turn rows, or a template that leaves earlier turns as they were.",
    )
