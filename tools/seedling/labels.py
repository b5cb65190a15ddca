"""Labels and plain words: the same words joined by `_`, by `-` or by spaces, and the way from one to the other.

A byte-level tokenizer gives a word other tokens behind an underscore than behind a space. Unless the text says often that
both are the same word, a label taught by fine-tuning is a row of strange signs.
"""

from __future__ import annotations

import random
import re

from tools.seedling.chat import Chat, render
from tools.seedling.service import message, situations
from tools.seedling.words import WordNet

FORMS = (
    ("Write as a label: {}", "_"),
    ("Label from these words: {}", "_"),
    ("Join with underscores: {}", "_"),
    ("Join with hyphens: {}", "-"),
    ("As a key: {}", "_"),
)
BACK = ("Write in words: {}", "Read this label: {}", "Words of {}", "What does {} stand for?")


def some_words(rng: random.Random, net: WordNet) -> list[str]:
    """One to five words: neighbours in a customer's sentence, or words from the dictionary."""
    if rng.random() < 0.7:
        sentence = re.findall(r"[a-z]+", message(rng, rng.choice(situations()), plain=True).text.lower())
        count = min(len(sentence), rng.randint(1, 5))
        start = rng.randint(0, len(sentence) - count)
        if count:
            return sentence[start : start + count]
    found = [word for _ in range(rng.randint(1, 3)) for word in net.draw(rng).words[0].lower().split()]
    return [word for word in found if word.isascii() and word.isalpha()] or ["other"]


def draw(rng: random.Random, net: WordNet) -> str:
    """A conversation of a few labels, or a bare list of them."""
    if rng.random() < 0.25:
        joint = rng.choice(("_", "_", "_", "-"))
        mark = rng.choice(("\n", ", ", " | "))
        return mark.join(joint.join(some_words(rng, net)) for _ in range(rng.randint(3, 12)))
    chat: Chat = []
    for _ in range(rng.randint(2, 5)):
        words = some_words(rng, net)
        if rng.random() < 0.6:
            form, joint = rng.choice(FORMS)
            chat += [("user", form.format(" ".join(words))), ("assistant", joint.join(words))]
        else:
            joint = rng.choice(("_", "_", "-"))
            chat += [("user", rng.choice(BACK).format(joint.join(words))), ("assistant", " ".join(words))]
    return render(chat)
