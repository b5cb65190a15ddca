"""Answers read as JSON, with limits: an output is hostile until it has been read."""

import json
import math
from dataclasses import dataclass
from typing import Any

LONGEST = 1_000_000
DEEPEST = 64


@dataclass(frozen=True)
class Parsed:
    """A JSON value; wrapped so that `null` differs from "not JSON"."""

    value: Any


def parse(text: str) -> Parsed | None:
    """Read a whole text as one JSON value.

    None when it is not JSON as RFC 8259 has it (NaN, a key twice, words around it), has a number that no float can hold, is
    longer than a million characters or nested deeper than 64.
    """
    if len(text) > LONGEST or _is_deep(text):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_duplicates)
    except ValueError:
        return None
    return Parsed(value)


def same(one: Any, other: Any) -> bool:
    """Compare JSON values: key order does not count, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def field_scores(expected: str, output: str) -> dict[str, float]:
    """Score each expected field: 1 where it is there and equal. Empty when the expectation is no JSON object."""
    wanted = parse(expected)
    if wanted is None or not isinstance(wanted.value, dict):
        return {}
    found = parse(output)
    given = found.value if found is not None and isinstance(found.value, dict) else {}
    return {key: float(key in given and same(given[key], value)) for key, value in wanted.value.items()}


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _is_deep(text: str) -> bool:
    """Measure the nesting before parsing, since both the parser and what follows recurse."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    quoted = escaped = False
    for sign in text:
        if quoted:
            quoted = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            quoted = True
        elif sign in "[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif sign in "]}":
            depth -= 1
    return False
