"""WordNet as a teacher of word meaning: its glosses, examples, synonyms, opposites and kinds, as text and as questions.

Reads the data files of Debian's `wordnet-base`. Senses that were counted in tagged text are drawn far more often than
rare ones, since a small model should spend its room on ordinary words.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from tools.seedling.chat import Chat, ask

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}


@dataclass(frozen=True, slots=True)
class Synset:
    """One sense: its words, what it means, example sentences, the sense above it and the words opposite to it."""

    words: tuple[str, ...]
    part: str
    gloss: str
    examples: tuple[str, ...]
    above: tuple[str, int] | None
    opposites: tuple[tuple[str, int], ...]
    count: int


class WordNet:
    """All senses; `draw` takes common ones mostly."""

    def __init__(self, folder: Path) -> None:
        counts = read_counts(folder / "cntlist.rev")
        self.senses: dict[tuple[str, int], Synset] = {}
        for part, letter in PARTS.items():
            for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
                if line[0].isdigit():
                    key, sense = read_sense(line, part, letter, counts)
                    self.senses[key] = sense
        everything = list(self.senses.values())
        self.common = [s for s in everything if s.count >= 2]
        self.rare = [s for s in everything if s.count < 2 and any(w.islower() and " " not in w for w in s.words)]

    def draw(self, rng: random.Random) -> Synset:
        return rng.choice(self.common if rng.random() < 0.75 else self.rare)


def read_counts(path: Path) -> dict[str, int]:
    """Counts by lemma and lexicographer file, which is enough to tell common senses from rare ones."""
    counts: dict[str, int] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split(" ")
        lemma, _, rest = key.partition("%")
        short = f"{lemma}%{rest.split(':')[1]}"
        counts[short] = max(counts.get(short, 0), int(count))
    return counts


def read_sense(line: str, part: str, letter: str, counts: dict[str, int]) -> tuple[tuple[str, int], Synset]:
    data, _, text = line.partition(" | ")
    fields = data.split()
    size = int(fields[3], 16)
    raw = [re.sub(r"\(.*\)$", "", fields[4 + 2 * i]) for i in range(size)]
    at = 5 + 2 * size
    pointers = [fields[at + 4 * i : at + 4 * i + 4] for i in range(int(fields[at - 1]))]
    letters = {"s": "a"}
    above = next(((p[2], int(p[1])) for p in pointers if p[0] == "@"), None)
    opposites = tuple((letters.get(p[2], p[2]), int(p[1])) for p in pointers if p[0] == "!")
    gloss = re.split(r'; "|: "', text)[0].strip().rstrip(";")
    examples = tuple(e.strip() for e in re.findall(r'"([^"]{8,160})"', text))
    count = max(counts.get(f"{word.lower()}%{fields[1]}", 0) for word in raw)
    words = tuple(word.replace("_", " ") for word in raw)
    return (letter, int(fields[0])), Synset(words, part, gloss, examples, above, opposites, count)


def entry(rng: random.Random, net: WordNet) -> str:
    """A dictionary entry as running text, several to a document."""
    lines = []
    for _ in range(rng.randint(2, 5)):
        sense = net.draw(rng)
        line = f"{sense.words[0]} ({sense.part}): {sense.gloss}."
        if len(sense.words) > 1 and rng.random() < 0.8:
            line += f" Also: {', '.join(sense.words[1:4])}."
        for example in sense.examples[:2]:
            line += f" {example[0].upper()}{example[1:]}."
        lines.append(line)
    return "\n".join(lines)


def meaning(rng: random.Random, net: WordNet) -> Chat:
    """Word to meaning, or meaning to word."""
    sense = net.draw(rng)
    word = rng.choice(sense.words[:3])
    if rng.random() < 0.5:
        question = rng.choice(
            ("What does '{}' mean?", "Define: {}", "Explain the word {}.", "meaning of {}", 'Give the meaning of "{}".')
        )
        return ask(question.format(word), sense.gloss)
    question = rng.choice(("Which word means: {}?", "Name the word for this: {}", 'Find a word that means "{}".'))
    return ask(question.format(sense.gloss), sense.words[0])


def synonym(rng: random.Random, net: WordNet) -> Chat:
    """A word of the same meaning, or of the opposite meaning."""
    for _ in range(200):
        sense = net.draw(rng)
        far = [net.senses[key] for key in sense.opposites if key in net.senses]
        if far and rng.random() < 0.7:
            question = rng.choice(("What is the opposite of {}?", "Give an antonym of '{}'.", "opposite of {}"))
            return ask(question.format(sense.words[0]), far[0].words[0])
        if len(sense.words) > 1:
            first, second = rng.sample(sense.words[:4], 2)
            question = rng.choice(
                ("Give a synonym of '{}'.", "Another word for {}?", "What is a different way to say {}?", "synonym: {}")
            )
            return ask(question.format(first), second)
    raise ValueError("WordNet has no synonyms: is the data file whole?")


def same(rng: random.Random, net: WordNet) -> Chat:
    """Do two words mean the same?"""
    while True:
        sense, other = net.draw(rng), net.draw(rng)
        if len(sense.words) > 1:
            break
    first, second = rng.sample(sense.words[:4], 2)
    alike = rng.random() < 0.5
    question = rng.choice(("Do '{}' and '{}' mean the same?", "Are {} and {} synonyms?", "{} / {}: similar meaning?"))
    return ask(question.format(first, second if alike else other.words[0]), "yes" if alike else "no")


def kind(rng: random.Random, net: WordNet) -> Chat:
    """What something is a kind of; or which of four words fits a meaning."""
    sense = net.draw(rng)
    if sense.above in net.senses and rng.random() < 0.5:
        question = rng.choice(("What kind of thing is {}?", "{} is a kind of what?", "Name the more general word for {}."))
        return ask(question.format(sense.words[0]), net.senses[sense.above].words[0])
    options = [sense.words[0], *(net.draw(rng).words[0] for _ in range(3))]
    rng.shuffle(options)
    return ask(f'Which of these words means "{sense.gloss}"? {", ".join(options)}', sense.words[0])


def use(rng: random.Random, net: WordNet) -> Chat:
    """A sentence with a word in it, or the missing word of a sentence."""
    while True:
        sense = net.draw(rng)
        found = [(w, e) for e in sense.examples for w in sense.words if re.search(rf"\b{re.escape(w)}\b", e)]
        if found:
            break
    word, example = rng.choice(found)
    if rng.random() < 0.5:
        return ask(rng.choice(("Use the word '{}' in a sentence.", "Give an example with {}.")).format(word), example)
    gap = re.sub(rf"\b{re.escape(word)}\b", "___", example, count=1)
    return ask(f"Fill the gap. Hint: {sense.gloss}.\n{gap}", word)


TASKS = (meaning, meaning, synonym, synonym, same, kind, use, use)


def task(rng: random.Random, net: WordNet) -> Chat:
    return rng.choice(TASKS)(rng, net)
