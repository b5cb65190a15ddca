"""Answer length: how many characters a row teaches.

Of all answers that are learnt, with the functions and arguments of their calls. Characters need no tokenizer and rank rows of
one language as tokens do. Source for the score: Zhao et al., "Long Is More for Alignment" (arXiv:2402.04833), where the
1,000 longest answers are a baseline that curated sets have to beat.
"""

from typing import TYPE_CHECKING

from budwood.tool_calls import canonical_text

if TYPE_CHECKING:
    from budwood.data.rows import KeptRow


def answer_length(row: "KeptRow") -> int:
    """Count the characters of a row's learnt answers."""
    learnt = [message for message in row.messages if message["role"] == "assistant" and message.get("train", True)]
    called = [canonical_text(call["function"]) for message in learnt for call in message.get("tool_calls", ())]
    return sum(map(len, (*(message["content"] for message in learnt), *called)))
