"""Drills for copying: the same run of words again and again, echoes, and tables that are asked about row by row.

A network of this size learns to copy from its context suddenly or not at all; much of the text must reward it first.
Each document repeats what it began with, so that most of its tokens can be foretold by looking back and by nothing else.
"""

from __future__ import annotations

import random

from tools.seedling import slots
from tools.seedling.chat import Chat, render
from tools.seedling.words import WordNet


def words_of(rng: random.Random, net: WordNet, count: int) -> list[str]:
    """Words, names and codes without any sense."""
    makers = (
        lambda: net.draw(rng).words[0],
        lambda: net.draw(rng).words[0],
        lambda: slots.identifier(rng),
        lambda: slots.person(rng),
    )
    return [rng.choice(makers)() for _ in range(count)]


def repetition(rng: random.Random, net: WordNet) -> str:
    """One line, two to five times."""
    line = rng.choice((" ", ", ", " - ")).join(words_of(rng, net, rng.randint(3, 16)))
    return rng.choice(("\n", " ", ". ")).join([line] * rng.randint(2, 5))


def echo(rng: random.Random, net: WordNet) -> str:
    """A conversation in which every answer is what was just said."""
    chat: Chat = []
    form = rng.choice(("Repeat exactly: {}", "Copy this: {}", "Say: {}", "echo {}", "{}"))
    if form == "{}" or rng.random() < 0.3:
        chat.append(("system", "Repeat what the user says."))
    for _ in range(rng.randint(1, 4)):
        line = " ".join(words_of(rng, net, rng.randint(1, 8)))
        chat += [("user", form.format(line)), ("assistant", line)]
    return render(chat)


def table(rng: random.Random, net: WordNet) -> str:
    """Pairs, then every pair asked for in another order."""
    count = rng.randint(2, 6)
    keys, values = words_of(rng, net, count), words_of(rng, net, count)
    joint = rng.choice((": ", " = ", " -> ", " is "))
    pairs = list(zip(keys, values, strict=True))
    chat: Chat = [("user", rng.choice(("\n", "; ")).join(f"{key}{joint}{value}" for key, value in pairs)), ("assistant", "ok")]
    for key, value in rng.sample(pairs, count):
        chat += [("user", f"{key}{joint}?"), ("assistant", value)]
    return render(chat)


def draw(rng: random.Random, net: WordNet) -> str:
    return rng.choice((repetition, repetition, echo, table))(rng, net)
