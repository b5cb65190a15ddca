"""Lengths of rows in tokens, in a few figures."""

from collections.abc import Iterable

SHARES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def summarise_lengths(tokens: Iterable[int]) -> dict[str, int]:
    """Give the rows, their tokens in all, and the lengths at some shares of the rows, each one that a row has."""
    ordered = sorted(tokens)
    last = len(ordered) - 1
    quantiles = {name: ordered[round(share * last)] for name, share in SHARES.items()}
    return {"rows": len(ordered), "total": sum(ordered)} | quantiles
