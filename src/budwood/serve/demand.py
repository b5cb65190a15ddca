"""Releases that a request names by version or digest and that are not loaded: brought up while it waits.

Each is loaded once however many ask for it, one after the other, and only so many requests may wait; what an alias points to is
never brought up here, that is the follower's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError, UnknownReleaseError
from budwood.serve.backend import UnavailableError
from budwood.serve.directory import release_ref
from budwood.serve.metrics import Metrics

if TYPE_CHECKING:
    from budwood.store import ReleaseRow

MOST_WAITING = 256
"""Requests that may wait for a load."""
LetGo = Callable[[], None]
"""Says that a release that was brought up may be unloaded again."""


@dataclass(eq=False)
class _Load:
    """A release that is being brought up, or is up and kept until those who wait for it have taken it."""

    future: "asyncio.Future[LetGo]"
    waiting: int = 0


class Demand:
    """Brings releases up on request. Used in one event loop.

    Args:
        find: release of a catalog's name; raises UnknownReleaseError if there is none, another BudwoodError if it cannot tell.
        permit: raises BudwoodError for a release that is not to be brought up; called on any thread.
        bring_up: loads and proves it, or raises BudwoodError; called on a thread of this object's. It stays loaded until what
            comes back is called.
        metrics: counts loads by their result.
        most_waiting: requests that may wait for loads.
    """

    def __init__(
        self,
        find: "Callable[[str], ReleaseRow]",
        permit: "Callable[[ReleaseRow], None]",
        bring_up: "Callable[[ReleaseRow], LetGo]",
        metrics: Metrics,
        *,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._find = find
        self._permit = permit
        self._bring_up = bring_up
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._waiting = 0
        self._open: dict[str, _Load] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="load on demand")

    @asynccontextmanager
    async def loaded(self, model: str) -> AsyncIterator[bool]:
        """Bring up the release that a model name means, and keep it loaded inside; False: it means none that the catalog has.

        Raises:
            UnavailableError: too many wait for loads, or the catalog cannot be read.
            BudwoodError: it did not come up.
        """
        row = await self._row(model)
        if row is None:
            yield False
            return
        load = self._open.get(row.digest)
        if load is None:
            loop = asyncio.get_running_loop()
            load = self._open[row.digest] = _Load(loop.run_in_executor(self._executor, self._run, row))
        load.waiting += 1
        self._waiting += 1
        try:
            # Shielded: others wait for the same load, and this one's client may go.
            await asyncio.shield(load.future)
            yield True
        finally:
            self._waiting -= 1
            load.waiting -= 1
            if not load.waiting:
                del self._open[row.digest]
                load.future.add_done_callback(_let_go)

    def close(self) -> None:
        """Begin no further load."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _row(self, model: str) -> "ReleaseRow | None":
        ref = release_ref(model)
        if ref is None:
            return None
        if self._waiting >= self._most_waiting:
            raise UnavailableError(f"{self._waiting:,} requests wait for releases to be loaded.", mend="Try again soon.")
        try:
            row = await asyncio.get_running_loop().run_in_executor(None, self._find, ref)
        except UnknownReleaseError:
            return None
        except BudwoodError as error:
            # Whether there is such a release cannot be told; where the catalog lies is nothing for clients.
            raise UnavailableError("The catalog of releases cannot be read now.", mend="Try again soon.") from error
        return row if row.name == model.partition("@")[0] else None

    def _run(self, row: "ReleaseRow") -> LetGo:
        try:
            self._permit(row)
            let_go = self._bring_up(row)
        except BudwoodError:
            self._metrics.demand_loads.labels("failed").inc()
            raise
        except Exception as error:
            self._metrics.demand_loads.labels("failed").inc()
            raise ServeError(f"The release could not be loaded: {type(error).__name__}: {error}.") from error
        self._metrics.demand_loads.labels("loaded").inc()
        return let_go


def _let_go(future: "asyncio.Future[LetGo]") -> None:
    if not future.cancelled() and future.exception() is None:
        future.result()()
