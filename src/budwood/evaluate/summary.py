"""Case records → metrics: means, rates, slices. Pure."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from budwood.evaluate.score import count

Record = Mapping[str, Any]


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Give `metrics` (name → value), `broken` (rule → cases) and `slices` (slice → value → metrics).

    Rates are shares of cases; a mean is over the cases where its scorer applies, and None where there is none.
    """
    listed = [dict(record) for record in records]
    return {
        "cases": len(listed),
        "metrics": metrics(listed),
        "fields": _fields(listed),
        "broken": {key: dict(sorted(count(listed, key).items())) for key in ("style", "policy", "flags")},
        "slices": _slices(listed),
    }


def metrics(records: Sequence[Record]) -> dict[str, float | None]:
    scorers = list(records[0]["scores"]) if records else []
    found: dict[str, float | None] = {name: _mean([record["scores"][name] for record in records]) for name in scorers}
    found["style violations"] = _mean([float(bool(record["style"])) for record in records])
    found["policy violations"] = _mean([float(bool(record["policy"])) for record in records])
    if any(record["schema_ok"] is not None for record in records):
        found["schema errors"] = _mean(
            [None if record["schema_ok"] is None else 1.0 - record["schema_ok"] for record in records]
        )
    for flag in ("empty", "truncated", "repeating"):
        found[flag] = _mean([float(flag in record["flags"]) for record in records])
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _fields(records: Sequence[Record]) -> dict[str, float]:
    names = sorted({name for record in records for name in record["fields"] or ()})
    return {name: fmean(record["fields"][name] for record in records if name in (record["fields"] or ())) for name in names}


def _slices(records: Sequence[Record]) -> dict[str, dict[str, dict[str, Any]]]:
    names = sorted({name for record in records for name in record["slices"]})
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        values = sorted({record["slices"][name] for record in records if name in record["slices"]})
        table[name] = {}
        for value in values:
            inside = [record for record in records if record["slices"].get(name) == value]
            table[name][value] = {"cases": len(inside), "metrics": metrics(inside)}
    return table
