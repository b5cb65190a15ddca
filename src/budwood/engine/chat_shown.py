"""Whether a rendered conversation shows its tools, calls and results, each where it has to be."""

from collections.abc import Callable, Mapping, Sequence

from budwood.engine.chat_tokens import ChatTokens
from budwood.engine.conversation import Conversation
from budwood.errors import DataError

Span = tuple[int, int]
"""Where an answer begins and ends in a rendered conversation."""


def check_shown(
    talk: Conversation,
    render: Callable[[Conversation], str],
    whole: str,
    answers: Mapping[int, Span],
    tokens: ChatTokens,
) -> None:
    """Render once more with a word behind every text of tools, calls and results, and look for the words.

    Args:
        talk: the conversation.
        render: gives its text.
        whole: that text.
        answers: message → its place in `whole`; all that it says has to show there. What others say has to show somewhere.
        tokens: finds control tokens.

    Raises:
        DataError: something does not show.
    """
    tagged = talk.tagged()
    marked = render(tagged.conversation)
    places = _places(whole, marked, answers, tokens)
    for tag in tagged.tags:
        begin, end = (0, len(marked)) if tag.message is None else places.get(tag.message, (0, len(marked)))
        if marked.find(tag.word, begin, end) >= 0:
            continue
        where = "the tools" if tag.message is None else f"message {tag.message} ({talk.messages[tag.message]['role']})"
        if tag.word in marked:
            raise DataError(
                f"The chat template writes {tag.what} of {where} outside of the answer, behind a token that ends it.",
                mend="Use rows that call one tool at a time, or take a template that writes an answer's calls into one turn.",
            )
        raise DataError(
            f"The chat template leaves out {tag.what} of {where}.",
            mend="Take a base whose template renders tools, calls and results, or mend its chat_template.jinja.",
        )


def _places(whole: str, marked: str, answers: Mapping[int, Span], tokens: ChatTokens) -> dict[int, Span]:
    """Where answers lie in a text that differs from `whole` between control tokens only."""
    ours, theirs = tokens.control_ends(whole), tokens.control_ends(marked)
    if answers and [id for _, _, id in ours] != [id for _, _, id in theirs]:
        raise DataError(
            "The chat template writes other special tokens when a text of a tool call changes.",
            mend="Take a template in which they depend on roles and order alone.",
        )
    ends = [0, *(end for _, end, _ in theirs)]
    return {index: (ends[_count(ours, begin)], ends[_count(ours, end)]) for index, (begin, end) in answers.items()}


def _count(controls: Sequence[tuple[int, int, int]], place: int) -> int:
    """How many control tokens end at `place` or before."""
    return sum(end <= place for _, end, _ in controls)
