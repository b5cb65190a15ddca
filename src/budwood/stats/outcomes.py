"""What became of requests, in figures that add up over servers and over time, and what they say for certain.

    one = Outcomes(requests=200, errors=3, latencies={bucket(0.8): 200})
    one + other
    one.share_slower(2.0, alpha=0.01)          # bounds of the share of requests that took longer than 2 s

Latencies are kept in buckets 5 % wide, so that any limit can be asked of them afterwards; a bucket that a limit falls into
counts for neither side.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budwood.stats.rates import exact_interval

SHORTEST_S = 0.001
WIDTH = 1.05
MOST_BUCKETS = 400


def bucket(seconds: float) -> int:
    """Number of the bucket of a latency; 0 holds all that is below 1.05 ms."""
    if seconds <= SHORTEST_S:
        return 0
    return min(int(math.log(seconds / SHORTEST_S) / math.log(WIDTH)), MOST_BUCKETS)


def edge(number: int) -> float:
    """Where a bucket begins, in seconds."""
    return 0.0 if number == 0 else SHORTEST_S * WIDTH**number


@dataclass(frozen=True)
class Outcomes:
    """Counts of requests that have ended.

    Args:
        requests: answered, or failed by the server's fault, or given up by the client, who had waited so long; what was the
            client's own fault is not counted.
        errors: of these, failed.
        schema_answers: answers that had to satisfy a JSON Schema.
        schema_errors: of these, those that do not.
        latencies: bucket → requests, from arrival to the last token.
    """

    requests: int = 0
    errors: int = 0
    schema_answers: int = 0
    schema_errors: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: "Outcomes") -> "Outcomes":
        return Outcomes(
            self.requests + other.requests,
            self.errors + other.errors,
            self.schema_answers + other.schema_answers,
            self.schema_errors + other.schema_errors,
            Counter(self.latencies) + Counter(other.latencies),
        )

    @property
    def timed(self) -> int:
        return sum(self.latencies.values())

    def share_slower(self, limit_s: float, alpha: float) -> tuple[float, float]:
        """Bounds of the share of requests that take longer than a limit, each side at `alpha`."""
        certainly = sum(many for number, many in self.latencies.items() if edge(number) >= limit_s)
        perhaps = sum(many for number, many in self.latencies.items() if edge(number + 1) > limit_s)
        return exact_interval(certainly, self.timed, alpha)[0], exact_interval(perhaps, self.timed, alpha)[1]

    def quantile_bounds(self, share: float, alpha: float) -> tuple[float, float]:
        """Bounds of a quantile of the latency in seconds, each side at `alpha`; (0, inf) where there are too few requests."""
        # The share above an edge falls from edge to edge, and so do its bounds: two searches find where they cross.
        edges = [edge(number) for number in sorted({place for one in self.latencies for place in (one, one + 1)})]
        above = 1 - share
        below = bisect_left(edges, True, key=lambda limit: self.share_slower(limit, alpha)[0] <= above)
        beyond = bisect_left(edges, True, key=lambda limit: self.share_slower(limit, alpha)[1] <= above)
        return edges[below - 1] if below else 0.0, edges[beyond] if beyond < len(edges) else math.inf

    def quantile(self, share: float) -> float:
        """The quantile itself: end of the bucket that holds it, in seconds; 0 without requests."""
        seen = 0
        for number, many in sorted(self.latencies.items()):
            seen += many
            if seen >= share * self.timed:
                return edge(number + 1)
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        counts = {name: value for name, value in vars(self).items() if name != "latencies"}
        return {**counts, "latencies": {str(number): many for number, many in sorted(self.latencies.items())}}


def read_outcomes(values: Mapping[str, Any]) -> Outcomes:
    """Read what `as_dict` wrote; an empty mapping is no request."""
    counts = {name: int(values.get(name, 0)) for name in ("requests", "errors", "schema_answers", "schema_errors")}
    return Outcomes(**counts, latencies={int(number): int(many) for number, many in values.get("latencies", {}).items()})
