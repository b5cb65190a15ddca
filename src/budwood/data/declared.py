"""What two snapshots say of themselves that differs: figures, sources, rules, settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COUNTS = ("read", "kept", "train", "validation", "test", "rejected")
FIGURES = ("changed", "dropped", "flagged")


@dataclass(frozen=True)
class Change:
    """One thing that differs: `before` and `after` are JSON values, None where one snapshot does not have it."""

    what: str
    before: Any
    after: Any

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class Declared:
    """All that differs.

    Args:
        counts: every figure of rows, also those that are equal.
        sources: files that came, went, or hold other bytes; what is declared of them.
        rules: those that came or went, their versions and options.
        effects: what each rule did to rows.
        settings: [prepare], the name, and the snapshot that was built on.
    """

    counts: Sequence[Change]
    sources: Sequence[Change]
    rules: Sequence[Change]
    effects: Sequence[Change]
    settings: Sequence[Change]

    def as_dict(self) -> dict[str, Any]:
        parts = ("counts", "sources", "rules", "effects", "settings")
        return {part: [change.as_dict() for change in getattr(self, part)] for part in parts}


def compare_declared(before: Mapping[str, Any], after: Mapping[str, Any]) -> Declared:
    """Compare the bodies of two snapshots."""
    names = dict.fromkeys([*COUNTS, *before["counts"], *after["counts"]])
    settings = [{"name": body["name"], "onto": body["onto"]} | body["settings"] for body in (before, after)]
    return Declared(
        counts=[Change(name, before["counts"].get(name), after["counts"].get(name)) for name in names],
        sources=list(_sources(before["sources"], after["sources"])),
        rules=list(_rules(before["rules"], after["rules"])),
        effects=list(_effects(before["rules"], after["rules"])),
        settings=list(_values("", settings[0], settings[1])),
    )


def _sources(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    old, new = ({source["path"]: source for source in sources} for sources in (before, after))
    for path in dict.fromkeys([*old, *new]):
        if path in old and path in new:
            yield from _of(path, old[path], new[path])
        else:
            held = (old, new)[path in new][path]
            change = {"sha256": held["sha256"], "rows": held["rows"]}
            yield Change(path, change if path in old else None, change if path in new else None)


def _rules(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    old, new = ({rule["name"]: rule for rule in rules} for rules in (before, after))
    for name in dict.fromkeys([*old, *new]):
        kept = [{key: rule[name][key] for key in ("version", "options")} if name in rule else None for rule in (old, new)]
        if kept[0] is None or kept[1] is None:
            yield Change(name, *kept)
        else:
            yield from _of(name, kept[0], kept[1])
    both = [[name for name in rules if name in old and name in new] for rules in (old, new)]
    if both[0] != both[1]:
        yield Change("order", both[0], both[1])


def _effects(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    old, new = ({rule["name"]: {key: rule[key] for key in FIGURES} for rule in rules} for rules in (before, after))
    none = dict.fromkeys(FIGURES, 0)
    for name in dict.fromkeys([*old, *new]):
        here, there = old.get(name, none), new.get(name, none)
        if here != there:
            yield Change(name, here, there)


def _of(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    return (Change(f"{name} {one.what}", one.before, one.after) for one in _values("", before, after))


def _values(path: str, before: Any, after: Any) -> Iterator[Change]:
    """List where two JSON values differ, objects looked into."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            yield from _values(f"{path}.{key}".lstrip("."), before.get(key), after.get(key))
    # A key that older snapshots lack says no more than an empty one.
    elif before != after and not (before in (None, "") and after in (None, "")):
        yield Change(path, before, after)
