"""The walk over all texts in order: candidates from the chains, true Jaccard, groups and repeats. In Python, as near.c has it.

This is the way of a machine without a compiler, and what the kernel is held to: same candidates, same order, same results.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.text.near.sign import CHARACTERS, WORDS
from budwood.text.similarity import Kind, jaccard, shingles

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 64
"""Texts that are looked at in one chain. A million rows of one template would otherwise be compared in pairs."""
KINDS: dict[int, Kind] = {WORDS: "words", CHARACTERS: "characters"}


@dataclass(frozen=True)
class Walk:
    """What is walked over and what is found; names, shapes and types are those of `Walk` in near.c."""

    bands: int
    stride: int
    longest: int
    least: int
    threshold: float
    owner: "NDArray[Any]"
    kind: "NDArray[Any]"
    sketch: "NDArray[Any]"
    link: "NDArray[Any]"
    first: "NDArray[Any]"
    is_short: "NDArray[Any]"
    meaning: "NDArray[Any]"
    asks: "NDArray[Any]"
    offers: "NDArray[Any]"
    goes: "NDArray[Any]"
    member: "NDArray[Any]"
    parent: "NDArray[Any]"
    gone: "NDArray[Any]"
    seen: "NDArray[Any]"
    twin: "NDArray[Any]"
    alike: "NDArray[Any]"
    crowded: "NDArray[Any]"


def walk_texts(walk: Walk, start: int, stop: int, read: Callable[[int], str]) -> None:
    """Look at texts start..stop; those before have been looked at."""
    linked = (walk.link[:, walk.first[start] : walk.first[stop]] >= 0).any(axis=0)
    for i in sorted(set(walk.owner[walk.first[start] : walk.first[stop]][linked].tolist())):
        _look(walk, i, read)


def _look(walk: Walk, i: int, read: Callable[[int], str]) -> None:
    text = read(i) if (found := sorted(_collect(walk, i))) else ""
    ours = {kind: shingles(text, KINDS[kind]) for kind in {kind for _, kind in found}}
    for j, kind in found:
        mine, theirs = _root(walk, i), _root(walk, j)
        eligible = walk.twin[i] < 0 and _may_repeat(walk, i, j)
        if mine == theirs and not eligible:
            continue
        alike = jaccard(ours[kind], shingles(read(j), KINDS[kind]))
        if alike < walk.threshold:
            continue
        walk.parent[max(mine, theirs)] = min(mine, theirs)
        if eligible:
            walk.twin[i], walk.alike[i] = j, alike
    if walk.twin[i] >= 0 and walk.goes[i]:
        walk.gone[i] = 1


def _collect(walk: Walk, i: int) -> Iterator[tuple[int, int]]:
    seen: set[tuple[int, int]] = set()
    crowded = False
    for entry in range(walk.first[i], walk.first[i + 1]):
        kind = int(walk.kind[entry])
        for link in walk.link:
            other = _next_in(walk, link, entry)
            for _ in range(walk.longest):
                if other < 0:
                    break
                j = int(walk.owner[other])
                if walk.kind[other] == kind and (j, kind) not in seen:
                    seen.add((j, kind))
                    if _promising(walk, i, entry, other):
                        yield j, kind
                other = _next_in(walk, link, other)
            crowded |= other >= 0
    walk.crowded[0] += crowded


def _next_in(walk: Walk, link: "NDArray[Any]", entry: int) -> int:
    after = int(link[entry])
    while after >= 0 and walk.gone[walk.owner[after]]:
        after = int(link[after])
    link[entry] = after
    return after


def _promising(walk: Walk, i: int, entry: int, other: int) -> bool:
    j = int(walk.owner[other])
    # Two long texts are compared by words, and meet there.
    if walk.kind[entry] == CHARACTERS and not walk.is_short[i] and not walk.is_short[j]:
        return False
    unequal = sum(int(a ^ b).bit_count() for a, b in zip(walk.sketch[entry], walk.sketch[other], strict=True))
    if 128 - unequal < walk.least:
        return False
    return _may_repeat(walk, i, j) or _root(walk, i) != _root(walk, j)


def _may_repeat(walk: Walk, i: int, j: int) -> bool:
    return bool(walk.asks[i] & walk.offers[j]) and bool((walk.meaning[i] == walk.meaning[j]).all())


def _root(walk: Walk, i: int) -> int:
    member = int(walk.member[i])
    while (above := int(walk.parent[member])) != member:
        member = above
    return member
