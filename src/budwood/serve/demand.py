"""Releases that a request names by version or digest and that are not loaded: brought up while it waits.

Each is loaded once however many ask for it, one after the other, and only so many requests may wait; what an alias points to is
never brought up here, that is the follower's.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import UnavailableError
from budwood.serve.directory import release_ref
from budwood.serve.metrics import Metrics

if TYPE_CHECKING:
    from budwood.store import ReleaseRow

MOST_WAITING = 256
"""Requests that may wait for a load."""


class Demand:
    """Brings releases up on request. Used in one event loop.

    Args:
        find: release of a catalog's name; raises BudwoodError if there is none.
        bring_up: loads and proves it, or raises BudwoodError; called on a thread of this object's.
        metrics: counts loads by their result.
        most_waiting: requests that may wait for loads.
    """

    def __init__(
        self,
        find: "Callable[[str], ReleaseRow]",
        bring_up: "Callable[[ReleaseRow], None]",
        metrics: Metrics,
        *,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._find = find
        self._bring_up = bring_up
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._waiting = 0
        self._open: dict[str, asyncio.Future[None]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="load on demand")

    async def load(self, model: str) -> bool:
        """Bring up the release that a model name means; False: it means none that the catalog has.

        Raises:
            UnavailableError: too many wait for loads.
            BudwoodError: it did not come up.
        """
        ref = release_ref(model)
        if ref is None:
            return False
        if self._waiting >= self._most_waiting:
            raise UnavailableError(f"{self._waiting:,} requests wait for releases to be loaded.", mend="Try again soon.")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            try:
                row = await loop.run_in_executor(None, self._find, ref)
            except BudwoodError:
                return False
            if row.name != model.partition("@")[0]:
                return False
            if row.digest not in self._open:
                self._open[row.digest] = loop.run_in_executor(self._executor, self._run, row)
                self._open[row.digest].add_done_callback(lambda _: self._open.pop(row.digest, None))
            # Shielded: others wait for the same load, and this one's client may go.
            await asyncio.shield(self._open[row.digest])
            return True
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Begin no further load."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, row: "ReleaseRow") -> None:
        try:
            self._bring_up(row)
        except BudwoodError:
            self._metrics.demand_loads.labels("failed").inc()
            raise
        except Exception as error:
            self._metrics.demand_loads.labels("failed").inc()
            raise ServeError(f"The release could not be loaded: {type(error).__name__}: {error}.") from error
        self._metrics.demand_loads.labels("loaded").inc()
