"""Messages to token ids, and which of them the model shall learn to produce.

    template = chat_template(tokenizer)
    row = template.encode_row([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    ids = template.encode_prompt([{"role": "user", "content": "Hi"}])       # row.ids starts with exactly these

What is supervised is found by rendering prefixes: an answer begins where the rendered prompt ends, and ends with the control
token that the template closes the turn with. A conversation for which that does not hold is refused, never guessed at. Text
is cut where answers begin and end and encoded piece by piece, in training and in serving alike, so both see the same tokens.
A special token typed into a message stays text.

Errors: `DataError` for conversations, `BaseError` for templates.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from budwood.engine.chat_tokens import ChatTokens
from budwood.engine.packed import Encoded
from budwood.errors import BaseError, DataError
from budwood.identity import Digest, digest_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_TEMPLATE",
    "ROLES",
    "ChatTemplate",
    "Encoded",
    "Message",
    "chat_template",
    "source_digest",
    "template_source",
]

Message = Mapping[str, Any]
"""Role, content, and what else a template reads, as texts; and "train", false for an answer that is not learnt."""

ROLES = ("system", "user", "assistant", "tool", "developer")
"""Roles that may be handed to a template; which of them it takes is its own affair."""

DEFAULT_TEMPLATE = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
"""For bases that have no template: role, colon, text, blank line; an answer ends with the base's own end token."""

TEMPLATE_DATE = date(2024, 7, 26)
"""The day that templates which print today's date are held to: the one that Llama 3's template falls back to."""

TOKENIZER = "the base's tokenizer"
"""Where a template is from when the caller knows no file."""

_CLOCK = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, checked. Made by `chat_template`.

    Args:
        tokenizer: the base's.
        source: Jinja text; rendered in transformers' sandbox.
        stop_ids: tokens that end an answer: what the template closes a turn with, and the tokenizer's end token.
        digest: sha256 of `source`.
        leading: control tokens that the template puts between the prompt's end and an answer's text; mostly 0.
        tokens: encodes rendered text.
    """

    tokenizer: "PreTrainedTokenizerBase"
    source: str
    stop_ids: tuple[int, ...]
    digest: Digest
    leading: int = field(repr=False)
    tokens: ChatTokens = field(repr=False)

    def encode_row(self, messages: Sequence[Message]) -> Encoded:
        """Encode a conversation for training: every answer that is to be learnt is supervised, with the token that ends it.

        What follows the last answer is left out: nothing in it is learnt, and nothing before it looks at it.

        Raises:
            DataError: no answer, an empty one, an unknown role, or a conversation that this template renders such that an
                answer in training would not be what serving sees.
        """
        _check(messages)
        every = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        answers = [index for index in every if messages[index].get("train", True)]
        if every and not answers:
            raise DataError(
                'The row has no supervised token: every answer in it has "train": false.',
                mend='Let one be learnt, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        if not answers:
            raise DataError(
                "The row has no supervised token: it has no assistant message.",
                mend='Give it an answer, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        empty = next((index for index in answers if not messages[index]["content"].strip()), None)
        if empty is not None:
            raise DataError(
                f"Message {empty} (assistant) is empty: the model would learn to say nothing.",
                mend='Give it a text, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
        mark, hidden = self._hide(messages)
        whole = self.render(hidden, generation=False)
        cuts = [self._answer(hidden, index, whole, last=index + 1 == len(hidden)) for index in answers]
        pieces = _pieces(whole, cuts)
        ids: list[int] = []
        supervised: list[bool] = []
        # The last piece follows the last answer.
        for number, piece in enumerate(self.tokens.encode(pieces[:-1], mark)):
            ids += piece
            supervised += [number % 2 == 1] * len(piece)
        return Encoded(tuple(ids), tuple(supervised))

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation that the model shall answer; ends where the answer begins.

        Earlier answers may be empty, or rendered otherwise than when they were the last (templates that drop earlier
        reasoning do that): no row is trained on such a conversation, so there is nothing that it could differ from.

        Raises:
            DataError: no message, an unknown role, or the template refuses the conversation.
        """
        _check(messages)
        mark, hidden = self._hide(messages)
        whole = self.render(hidden, generation=True)
        cuts: list[tuple[int, int]] = []
        for index, message in enumerate(hidden):
            if message["role"] == "assistant":
                try:
                    cuts.append(self._answer(hidden, index, whole))
                except DataError:
                    # Conversations like this one are refused in training, so any cut would do: none is made.
                    continue
        return [id for piece in self.tokens.encode(_pieces(whole, cuts), mark) for id in piece]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of an answer's tokens, without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def token_length(self, messages: Sequence[Message]) -> int:
        """Count a row's tokens after the template.

        Raises:
            DataError: as `encode_row`.
        """
        return len(self.encode_row(messages).ids)

    def render(self, messages: Sequence[Message], *, generation: bool) -> str:
        """Render to text.

        Raises:
            DataError: the template refuses the conversation.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=generation,
            )
        except Exception as error:  # a template is a stranger's program, and fails in any way that a program can
            raise DataError(
                f"The chat template refuses this conversation: {str(error).rstrip('.') or type(error).__name__}.",
                mend="Correct the roles and their order, or the base's template.",
            ) from error
        return str(text)

    def _hide(self, messages: Sequence[Message]) -> tuple[str, list[dict[str, str]]]:
        shown = [{key: str(text) for key, text in message.items() if key != "train"} for message in messages]
        mark = self.tokens.mark([self.source, *(text for message in shown for text in message.values())])
        return mark, [
            {key: text if key == "role" else self.tokens.hide(text, mark) for key, text in message.items()} for message in shown
        ]

    def _answer(self, messages: list[dict[str, str]], index: int, whole: str, *, last: bool = False) -> tuple[int, int]:
        """Where answer `index` begins and ends in the rendered conversation `whole`; `last`: `whole` ends with it.

        Raises:
            DataError: its prompt, or the answer as it stands when it is the last message, is no prefix of `whole`.
        """
        before = self.render(messages[:index], generation=True)
        after = whole if last else self.render(messages[: index + 1], generation=False)
        end = self._closing_end(after, len(before))
        if not after.startswith(before) or not end or not whole.startswith(after[:end]):
            raise DataError(
                f"The chat template renders message {index} (assistant) otherwise in this row than when it has to be "
                "written, so training would not see the tokens that serving sees.",
                mend='Use rows of one turn, mark earlier answers with "train": false, or take a template that leaves earlier '
                "turns as they were.",
            )
        return len(before), end

    def _closing_end(self, text: str, start: int) -> int:
        """Offset behind the control token that closes the answer which begins at `start`; 0 if there is none."""
        ends = [end for begin, end, _ in self.tokens.control_ends(text) if begin >= start]
        return ends[self.leading] if len(ends) > self.leading else 0


def chat_template(tokenizer: "PreTrainedTokenizerBase", source: str | None = None, *, where: str = TOKENIZER) -> ChatTemplate:
    """Make the template of a tokenizer, or of another source with this tokenizer; `where` it is from, for errors.

    Raises:
        BaseError: there are several, it cannot render a question and an answer, it does not close an answer with a control
            token, or it prints the date in a way that cannot be pinned.
    """
    chosen = template_source(source or tokenizer.chat_template, where=where)
    tokens = ChatTokens(tokenizer)
    leading, closing = _probe(tokenizer, chosen, tokens, where)
    ends = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
    return ChatTemplate(tokenizer, chosen, tuple(dict.fromkeys((closing, *ends))), source_digest(chosen), leading, tokens)


def template_source(declared: Any, *, where: str = TOKENIZER) -> str:
    """Give the Jinja text that is used where a base declares this template, or None: the default, and no clock.

    Raises:
        BaseError: there are several, or it prints the date in a way that cannot be pinned.
    """
    if declared is not None and not isinstance(declared, str):
        raise BaseError(
            "The base has several chat templates.",
            where=where,
            mend="Keep one, in chat_template.jinja.",
        )
    return _without_clock(declared or DEFAULT_TEMPLATE, where)


def source_digest(source: str) -> Digest:
    """Digest of a template, as `ChatTemplate.digest` and a base's identity have it."""
    return digest_bytes(source.encode("utf-8", "surrogatepass"))


