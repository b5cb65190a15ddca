"""Finding what nothing refers to: the part of collection that decides, without touching anything."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from budwood.identity import Digest


def reachable(roots: Iterable[Digest], parents: Mapping[Digest, Sequence[Digest]]) -> set[Digest]:
    """Walk from the roots to everything that they were made from."""
    seen: set[Digest] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in seen:
            seen.add(digest)
            waiting.extend(parents.get(digest, ()))
    return seen


def unreferenced(
    parents: Mapping[Digest, Sequence[Digest]],
    roots: Iterable[Digest],
    is_young: Callable[[Digest], bool],
) -> list[Digest]:
    """List the objects to remove, children before their parents.

    An object that is too young to go also keeps what it was made from. The order matters when the removal is cut short:
    no object is ever left whose parent is gone.
    """
    young = [digest for digest in parents if is_young(digest)]
    kept = reachable([*roots, *young], parents)
    doomed = set(parents) - kept
    ordered: list[Digest] = []
    while doomed:
        needed = {parent for digest in doomed for parent in parents[digest]}
        leaves = sorted(doomed - needed)
        ordered += leaves
        doomed -= set(leaves)
    return ordered
