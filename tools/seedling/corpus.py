"""The pretraining text as a function of seed and step: no corpus file, no state to save.

A mixture is source name to weight. Step `n` of seed `s` always holds the same rows, whichever run asks, so that resuming
needs only the step, and the contamination check can walk exactly what was trained on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tools.seedling import blocklist, drills, labels, prose, records, service, service_tasks, skills, words
from tools.seedling.chat import render
from tools.seedling.vocabulary import text_end
from torch import Tensor

Source = Callable[[random.Random], str]

# Mixtures (weights by document), in the order in which the schedule takes them. Copying comes first, then word meaning
# and plain skills beside the service English, which is what the seedling is for.
OPENING = {
    "python-docs": 3, "jargon": 4, "devil": 1, "entries": 14, "words": 14,
    "skills": 10, "records": 12, "drills": 26, "labels": 4, "service": 12,
}  # fmt: skip
MAIN = {
    "python-docs": 1, "jargon": 2, "devil": 1, "entries": 6, "words": 8,
    "skills": 8, "records": 15, "drills": 6, "labels": 4, "service": 49,
}  # fmt: skip
TOKENIZER_MIX = {
    "python-docs": 5, "jargon": 5, "devil": 2, "entries": 18, "words": 10, "records": 4, "labels": 14, "messages": 42,
}  # fmt: skip
TOKENIZER_FILES = ("account", "cards", "payments", "transfers")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Named sources of documents; `held_out` gives prose that training never draws."""

    sources: Mapping[str, Source]

    @classmethod
    def open(cls, folder: Path, *, held_out: bool = False) -> Corpus:
        net = words.WordNet(folder / prose.WORDNET)
        texts = {name: [d for d in docs if is_held_out(d) is held_out] for name, docs in prose.read_all(folder).items()}
        banking = service.situations(TOKENIZER_FILES)
        made: dict[str, Source] = {
            "entries": lambda rng: words.entry(rng, net),
            "words": lambda rng: render(words.task(rng, net)),
            "skills": lambda rng: render(skills.task(rng)),
            "records": lambda rng: render(records.task(rng)),
            "drills": lambda rng: drills.draw(rng, net),
            "labels": lambda rng: labels.draw(rng, net),
            "messages": lambda rng: service.message(rng, rng.choice(banking), plain=False).text,
            "service": lambda rng: render(service_tasks.task(rng)),
        }
        return cls(made | {name: picker(docs) for name, docs in texts.items()})

    def documents(self, rng: random.Random, mixture: Mapping[str, int]) -> Iterator[str]:
        """Documents without end, none of which holds a row of the held-out benchmark."""
        names, weights = list(mixture), list(mixture.values())
        blocked = blocklist.shipped()
        while True:
            text = self.sources[rng.choices(names, weights)[0]](rng)
            if not blocked.holds(text):
                yield text


def picker(docs: list[str]) -> Source:
    return lambda rng: rng.choice(docs)


def is_held_out(document: str) -> bool:
    """One prose document in fifty, by its content."""
    return hashlib.sha256(document.encode()).digest()[0] < 5


def batch(documents: Iterator[str], tokenizer: Tokenizer, rows: int, length: int) -> Tensor:
    """(rows, length + 1) token ids; each row begins with a fresh document, its last one is cut at the row's end."""
    end = text_end(tokenizer)
    out = torch.empty((rows, length + 1), dtype=torch.long)
    pending: list[list[int]] = []
    for row in range(rows):
        line: list[int] = []
        while len(line) <= length:
            if not pending:
                texts = [next(documents) for _ in range(64)]
                pending = [encoding.ids for encoding in reversed(tokenizer.encode_batch(texts))]
            line += [*pending.pop(), end]
        out[row] = torch.tensor(line[: length + 1])
    return out