def _probe(tokenizer: "PreTrainedTokenizerBase", source: str, tokens: ChatTokens, where: str) -> tuple[int, int]:
    """Render a question and an answer: how many control tokens stand before the answer's text, and what closes it."""
    trial = ChatTemplate(tokenizer, source, (), Digest(""), 0, tokens)
    question, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
    try:
        before = trial.render([question], generation=True)
        after = trial.render([question, answer], generation=False)
    except DataError as error:
        raise BaseError(
            f"The base's chat template cannot render a question and an answer: {error.what}",
            where=where,
            mend="Correct chat_template.jinja.",
        ) from error
    place = after.find(answer["content"], len(before))
    if not after.startswith(before) or place < 0:
        raise BaseError(
            "The base's chat template renders an answer otherwise than its prompt promises: what add_generation_prompt "
            "gives is no prefix of the answered conversation.",
            where=where,
            mend="Correct chat_template.jinja, so that add_generation_prompt adds exactly what comes before an answer.",
        )
    controls = [found for found in tokens.control_ends(after) if found[0] >= len(before)]
    leading = sum(begin < place for begin, _, _ in controls)
    if len(controls) == leading:
        raise BaseError(
            "The base's chat template does not close an answer with a special token, so a model could never learn to stop.",
            where=where,
            mend="Add eos_token after the assistant's content in chat_template.jinja.",
        )
    return leading, controls[leading][2]


def _without_clock(source: str, where: str) -> str:
    """Put a fixed date in the place of today's: a prompt must not change overnight, nor between training and serving."""
    fixed = _CLOCK.sub(lambda call: repr(TEMPLATE_DATE.strftime(call[2])), source)
    if re.search(r"strftime_now\s*\(", fixed):
        raise BaseError(
            "The base's chat template asks for the date in a way that cannot be fixed: strftime_now without literal format.",
            where=where,
            mend="Write the date out in chat_template.jinja.",
        )
    return fixed


def _pieces(whole: str, cuts: Sequence[tuple[int, int]]) -> list[str]:
    """Cut text at answers: before the first, the first, between, …, after the last."""
    places = [0, *(place for cut in cuts for place in cut), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise DataError("The conversation has no message.", mend="Give it at least one user message.")
    for number, message in enumerate(messages):
        role: Any = message.get("role")
        if role not in ROLES:
            raise DataError(f"Message {number} has the unknown role {role!r}.", mend=f"Known roles: {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise DataError(f"Message {number} ({role}) has no text content.", mend="Give content as a string.")
        odd = [key for key, value in message.items() if not isinstance(value, bool if key == "train" else str)]
        if odd:
            raise DataError(f"Message {number} ({role}) has {odd[0]!r} that is no text.", mend="Leave it out.")
