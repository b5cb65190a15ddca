"""Requests that wait for a release to be loaded: one load for all, and it stays until each has taken it."""

import asyncio
import threading
from typing import Any

import pytest

from budwood.errors import ServeError, StoreError, UnknownReleaseError
from budwood.identity import Digest
from budwood.serve.backend import UnavailableError
from budwood.serve.demand import Demand
from budwood.serve.metrics import Metrics
from budwood.store import ReleaseRow

ROW = ReleaseRow("a", 1, Digest("1" * 64), "")
PATIENCE_S = 60.0


class Loads:
    """Loads that end when they are told to; `held`: how many have not been let go."""

    def __init__(self) -> None:
        self.begun, self.held, self.go = 0, 0, threading.Event()
        self.refused: ServeError | None = None

    def find(self, ref: str) -> ReleaseRow:
        if ref == "c@1":
            raise StoreError("The catalog cannot be reached: no route to 10.0.0.7.")
        if ref != "a@1":
            raise UnknownReleaseError("There is none.")
        return ROW

    def permit(self, row: ReleaseRow) -> None:
        if self.refused is not None:
            raise self.refused

    def bring_up(self, row: ReleaseRow) -> Any:
        self.begun += 1
        assert self.go.wait(PATIENCE_S)
        self.held += 1
        return self._let_go

    def _let_go(self) -> None:
        self.held -= 1

    def demand(self) -> Demand:
        return Demand(self.find, self.permit, self.bring_up, Metrics())


async def until(what: Any) -> None:
    while not what():
        await asyncio.sleep(0)


def test_it_is_let_go_when_the_last_of_those_who_waited_has_taken_it() -> None:
    loads = Loads()
    demand = loads.demand()

    async def take(leave: asyncio.Event) -> None:
        async with demand.loaded("a@1") as found:
            assert found
            await leave.wait()

    async def main() -> None:
        leaves = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(take(leave)) for leave in leaves]
        await until(lambda: loads.begun)
        loads.go.set()
        await until(lambda: loads.held)
        for leave, task in zip(leaves, tasks, strict=True):
            assert loads.held == 1
            leave.set()
            await task
        await until(lambda: not loads.held)
        assert loads.begun == 1

    asyncio.run(main())


def test_it_is_let_go_when_all_who_waited_have_gone_before_it_was_up() -> None:
    loads = Loads()
    demand = loads.demand()

    async def take() -> None:
        async with demand.loaded("a@1"):
            raise AssertionError("nobody waits any more")

    async def main() -> None:
        task = asyncio.create_task(take())
        await until(lambda: loads.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loads.go.set()
        await until(lambda: loads.held)
        await until(lambda: not loads.held)

    asyncio.run(main())


def test_what_is_refused_is_never_loaded_and_what_there_is_not_is_not_found() -> None:
    loads = Loads()
    demand = loads.demand()
    loads.refused = ServeError("Its verdict is REJECT.")

    async def main() -> None:
        with pytest.raises(ServeError, match="Its verdict is REJECT"):
            async with demand.loaded("a@1"):
                pass
        for model in ("a@2", "a", "b@1", "a@" + "1" * 65):
            async with demand.loaded(model) as found:
                assert not found
        assert loads.begun == 0

    asyncio.run(main())


def test_a_catalog_that_cannot_be_read_does_not_mean_that_there_is_no_such_release() -> None:
    async def main() -> None:
        with pytest.raises(UnavailableError, match="cannot be read now") as caught:
            async with Loads().demand().loaded("c@1"):
                pass
        assert "10.0.0.7" not in str(caught.value)

    asyncio.run(main())
