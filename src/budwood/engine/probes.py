"""Golden probes: prompts with the tokens and log-probabilities that a release gives, and their replay.

Made when the release is made, replayed by whoever loads it. A wrong base, a wrong scale, another adapter or none lies at
least ten times the measured numeric spread away, a right one within the tolerance.

`probes.json`: {"tolerance", "tolerances": {precision: tolerance}, "spread", "spreads": {way of computing: spread}, "probes":
[{"prompt_ids", "token_ids", "logprobs", "distance_to_base", "distance_to_half", "distance_to_double"}]}. Differences and
distances are the largest absolute difference of a log-probability over the tokens of a probe. "tolerance" is the widest of
"tolerances"; a precision that has none cannot tell this release from a wrong one, and may not serve it.

    result = replay(read_probes(path), score)        # score(prompt_ids, token_ids) -> log-probabilities
    result.ok, result.detail
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from budwood.errors import AdapterError

Score = Callable[[Sequence[int], Sequence[int]], Sequence[float]]
"""(prompt ids, continuation ids) → log-probability of each token of the continuation."""


@dataclass(frozen=True)
class Probe:
    """One prompt, what followed it greedily, and how far wrong models are from that; None where there is no such model."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    distance_to_base: float | None = None
    distance_to_half: float | None = None
    distance_to_double: float | None = None


@dataclass(frozen=True)
class ProbeSet:
    """All probes of a release; `spread` is the largest of `spreads`, `tolerance` the largest of `tolerances`."""

    tolerance: float
    spread: float
    probes: tuple[Probe, ...]
    spreads: Mapping[str, float] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Write `probes.json`: one line a probe, floats without loss."""
        lines = ",\n  ".join(json.dumps(asdict(probe), allow_nan=False) for probe in self.probes)
        values: dict[str, Any] = {"tolerance": self.tolerance, "tolerances": dict(self.tolerances)}
        values |= {"spread": self.spread, "spreads": dict(self.spreads)}
        head = json.dumps(values, allow_nan=False)
        return f'{head[:-1]}, "probes": [\n  {lines}\n]}}\n'.encode()


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a replay; `worst` is the largest difference found, infinite when a value was not finite or missing."""

    ok: bool
    worst: float
    tolerance: float
    failed: tuple[int, ...]

    @property
    def detail(self) -> str:
        """One sentence for people."""
        count = f"{len(self.failed)} probes" if len(self.failed) != 1 else f"probe {self.failed[0] + 1}"
        verdict = "passed" if self.ok else f"failed at {count}"
        return f"{verdict}: largest difference {self.worst:.2g}, allowed {self.tolerance:.2g}"


def replay(probes: ProbeSet, score: Score, *, precision: str | None = None) -> ProbeResult:
    """Score every probe's own tokens again and compare with what was stored.

    Args:
        probes: of the release.
        score: the model under test.
        precision: what it computes in, "float32" or "bfloat16"; the tolerance is then that precision's own. None: the
            widest.

    Raises:
        AdapterError: no probe tells this release from a wrong one in that precision.
    """
    tolerance = probes.tolerance if precision is None else _tolerance(probes, precision)
    worst = 0.0
    failed = []
    for number, probe in enumerate(probes.probes):
        difference = largest_difference(probe.logprobs, score(probe.prompt_ids, probe.token_ids))
        worst = max(worst, difference)
        if not difference <= tolerance:
            failed.append(number)
    return ProbeResult(not failed, worst, tolerance, tuple(failed))


def largest_difference(expected: Sequence[float], found: Sequence[float]) -> float:
    """Compare two rows of log-probabilities; infinite when one is shorter or holds a NaN."""
    if len(expected) != len(found):
        return math.inf
    differences = [abs(a - b) for a, b in zip(expected, found, strict=True)]
    return max((value if math.isfinite(value) else math.inf for value in differences), default=math.inf)


def _tolerance(probes: ProbeSet, precision: str) -> float:
    if precision not in probes.tolerances:
        raise AdapterError(
            f"In {precision} nothing tells this release from a wrong one; its probes hold in "
            f"{', '.join(sorted(probes.tolerances)) or 'no precision'}.",
            where="the golden probes",
            mend="Serve it in that precision.",
        )
    return probes.tolerances[precision]


def read_probes(path: Path) -> ProbeSet:
    """Read `probes.json`.

    Raises:
        AdapterError: the file is missing, is not of this form, or holds no probe that could fail.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
        probes = tuple(_probe(item) for item in value["probes"])
        tolerance, spread = float(value["tolerance"]), float(value["spread"])
        spreads = {str(name): float(number) for name, number in value.get("spreads", {}).items()}
        tolerances = {str(name): float(number) for name, number in value.get("tolerances", {}).items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise AdapterError(
            f"The golden probes cannot be read: {error!r}.", where=str(path), mend="Make the release again."
        ) from None
    whole = probes and all(probe.token_ids and len(probe.token_ids) == len(probe.logprobs) for probe in probes)
    finite = all(math.isfinite(number) and number > 0 for number in (tolerance, *tolerances.values()))
    if not whole or not finite:
        raise AdapterError(
            f"The golden probes prove nothing: {len(probes)} probes, tolerance {tolerance}.",
            where=str(path),
            mend="Make the release again.",
        )
    return ProbeSet(tolerance, spread, probes, spreads, tolerances)


def _probe(item: Mapping[str, Any]) -> Probe:
    distances = {name: item.get(name) for name in ("distance_to_base", "distance_to_half", "distance_to_double")}
    return Probe(
        prompt_ids=tuple(int(token) for token in item["prompt_ids"]),
        token_ids=tuple(int(token) for token in item["token_ids"]),
        logprobs=tuple(float(value) for value in item["logprobs"]),
        **{name: None if value is None else float(value) for name, value in distances.items()},
    )
