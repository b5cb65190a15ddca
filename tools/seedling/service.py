"""Customer-service English: a message about one situation of one domain, in one of very many wordings.

The situations are in grammars/service/*.txt (`* domain`, then `= situation | what it means`, then one pattern a line).
`message` wraps a wording into the frame of a real message: greeting, context, feeling, urgency, thanks, typing mistakes.
Written from general knowledge of what customers ask; no data set was looked at.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tools.seedling.wording import GRAMMARS, say


@dataclass(frozen=True, slots=True)
class Situation:
    """One thing that customers write about."""

    name: str
    meaning: str
    domain: str
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A customer's message with all that is known of it; `values` are the slots that occur in it."""

    text: str
    situation: Situation
    sentiment: str
    urgency: str
    values: dict[str, str] = field(hash=False)


GREETINGS = (
    "hi",
    "hello",
    "hey",
    "good morning",
    "good evening",
    "dear team",
    "hi there",
    "hello there",
    "hey team",
    "greetings",
    "dear sir or madam",
)
CLOSINGS = (
    "(thanks|thank you|many thanks|cheers|thx|thanks in advance|thank you very much)",
    (
        "(please help|please advise|can you help|any help is welcome|what should i do|"
        "what can i do|what now|please sort this out)"
    ),
    "(let me know|please let me know|please get back to me|i look forward to your answer|waiting for your reply)",
    "(kind regards|best|regards|best wishes),? <name>".replace("?", ""),
)
CONTEXT = (
    "i(m| am|'m) (a new|an old|a loyal|a longtime) customer",
    "i (have a|have one|have a quick|got a) question",
    "i (just|only) (joined|signed up|started using this) (last week|recently|this month|)",
    (
        "i (checked|read|looked at|went through) (the faq|your help page|the website|"
        "the manual) (and|but) (found nothing|could not find an answer|it did not help)"
    ),
    "i (was|am) (in <city>|on holiday|at work|on a trip|in a shop) (right now|last week|today|)",
    "i (called|wrote to|emailed|contacted) you (@ago |)(already|before|about this)",
    "(my name is|this is|i am) <name>",
    "(something happened|i noticed something) (today|yesterday|this morning)",
    "this is (the first time|the second time|not the first time) (it happens|i ask|)",
    "(i have|there is) (one thing|something) i (need|want) to (ask|know|sort out)",
)
FEELINGS = {
    "negative": (
        (
            "(this is|it is|that's) (very|really|so|extremely|) (annoying|frustrating|disappointing|"
            "unacceptable|ridiculous|a nightmare|terrible|poor service)"
        ),
        "i('m| am) (very|really|so|quite|pretty|) (angry|upset|annoyed|unhappy|disappointed|fed up|frustrated|furious)",
        "(worst|what a terrible|what an awful) (service|company|experience) (ever|)",
        "(i expected better|this is not good enough|i have had enough|i won't come back|i regret choosing you)",
        "(nobody helps|no one answers|you keep ignoring me|i keep getting the same useless answer)",
    ),
    "positive": (
        (
            "i (love|really like|am very happy with|am pleased with|enjoy) (your service|the product|"
            "it|your shop) (so far|otherwise|)"
        ),
        "(great|excellent|lovely|fantastic|wonderful|brilliant) (service|work|app|team|so far)",
        "(you have always been helpful|your team is great|everything else is perfect|keep up the good work)",
        "(thanks for the great service|i appreciate your help|you are the best)",
    ),
    "neutral": (),
}
URGENCY = {
    "high": (
        "(this is|it's|it is) (urgent|very urgent|an emergency|time critical)",
        "i need (this|it|an answer|help) (@soon|right now|before tonight|by tomorrow|within the hour|immediately)",
        "(please hurry|asap|as soon as you can please|i can't wait any longer|every minute counts)",
    ),
    "low": (
        (
            "(no rush|no hurry|there is no rush|take your time|whenever you have time|it can wait|"
            "not urgent|when you get a chance)"
        ),
        "(just curious|just wondering|only asking|just for my information)",
    ),
    "normal": (),
}


