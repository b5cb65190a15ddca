"""Case records → metrics: means, rates, slices. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from budwood.evaluate.score import count

Record = Mapping[str, Any]
FLAGS = ("empty", "truncated", "repeating")


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Give `metrics` (name → value), `applies` (name → cases it is over), `broken` (rule → cases), `fields` and `slices`.

    Rates are shares of cases; a mean is over the cases where its scorer applies, and None where there is none.
    """
    values = [case_values(record) for record in records]
    return {
        "cases": len(records),
        "metrics": metrics(records),
        "applies": {name: sum(one[name] is not None for one in values) for name in (values[0] if values else ())},
        "fields": _fields(records),
        "broken": {key: dict(sorted(count(records, key).items())) for key in ("style", "policy", "flags")},
        "slices": _slices(records),
    }


def case_values(record: Record) -> dict[str, float | None]:
    """Give every metric's value for one case: scores, and 1 for a kind of fault that it has. None: does not apply."""
    schema_ok = record["schema_ok"]
    return {
        **record["scores"],
        "style violations": float(bool(record["style"])),
        "policy violations": float(bool(record["policy"])),
        "schema errors": None if schema_ok is None else 1.0 - schema_ok,
        **{flag: float(flag in record["flags"]) for flag in FLAGS},
    }


def higher_is_better(metric: str, scorers: Mapping[str, int]) -> bool:
    """Scores should be high; all else that is counted are faults."""
    return metric in scorers


def metrics(records: Sequence[Record]) -> dict[str, float | None]:
    values = [case_values(record) for record in records]
    found = {name: _mean([one[name] for one in values]) for name in (values[0] if values else ())}
    if found.get("schema errors") is None:
        found.pop("schema errors", None)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    # fsum: the order of the cases must not show in the last digit.
    return math.fsum(known) / len(known) if known else None


def _fields(records: Sequence[Record]) -> dict[str, float | None]:
    names = sorted({name for record in records for name in record["fields"] or ()})
    return {name: _mean([(record["fields"] or {}).get(name) for record in records]) for name in names}


def _slices(records: Sequence[Record]) -> dict[str, dict[str, dict[str, Any]]]:
    members: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        for name, value in record["slices"].items():
            members.setdefault(name, {}).setdefault(value, []).append(record)
    return {
        name: {value: {"cases": len(inside), "metrics": metrics(inside)} for value, inside in sorted(values.items())}
        for name, values in sorted(members.items())
    }
