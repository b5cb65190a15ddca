"""How fast the steps go, and how long the rest will take."""

from collections.abc import Callable, Sequence
from itertools import accumulate


class Pace:
    """Speed of the steps made in this process, and what is left by the tokens that are still to come."""

    def __init__(self, clock: Callable[[], float], tokens: Sequence[int]) -> None:
        self._clock = clock
        self._remaining = [*accumulate(reversed(tokens), initial=0)]
        self._remaining.reverse()
        self._since: float | None = None
        self._seconds = 0.0
        self._tokens = 0

    def start(self) -> None:
        self._since = self._clock()

    def pause(self) -> None:
        self._since = None

    def done(self, tokens: int) -> None:
        assert self._since is not None
        self._seconds += self._clock() - self._since
        self._tokens += tokens

    @property
    def tokens_per_s(self) -> float | None:
        return self._tokens / self._seconds if self._seconds > 0 else None

    def left(self, step: int) -> str:
        """Time until the last step, validations left out."""
        rate = self.tokens_per_s
        seconds = round(self._remaining[step] / rate) if rate else 0
        if seconds < 60:
            return f"{seconds} s"
        return (
            f"{seconds // 60} min {seconds % 60:02d} s"
            if seconds < 3600
            else f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
        )