def message(
    rng: random.Random, situation: Situation, *, plain: bool = False, known: Mapping[str, str] | None = None
) -> Message:
    """Draw a message; `plain` leaves out the frame, so that it is one sentence like a typed query.

    `known` gives slots a value beforehand; slots that the wording does not use are in `values` all the same.
    """
    values: dict[str, str] = dict(known or {})
    core = say(rng.choice(situation.wordings), rng, values)
    sentiment = rng.choices(("neutral", "negative", "positive"), (6, 3, 1))[0]
    urgency = rng.choices(("normal", "high", "low"), (6, 3, 1))[0]
    if plain or rng.random() < 0.45:
        sentiment = urgency = "unstated"
        sentences = [core] if plain or rng.random() < 0.75 else [say(rng.choice(CONTEXT), rng, values), core]
    else:
        before: list[str] = []
        after: list[str] = []
        for pool in (FEELINGS[sentiment], URGENCY[urgency], CONTEXT if rng.random() < 0.3 else ()):
            if pool:
                (before if rng.random() < 0.4 else after).append(say(rng.choice(pool), rng, values))
        if rng.random() < 0.3:
            after.append(say(rng.choice(CLOSINGS), rng, values))
        sentences = [*before, core, *after]
        if rng.random() < 0.3:
            sentences[0] = f"{rng.choice(GREETINGS)}{rng.choice((', ', ' ', '! '))}{sentences[0]}"
    return Message(style(rng, sentences), situation, sentiment, urgency, values)


QUESTION = re.compile(
    r"(how|what|where|when|why|who|which|can|could|do|does|did|is|are|was|were|will|would|may|should|am|any idea)\b"
    r"|.*\b(do you know|tell me) (how|what|why|when|where)",
    re.I,
)


def style(rng: random.Random, sentences: list[str]) -> str:
    """Punctuation and capitals as people type them: careful, lower case without stops, and with slips."""
    kind = rng.random()
    out = []
    for sentence in sentences:
        asks = bool(QUESTION.match(sentence.split(", ")[-1])) or bool(QUESTION.match(sentence))
        end = "?" if asks else rng.choice(".....!")
        if kind < 0.6:
            sentence = re.sub(r"\bi\b(?!\.)", "I", sentence[0].upper() + sentence[1:])
        elif kind > 0.75:
            end = rng.choice(("", "", "?", ".")) if asks else rng.choice(("", "", "."))
        out.append(sentence + end)
    joiner = " " if kind < 0.85 else rng.choice((" ", ", ", " and ", "... ", "\n"))
    text = joiner.join(out)
    return slip(rng, text) if rng.random() < 0.12 else text


def slip(rng: random.Random, text: str) -> str:
    """One typing mistake in a plain lower-case word: a letter dropped, doubled, or two exchanged."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha() and word.islower()]
    if not places:
        return text
    at = rng.choice(places)
    word, k = words[at], rng.randint(1, len(words[at]) - 2)
    words[at] = rng.choice(
        (word[:k] + word[k + 1 :], word[:k] + word[k] + word[k:], word[:k] + word[k + 1] + word[k] + word[k + 2 :])
    )
    return " ".join(words)


@cache
def situations(files: tuple[str, ...] = ()) -> tuple[Situation, ...]:
    """All situations, by file name and then in file order; `files` picks some of the files by stem."""
    found: list[Situation] = []
    for path in sorted((GRAMMARS / "service").glob("*.txt")):
        if not files or path.stem in files:
            found.extend(read_situations(path))
    return tuple(found)


def read_situations(path: Path) -> list[Situation]:
    found: list[Situation] = []
    domain, name, meaning, wordings = "", "", "", list[str]()
    for line in [*path.read_text(encoding="utf-8").splitlines(), "= | "]:
        if line.startswith("* "):
            domain = line[2:].strip()
        elif line.startswith("= "):
            if wordings:
                found.append(Situation(name, meaning, domain, tuple(wordings)))
            name, meaning = (part.strip() for part in line[2:].split("|", 1))
            wordings = []
        elif line.strip():
            wordings.append(line.strip())
    return found
