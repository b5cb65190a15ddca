"""Rows of a held-out benchmark, as fingerprints: a document that holds one, even inside a longer line, is drawn again.

Rows of three words or more are looked for at every word of the document; shorter ones must be a whole line or turn, since
"help please" stands in any text. The file holds hashes of lower-case words and lengths, never a word of the benchmark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "blocked.txt"
HEAD = 3  # words that a long row is looked up by


@dataclass(frozen=True, slots=True)
class Blocklist:
    """`long`: fingerprint of the first words, to (words, fingerprint) of the rows that begin so; `short`: whole lines."""

    long: dict[str, tuple[tuple[int, str], ...]]
    short: frozenset[str]

    def holds(self, document: str) -> bool:
        return next(self.found(document), None) is not None

    def found(self, document: str) -> Iterator[str]:
        """Fingerprints of the rows that the document holds."""
        words = normalise(document).split()
        for start in range(len(words) - HEAD + 1):
            for length, wanted in self.long.get(fingerprint(" ".join(words[start : start + HEAD])), ()):
                if fingerprint(" ".join(words[start : start + length])) == wanted:
                    yield wanted
        for line in re.split(r"<\|\w+\|>|\n| / ", document):
            short = normalise(line)
            if short.count(" ") < HEAD - 1 and fingerprint(short) in self.short:
                yield fingerprint(short)


def build(rows: Iterable[str]) -> Blocklist:
    """From normalised rows."""
    long: dict[str, set[tuple[int, str]]] = {}
    short: set[str] = set()
    for row in rows:
        words = row.split()
        if len(words) < HEAD:
            short.add(fingerprint(row))
        else:
            long.setdefault(fingerprint(" ".join(words[:HEAD])), set()).add((len(words), fingerprint(row)))
    return Blocklist({head: tuple(sorted(rest)) for head, rest in long.items()}, frozenset(short))


def write(blocklist: Blocklist, path: Path) -> int:
    """One row a line: `HEAD LENGTH ROW`, or `ROW` alone for a short one. Returns the number of rows."""
    lines = [f"{head} {length} {row}" for head, rest in blocklist.long.items() for length, row in rest]
    lines = sorted(lines + list(blocklist.short))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def read(path: Path) -> Blocklist:
    long: dict[str, list[tuple[int, str]]] = {}
    short: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        match line.split():
            case [head, length, row]:
                long.setdefault(head, []).append((int(length), row))
            case [row]:
                short.add(row)
            case _:
                raise ValueError(f"{path}: {line!r} is neither `HEAD LENGTH ROW` nor `ROW`: make the file anew with --collect")
    return Blocklist({head: tuple(rest) for head, rest in long.items()}, frozenset(short))


@cache
def shipped() -> Blocklist:
    """The list that the committed text was drawn with."""
    return read(FILE)


def normalise(text: str) -> str:
    """Lower-case words only: the form in which text is compared with held-out data."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def fingerprint(normal: str) -> str:
    return hashlib.blake2b(normal.encode(), digest_size=5).hexdigest()
