"""Messages to token ids, and which of them the model shall learn to produce.

    template = chat_template(tokenizer)
    row = template.encode_row([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    ids = template.encode_prompt([{"role": "user", "content": "Hi"}])       # row.ids starts with exactly these

What is supervised is found by rendering prefixes: an answer begins where the rendered prompt ends, and ends with the control
token that the template closes the turn with. A conversation for which that does not hold is refused, never guessed at. Text
is cut where answers begin and end and encoded piece by piece, in training and in serving alike, so both see the same tokens.
A special token typed into a message stays text.

An answer may call tools, and is learnt as any other; results are read, never learnt. Templates leave out in silence what they
do not know: a conversation with tools, calls or results of which anything does not show is refused.

Errors: `DataError` for conversations, `BaseError` for templates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from budwood.engine.chat_sandbox import one_budget, render_template
from budwood.engine.chat_shown import check_shown
from budwood.engine.chat_source import TOKENIZER, source_digest, template_source
from budwood.engine.chat_tokens import ChatTokens
from budwood.engine.conversation import Conversation, Message, checked
from budwood.engine.packed import Encoded
from budwood.errors import BaseError, DataError
from budwood.identity import Digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ChatTemplate",
    "Encoded",
    "Message",
    "chat_template",
]

_QUESTION = {"role": "user", "content": "question"}


@dataclass(frozen=True)
class _Cut:
    """A rendered row in pieces, and which of them are learnt; special tokens in its messages are hidden behind `mark`."""

    pieces: list[str]
    learnt: list[bool]
    mark: str


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, checked. Made by `chat_template`.

    Args:
        tokenizer: the base's.
        source: Jinja text; rendered within bounds, see `chat_sandbox`.
        stop_ids: tokens that end an answer: what the template closes a turn with, one that calls a tool included, and the
            tokenizer's end token.
        digest: sha256 of `source`.
        leading: control tokens that the template puts between the prompt's end and an answer's text; mostly none.
        tokens: encodes rendered text.
    """

    tokenizer: "PreTrainedTokenizerBase"
    source: str
    stop_ids: tuple[int, ...]
    digest: Digest
    leading: tuple[int, ...] = field(repr=False)
    tokens: ChatTokens = field(repr=False)

    def encode_row(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Encoded:
        """Encode a conversation for training: every answer that is to be learnt is supervised, with the token that ends it.

        What follows the last answer is left out: nothing in it is learnt, and nothing before it looks at it.

        Args:
            messages: the conversation.
            tools: schemas of the functions that it may call.

        Raises:
            DataError: no answer, an empty one, an unknown role, a call or schema that is not understood, a conversation that
                this template renders such that an answer in training would not be what serving sees, or of whose tools it
                leaves something out.
        """
        cut = self._cut(messages, tools)
        ids: list[int] = []
        supervised: list[bool] = []
        for piece, learnt in zip(self.tokens.encode(cut.pieces, cut.mark), cut.learnt, strict=True):
            ids += piece
            supervised += [learnt] * len(piece)
        return Encoded(tuple(ids), tuple(supervised))

    def encode_prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Encode a conversation that the model shall answer; ends where the answer begins.

        Earlier answers may be empty, or rendered otherwise than when they were the last (templates that drop earlier
        reasoning do that): no row is trained on such a conversation, so there is nothing that it could differ from.

        Args:
            messages: the conversation.
            tools: schemas of the functions that the answer may call.

        Raises:
            DataError: no message, an unknown role, a call or schema that is not understood, or the template refuses the
                conversation, or leaves out some of its tools.
        """
        talk = checked(messages, tools)
        try:
            with one_budget():
                return self._prompt_ids(talk)
        except TemplateError as error:
            # A part was left unrendered, and text would be cut into tokens elsewhere: an answer to another prompt.
            raise _refused(error) from error

    def _prompt_ids(self, talk: Conversation) -> list[int]:
        mark, hidden = self._hide(talk)
        whole = self._rendered(hidden, mark, generation=True)
        if talk.has_tools:
            check_shown(hidden, lambda talk: self._text(talk, generation=True), whole, {}, self.tokens)
        answers = self._answers(hidden, whole, range(len(hidden.messages)), learnt=(), complete=False)
        return [id for piece in self.tokens.encode(_pieces(whole, list(answers.values())), mark) for id in piece]

    def answer_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """Give the last answer as a model that has learnt it writes it: `decode` of its tokens, calls included.

        Raises:
            DataError: as `encode_row`.
        """
        last = max((index for index, message in enumerate(messages) if message.get("role") == "assistant"), default=-1)
        one = [{**message, "train": index == last} for index, message in enumerate(messages[: last + 1])]
        row = self.encode_row(one, tools)
        written = [id for id, learnt in zip(row.ids, row.supervised, strict=True) if learnt]
        return self.decode(written[:-1])

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of an answer's tokens, without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def token_length(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
        """Count a row's tokens after the template.

        Raises:
            DataError: as `encode_row`.
        """
        return len(self.encode_row(messages, tools).ids)

    def token_lengths(self, rows: Sequence[tuple[Sequence[Message], Sequence[Mapping[str, Any]]]]) -> list[int | DataError]:
        """Count the tokens of many rows, each given as messages and tools: several times as fast as one by one.

        What `token_length` would raise for a row is given in its place.
        """
        cuts = [self._tried_cut(*row) for row in rows]
        whole = [cut for cut in cuts if isinstance(cut, _Cut)]
        counts = iter(self.tokens.lengths([(cut.pieces, cut.mark) for cut in whole]))
        return [next(counts) if isinstance(cut, _Cut) else cut for cut in cuts]

    def _tried_cut(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> "_Cut | DataError":
        try:
            return self._cut(messages, tools)
        except DataError as fault:
            return fault

    def _cut(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> "_Cut":
        """Render a row and cut it where answers begin and end."""
        talk = checked(messages, tools)
        learnt = _learnt(talk)
        mark, hidden = self._hide(talk)
        whole = self._rendered(hidden, mark, generation=False)
        answers = self._answers(hidden, whole, range(learnt[-1] + 1), learnt=learnt, complete=True)
        if talk.has_tools:
            spans = {index: answers[index] for index in learnt}
            check_shown(hidden, lambda talk: self._text(talk, generation=False), whole, spans, self.tokens)
        # The last piece follows the last answer.
        pieces = _pieces(whole, list(answers.values()))[:-1]
        return _Cut(pieces, [one for index in answers for one in (False, index in learnt)], mark)

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, generation: bool) -> str:
        """Render to text.

        Raises:
            DataError: the template refuses the conversation.
        """
        try:
            return render_template(
                self.source,
                {
                    **self.tokenizer.special_tokens_map,
                    "messages": [_with_reasoning(message) for message in messages],
                    "tools": [dict(tool) for tool in tools] or None,
                    "documents": None,
                    "add_generation_prompt": generation,
                },
            )
        except Exception as error:  # a template is a stranger's program, and fails in any way that a program can
            raise _refused(error) from error

    def _hide(self, talk: Conversation) -> tuple[str, Conversation]:
        mark = self.tokens.mark([self.source, *talk.texts])
        return mark, talk.mapped(lambda text: self.tokens.hide(text, mark))

    def _rendered(self, hidden: Conversation, mark: str, *, generation: bool) -> str:
        text = self._text(hidden, generation=generation)
        if f"\\u{ord(mark):x}" in text.lower():
            # Written as an escape, the mark would not be found again.
            raise DataError(
                "The conversation holds a special token of the base in a place whose characters the chat template escapes.",
                mend="Take the token out of the text.",
            )
        return text

    def _text(self, talk: Conversation, *, generation: bool) -> str:
        return self.render(talk.messages, talk.tools, generation=generation)

    def _answers(
        self, talk: Conversation, whole: str, places: range, *, learnt: Sequence[int], complete: bool
    ) -> dict[int, tuple[int, int]]:
        """Where the answers among messages `places` begin and end in the rendered conversation `whole`.

        Others than those learnt are looked for too, since text is cut there when they are written; where one is rendered
        otherwise than that, any cut would do, and none is made. `complete`: `whole` ends with the last message.

        Raises:
            DataError: one that is learnt is rendered otherwise than when it has to be written.
        """
        found: dict[int, tuple[int, int]] = {}
        for index in places:
            if talk.messages[index]["role"] != "assistant":
                continue
            try:
                found[index] = self._answer(talk, index, whole, last=complete and index + 1 == len(talk.messages))
            except DataError:
                if index in learnt:
                    raise
        return found

    def _answer(self, talk: Conversation, index: int, whole: str, *, last: bool) -> tuple[int, int]:
        """Where answer `index` begins and ends in the rendered conversation `whole`; `last`: `whole` ends with it.

        Raises:
            DataError: its prompt, or the answer as it stands when it is the last message, is no prefix of `whole`.
        """
        before = self.render(talk.messages[:index], talk.tools, generation=True)
        after = whole if last else self.render(talk.messages[: index + 1], talk.tools, generation=False)
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
        ends = [(end, id) for begin, end, id in self.tokens.control_ends(text) if begin >= start]
        if tuple(id for _, id in ends[: len(self.leading)]) == self.leading:
            ends = ends[len(self.leading) :]
        return next((end for end, id in ends if id in self.stop_ids), 0)


def _refused(error: Exception) -> DataError:
    return DataError(
        f"The chat template refuses this conversation: {str(error).rstrip('.') or type(error).__name__}.",
        mend="Correct the roles and their order, or the base's template.",
    )


def _with_reasoning(message: Message) -> dict[str, Any]:
    """Give a message's reasoning under each name that templates read it under, as transformers does."""
    names = ("reasoning_content", "thinking", "reasoning")
    found = next((message[name] for name in names if message.get(name) is not None), None)
    return dict(message) if found is None else {"thinking": found, **message, "reasoning_content": found}


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
    stops = tuple(dict.fromkeys((closing, *ends)))
    template = ChatTemplate(tokenizer, chosen, stops, source_digest(chosen), leading, tokens)
    return replace(template, stop_ids=(*stops, *_call_closing(template)))


def _probe(tokenizer: "PreTrainedTokenizerBase", source: str, tokens: ChatTokens, where: str) -> tuple[tuple[int, ...], int]:
    """Render a question and an answer: which control tokens stand before the answer's text, and what closes it."""
    trial = ChatTemplate(tokenizer, source, (), Digest(""), (), tokens)
    question, answer = _QUESTION, {"role": "assistant", "content": "answer"}
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
    return tuple(id for _, _, id in controls[:leading]), controls[leading][2]


def _call_closing(template: ChatTemplate) -> tuple[int, ...]:
    """Render a question and a call of a tool: what closes that turn, where it is no token that closes others."""
    call = {"role": "assistant", "tool_calls": [{"id": "call00001", "name": "find", "arguments": {"city": "Bonn"}}]}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tagged = checked([_QUESTION, call], [{"name": "find", "description": "Find a city.", "parameters": schema}]).tagged()
    talk = tagged.conversation
    try:
        before = template.render(talk.messages[:1], talk.tools, generation=True)
        after = template.render(talk.messages, talk.tools, generation=False)
    except DataError:
        # It knows no tools: conversations with some are refused one by one.
        return ()
    places = [after.find(tag.word, len(before)) for tag in tagged.tags if tag.message is not None]
    controls = [id for begin, _, id in template.tokens.control_ends(after) if begin > max(places)]
    if min(places) < 0 or not controls or not set(controls).isdisjoint(template.stop_ids):
        return ()
    return (controls[-1],)


def _pieces(whole: str, cuts: Sequence[tuple[int, int]]) -> list[str]:
    """Cut text at answers: before the first, the first, between, …, after the last."""
    places = [0, *(place for cut in cuts for place in cut), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


def _learnt(talk: Conversation) -> list[int]:
    """The answers that are to be learnt, in order.

    Raises:
        DataError: there is none, or one of them says nothing.
    """
    answers = [index for index, learnt in enumerate(talk.learnt) if learnt]
    if not answers and any(message["role"] == "assistant" for message in talk.messages):
        raise DataError(
            'The row has no supervised token: every answer in it has "train": false.',
            mend='Let one be learnt, or set [prepare] no_target = "reject" to drop such rows with a record.',
        )
    if not answers:
        raise DataError(
            "The row has no supervised token: it has no assistant message.",
            mend='Give it an answer, or set [prepare] no_target = "reject" to drop such rows with a record.',
        )
    for index in answers:
        message = talk.messages[index]
        if not message["content"].strip() and "tool_calls" not in message:
            raise DataError(
                f"Message {index} (assistant) is empty: the model would learn to say nothing.",
                mend='Give it a text, or set [prepare] no_target = "reject" to drop such rows with a record.',
            )
    return answers
