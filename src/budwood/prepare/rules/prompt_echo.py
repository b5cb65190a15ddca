"""prompt_echo: an answer that repeats its prompt teaches a model to repeat.

Dropped when the answer is the prompt, or begins with the whole of it (prompts of 20 characters and more, so that "yes" may
be answered by "Yes, ..."). Leave it out for tasks in which an unchanged text is a right answer, such as proofreading.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row
from budwood.text.normalise import normalise

LEAST = 20


@dataclass(frozen=True)
class PromptEcho:
    name: ClassVar[str] = "prompt_echo"
    version: ClassVar[int] = 1

    def options(self) -> dict[str, Any]:
        return {"least_characters": LEAST}

    def apply(self, row: Row) -> Row | Drop:
        for asked, answered in zip(row.messages, row.messages[1:], strict=False):
            if asked.role != "user" or answered.role != "assistant" or len(answered.content) < len(asked.content) // 2:
                continue
            if not _begin_alike(asked.content, answered.content):
                continue
            prompt, answer = normalise(asked.content), normalise(answered.content)
            if answer == prompt and len(prompt) >= LEAST:
                return Drop("the answer is the prompt")
            if len(prompt) >= LEAST and answer.startswith(prompt):
                return Drop("the answer begins with the whole prompt")
        return row


def _begin_alike(prompt: str, answer: str) -> bool:
    """Say whether two texts may begin with the same word; a no is certain, and spares most rows the closer look."""
    first, second = prompt.lstrip()[:1], answer.lstrip()[:1]
    return not (first.isascii() and second.isascii()) or first.casefold() == second.casefold()
