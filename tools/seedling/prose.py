"""Readers of freely licensed prose, from packages unpacked under one folder (see MODEL_CARD.md for the list and licences).

Unpack with `apt-get download PACKAGE && dpkg -x PACKAGE_*.deb DIR/PACKAGE`. Each reader gives paragraphs of plain English.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

WORDNET = "wordnet-base/usr/share/wordnet"


def read_all(folder: Path) -> dict[str, list[str]]:
    """Source name to documents of some 300 to 3,000 characters."""
    return {
        "python-docs": list(gather(python_docs(folder / "python3.11-doc"))),
        "jargon": list(gather(dictd(folder / "dict-jargon"))),
        "devil": list(gather(dictd(folder / "dict-devil"))),
    }


def gather(paragraphs: Iterator[str]) -> Iterator[str]:
    """Neighbouring paragraphs joined into documents."""
    held: list[str] = []
    for paragraph in paragraphs:
        held.append(paragraph)
        if sum(map(len, held)) > 900:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def python_docs(folder: Path) -> Iterator[str]:
    """Paragraphs of the documentation's sources, without markup; code blocks and directives are left out."""
    for path in sorted(folder.rglob("_sources/**/*.rst.txt")):
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            if block.startswith((" ", "..", "=", "*", "#", "+", ">>>", "-")) and not block.startswith(("   ", "* ")):
                continue
            text = " ".join(block.split())
            text = re.sub(r":[\w:+.-]+:`~?!?([^`<]+?)(?:\s*<[^`]*>)?`", r"\1", text)
            text = re.sub(r"`+([^`<]+?)(?:\s*<[^`]*>)?`+_*", r"\1", text).replace("**", "").replace("*", "")
            if is_prose(text):
                yield text


def dictd(folder: Path) -> Iterator[str]:
    """Paragraphs of a dictd dictionary."""
    (path,) = sorted(folder.rglob("*.dict.dz"))
    text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.split()).replace("{", "").replace("}", "")
        if is_prose(paragraph):
            yield paragraph


def is_prose(text: str) -> bool:
    """A sentence or more of words, rather than code, a table or a list of names."""
    if len(text) < 60 or text.startswith("..") or "::" in text[:40] or ">>>" in text:
        return False
    plain = sum(c.islower() or c == " " for c in text)
    return plain / len(text) > 0.88 and text.count(" ") > 9
