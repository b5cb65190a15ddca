"""Which prompts become golden probes: those where the wrong model is farthest away, measured against the numeric noise.

Pure choice over measurements; `measure` takes them. A probe is good when base, half scale and double scale all lie at least
ten times as far from the adapter as any correct way of computing does. The tolerance lies between the two.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.engine.probes import Probe, ProbeSet, largest_difference
from budwood.errors import ReleaseError

SEPARATION = 10.0
"""Smallest distance to a wrong model, as a multiple of the spread."""
SLACK = 3.0
"""Tolerance as a multiple of the spread: another machine's sums may differ a little more than ours did. A wrong model then
still lies at more than three times the tolerance."""
LEAST_SPREAD = 2e-4
"""What float32 log-probabilities may differ by between machines (other kernels, other orders of the same sums); a smaller
measured spread was luck."""
NARROW = "bfloat16"


@dataclass(frozen=True)
class Measured:
    """One candidate prompt with everything that was computed for it.

    Args:
        prompt_ids: the prompt.
        token_ids: what the release answers greedily.
        logprobs: of those tokens, float32, one request alone.
        correct: other right ways of computing the same → log-probabilities: "bfloat16", "mixed batch", "merged".
        wrong: models that must be told apart → log-probabilities: "base", "half", "double"; empty for a plain base.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    correct: Mapping[str, Sequence[float]]
    wrong: Mapping[str, Sequence[float]]

    def spread(self, ways: Sequence[str]) -> float:
        """Largest difference between these right ways."""
        return max([LEAST_SPREAD, *(largest_difference(self.logprobs, self.correct[way]) for way in ways)])

    @property
    def distance(self) -> float:
        """Smallest distance to a wrong model; infinite when there is none."""
        return min((largest_difference(self.logprobs, other) for other in self.wrong.values()), default=math.inf)


def choose_probes(measured: Sequence[Measured], *, count: int) -> ProbeSet:
    """Choose the probes of a release.

    They hold in float32 and bfloat16 if some prompt is good in both, else in float32 alone: then only a server that
    computes in float32 can prove that it serves this release, and another must refuse it.

    Args:
        measured: candidates; empty answers and values that are not finite are passed over.
        count: how many to keep; fewer are kept when no more are good enough.

    Raises:
        ReleaseError: no candidate tells the release from the base, or from itself at half or double scale, above the noise.
    """
    usable = [item for item in measured if _is_finite(item)]
    every = sorted(usable[0].correct) if usable else []
    wide = [way for way in every if way != NARROW]
    for ways in (every, wide):
        chosen = _best(usable, count, ways)
        if chosen:
            break
    else:
        raise _none_is_good(usable, len(measured), wide)
    tolerances = {"float32": SLACK * max(item.spread(wide) for item in chosen)}
    if NARROW in ways:
        tolerances[NARROW] = SLACK * max(item.spread([NARROW]) for item in chosen)
    return ProbeSet(
        tolerance=max(tolerances.values()),
        spread=max(item.spread(ways) for item in chosen),
        probes=tuple(_probe(item) for item in chosen),
        spreads={way: max(item.spread([way]) for item in chosen) for way in every},
        tolerances=tolerances,
    )


def _best(usable: Sequence[Measured], count: int, ways: Sequence[str]) -> list[Measured]:
    """Take the most distant ones under the noise level that lets the most pass, at best `count`.

    All probes share one tolerance, so a noisy probe costs the quiet ones; each noise level is tried as the common one.
    """
    best: list[Measured] = []
    for level in sorted({item.spread(ways) for item in usable}):
        good = [item for item in usable if item.spread(ways) <= level and item.distance >= SEPARATION * level]
        good = sorted(good, key=lambda item: (-item.distance, item.prompt_ids))[:count]
        if len(good) > len(best):
            best = good
    return best


def _is_finite(item: Measured) -> bool:
    rows = [item.logprobs, *item.correct.values(), *item.wrong.values()]
    length = len(item.token_ids)
    return length > 0 and all(len(row) == length and all(map(math.isfinite, row)) for row in rows)


def _none_is_good(usable: Sequence[Measured], tried: int, ways: Sequence[str]) -> ReleaseError:
    if not usable:
        return ReleaseError(
            f"None of {tried} candidate prompts gives a finite answer of at least one token.",
            where="the golden probes",
            mend="Look at the training curves: the adapter may have diverged. Then train again.",
        )
    closest = max(usable, key=lambda item: item.distance / item.spread(ways))
    names = {name: largest_difference(closest.logprobs, row) for name, row in closest.wrong.items()}
    nearest = min(names, key=lambda name: names[name])
    return ReleaseError(
        f"No golden probe tells this release from a wrong one: of {tried} prompts the best lies {names[nearest]:.2g} in "
        f"log-probability from {_in_words(nearest)}, the numeric spread is {closest.spread(ways):.2g}, and "
        f"{SEPARATION:g} times that is needed.",
        where="the golden probes",
        mend="The adapter hardly changes these answers: train longer or with a higher learning rate, or raise "
        "[release] probe_tokens.",
    )


def _in_words(name: str) -> str:
    return {"base": "the base", "half": "itself at half scale", "double": "itself at double scale"}.get(name, name)


def _probe(item: Measured) -> Probe:
    distances = {name: largest_difference(item.logprobs, row) for name, row in item.wrong.items()}
    return Probe(
        item.prompt_ids,
        item.token_ids,
        item.logprobs,
        distance_to_base=distances.get("base"),
        distance_to_half=distances.get("half"),
        distance_to_double=distances.get("double"),
    )
