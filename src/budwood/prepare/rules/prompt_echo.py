"""prompt_echo: an answer that repeats its prompt teaches a model to repeat.

Dropped when the answer is the prompt, but for case, marks and white space, or begins with the whole of it (prompts of 20
characters and more, so that "yes" may be answered by "Yes, ..."); a lead-in such as "Question:" or a quotation mark before it
makes no difference. So does an answer in which hardly a letter differs (97 % alike). Leave it out for tasks in which an
unchanged text is a right answer, such as proofreading.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.text.normalise import normalise

LEAST = 20
ALIKE = 97.0
"""Percent, as rapidfuzz counts: one letter in thirty inserted, deleted or (counted twice) replaced."""
_HEAD = 160
_LEAD = re.compile(
    r"(?:(?:(?:the |your |my )?(?:question|prompt|instruction|input|user|human|query|request|task|message|customer|q)"
    r"(?: (?:is|was))?"
    r"|you (?:asked|said|wrote)|(?:sure|okay|ok|certainly|of course|assistant|answer|response|bot|a|output|re|fwd?)) )+"
)
_QUOTES = "\"'.,:;!?()[]{}<>*_#`-"
_ENDS = _QUOTES + " \n\t"
_MARKS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class PromptEcho:
    name: ClassVar[str] = "prompt_echo"
    version: ClassVar[int] = 2

    def options(self) -> dict[str, Any]:
        return {"least_characters": LEAST, "alike": ALIKE}

    def leaves(self, pair: Pair) -> bool:
        return not _may_echo(pair.asked, pair.answered)

    def apply(self, row: Row) -> Row | Drop:
        for asked, answered in zip(row.messages, row.messages[1:], strict=False):
            if asked.role != "user" or answered.role != "assistant" or not _may_echo(asked.content, answered.content):
                continue
            fault = _echo(_bare(asked.content), _bare(answered.content))
            if fault:
                return Drop(fault)
        return row


def _may_echo(asked: str, answered: str) -> bool:
    """Look quickly: an echo has the prompt's first words among its own, or is as long and has its last signs."""
    if len(answered) < len(asked) // 2:
        return False
    if abs(len(answered) - len(asked)) * 20 <= len(asked) and asked.rstrip(_ENDS)[-10:].casefold() in answered.casefold():
        return True
    head = answered[: 2 * _HEAD].casefold()
    for word in asked[:_HEAD].casefold().split(None, 5)[:5]:
        bare = word.strip(_QUOTES)
        # Mostly the first word is not among the answer's, and nothing else needs to be done.
        if bare not in head and bare.isascii():
            return False
    first = _bare(asked[:_HEAD])[:12]
    return len(first) >= 12 and first in _bare(answered[:_HEAD])


def _echo(prompt: str, answer: str) -> str:
    if len(prompt) < LEAST:
        return ""
    lead = None if answer.startswith(prompt) else _LEAD.match(answer)
    answer = answer[lead.end() :] if lead else answer
    if answer == prompt:
        return "the answer is the prompt"
    if answer.startswith(f"{prompt} "):
        return "the answer begins with the whole prompt"
    if abs(len(answer) - len(prompt)) * 20 > len(prompt):
        return ""
    from rapidfuzz import fuzz

    return "the answer is the prompt, but for a letter or two" if fuzz.ratio(prompt, answer, score_cutoff=ALIKE) else ""


def _bare(text: str) -> str:
    """Words alone, in one form."""
    return _MARKS.sub(" ", normalise(text)).strip()
