"""How much one caller uses: requests and tokens a minute.

Each is a bucket that holds a minute's worth and fills steadily, so a caller may use a minute's worth at once and then goes on
at the rate. Used by one thread.
"""

from collections.abc import Callable
from dataclasses import dataclass

MOST_CALLERS = 10_000


@dataclass
class _Bucket:
    level: float
    at: float


class OverLimit(Exception):
    """A caller has used up a limit.

    Args:
        what: "requests" or "tokens".
        limit: of it, a minute.
        wait_s: until there is enough again; None: there never will be, it is more than a minute's worth.
    """

    def __init__(self, what: str, limit: int, wait_s: float | None) -> None:
        super().__init__(what)
        self.what = what
        self.limit = limit
        self.wait_s = wait_s


class Limits:
    """Buckets by caller.

    Args:
        requests: a minute; 0: no limit.
        tokens: a minute; 0: no limit.
        clock: seconds.
    """

    def __init__(self, requests: int, tokens: int, clock: Callable[[], float]) -> None:
        self._limits = {"requests": requests, "tokens": tokens}
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, caller: str, what: str, cost: int) -> None:
        """Take from a caller's bucket; nothing is taken when it does not hold so much.

        Raises:
            OverLimit: it does not.
        """
        limit = self._limits[what]
        if not limit:
            return
        bucket = self._filled(caller, what, limit)
        if cost > limit:
            raise OverLimit(what, limit, None)
        if bucket.level < cost:
            raise OverLimit(what, limit, (cost - bucket.level) * 60.0 / limit)
        bucket.level -= cost

    def give_back(self, caller: str, what: str, cost: int) -> None:
        """Return what was taken and not used."""
        limit = self._limits[what]
        if limit:
            bucket = self._filled(caller, what, limit)
            bucket.level = min(float(limit), bucket.level + cost)

    def headers(self, caller: str) -> dict[str, str]:
        """What is left, in OpenAI's headers; empty where nothing is limited."""
        found: dict[str, str] = {}
        for what, limit in self._limits.items():
            if limit:
                level = self._filled(caller, what, limit).level
                found[f"x-ratelimit-limit-{what}"] = str(limit)
                found[f"x-ratelimit-remaining-{what}"] = str(int(level))
                found[f"x-ratelimit-reset-{what}"] = f"{(limit - level) * 60.0 / limit:.3f}s"
        return found

    def _filled(self, caller: str, what: str, limit: int) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get((caller, what))
        if bucket is None:
            self._forget_full(now)
            bucket = self._buckets[caller, what] = _Bucket(float(limit), now)
        bucket.level = min(float(limit), bucket.level + (now - bucket.at) * limit / 60.0)
        bucket.at = now
        return bucket

    def _forget_full(self, now: float) -> None:
        """Keep memory bounded: a bucket that nobody used for a minute is full, as a new one."""
        if len(self._buckets) >= MOST_CALLERS:
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket.at < 60.0}
