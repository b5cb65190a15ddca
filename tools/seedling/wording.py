"""Sentence patterns: one line that stands for thousands of sentences.

`(a|b|)` is a choice, choices nest, `@name` is a macro (a choice written once in macros.txt), `<name>` is a slot that is
filled with a value. Knows neither customers nor models. A pattern is parsed once and then drawn from with a generator of
random numbers; the same generator state gives the same sentence.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tools.seedling import slots

Node = str | tuple["Node", ...] | frozenset[str] | list["Node"]
GRAMMARS = Path(__file__).parent / "grammars"
TOKEN = re.compile(r"\(|\)|\||@[a-z]+|<[a-z_]+>|[^()|@<]+|.", re.DOTALL)


class Pattern:
    """A parsed pattern. Sequences are tuples, choices are lists, slots are one-element frozensets, the rest is text."""

    def __init__(self, text: str) -> None:
        tokens = TOKEN.findall(text)
        self.tree, rest = parse(tokens, 0)
        if rest != len(tokens):
            raise ValueError(f"unbalanced bracket in pattern: {text!r}")

    def draw(self, rng: random.Random, values: dict[str, str] | None = None) -> str:
        """One sentence; `values` is read for slots that have a value and receives those that are drawn here."""
        out: list[str] = []
        write(self.tree, rng, {} if values is None else values, out)
        return tidy("".join(out))


def parse(tokens: list[str], at: int) -> tuple[Node, int]:
    """Parse up to the closing bracket or the end; more than one branch makes a choice."""
    branches: list[Node] = []
    parts: list[Node] = []
    while at < len(tokens) and tokens[at] != ")":
        token = tokens[at]
        at += 1
        if token == "(":
            inner, at = parse(tokens, at)
            if at >= len(tokens):
                raise ValueError(f"missing ')' in pattern: {''.join(tokens)!r}")
            parts.append(inner)
            at += 1
        elif token == "|":
            branches.append(tuple(parts))
            parts = []
        elif token[0] == "@" and len(token) > 1:
            parts.append(macros()[token[1:]])
        elif token[0] == "<" and len(token) > 2:
            parts.append(frozenset({token[1:-1]}))
        else:
            parts.append(token)
    branches.append(tuple(parts))
    return (branches if len(branches) > 1 else branches[0]), at


def write(node: Node, rng: random.Random, values: dict[str, str], out: list[str]) -> None:
    if isinstance(node, str):
        out.append(node)
    elif isinstance(node, list):
        write(node[int(rng.random() * len(node))], rng, values, out)
    elif isinstance(node, frozenset):
        (name,) = node
        if name not in values:
            values[name] = slots.draw(name, rng)
        out.append(values[name])
    else:
        for part in node:
            write(part, rng, values, out)


def tidy(text: str) -> str:
    """Take out the double spaces that empty choices leave behind."""
    return re.sub(r"\s+([,.?!;])", r"\1", " ".join(text.split()))


@cache
def macros() -> Mapping[str, Node]:
    """The macros of grammars/macros.txt, in file order, so that a macro may use those above it."""
    found: dict[str, Node] = {}
    for line in (GRAMMARS / "macros.txt").read_text(encoding="utf-8").splitlines():
        name, _, body = line.partition("=")
        if body:
            tokens = TOKEN.findall(body.strip())
            found[name.strip()] = parse(tokens, 0)[0]
    return found


@cache
def pattern(text: str) -> Pattern:
    """A pattern, parsed once a process."""
    return Pattern(text)


def say(text: str, rng: random.Random, values: dict[str, str] | None = None) -> str:
    """Draw one sentence from a pattern given as text."""
    return pattern(text).draw(rng, values)
