"""One vLLM server as the pool sees it: whether it is there, and which releases have proved themselves on it.

A server that was away may have been started again, with other adapters or none: whatever it had proved before is forgotten,
and it gets no request of a release before that has been loaded and proved there once more. Used in the pool's event loop.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter
from budwood.serve.vllm.client import GoneError, VllmClient
from budwood.serve.vllm.process import Process

MISSES = 3
"""Silent health checks in a row after which a server counts as gone; one that refuses the connection does so at once."""
FIRST_RESTART_S = 1.0
LONGEST_RESTART_S = 60.0


@dataclass(frozen=True)
class Placement:
    """A release as vLLM servers hold it.

    Args:
        name: immutable, name@version-digest.
        folder: the adapter's; None: the base alone.
        salt: of its prefix cache; the release's digest.
        prove: replays its golden probes on one server; blocks, and raises if they come out differently.
    """

    name: str
    folder: Path | None
    salt: str
    prove: Callable[["Replica"], None]


class Replica:
    """One server.

    Args:
        client: speaks to it.
        process: starts it; None: somebody else does.
        report: told when it comes and goes.
        clock: seconds.
    """

    def __init__(
        self,
        client: VllmClient,
        *,
        process: Process | None = None,
        report: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.process = process
        self.title = "The vLLM server of our own" if process is not None else f"The vLLM server {client.url}"
        self.up = False
        self.was_up = False
        self.trouble = ""
        """Why it is not up, in a sentence; empty while it is, and before the first look."""
        self.base = ""
        self.context: int | None = None
        self.proved: set[str] = set()
        self.retry_at: dict[str, float] = {}
        self.calls: set[asyncio.Task[None]] = set()
        """Requests that it is answering; they are cancelled when it is found gone, and another server takes them over."""
        self._report = report
        self._clock = clock
        self._era = 0
        self._misses = 0
        self._looking = asyncio.Lock()
        self._placing = asyncio.Lock()
        self._start_at = 0.0
        self._wait_s = FIRST_RESTART_S

    async def look(self) -> None:
        """Find out whether it is there; start it (again) if that is ours to do."""
        if self._looking.locked():
            # Somebody is looking already; what they find counts for us, too.
            async with self._looking:
                return
        async with self._looking:
            if self.process is not None and not self.process.running:
                await self._restart(self.process)
                return
            try:
                well = await self.client.healthy()
            except GoneError as error:
                self.trouble = error.what
                self._misses = self._misses + 1 if error.slow else MISSES
                well = False
            else:
                self._misses = 0 if well else self._misses + 1
            if well and not self.up:
                await self._rise()
            elif not well and self._misses >= MISSES:
                self.fall("does not answer")

    def fall(self, why: str) -> None:
        """Give it no more requests, and take back those that it has."""
        if not self.up:
            return
        self.up = False
        self._era += 1
        self.proved.clear()
        self.retry_at.clear()
        for call in list(self.calls):
            call.cancel()
        self._report(Event("serve", f"{self.title} {why}; it gets no requests until its releases are proved again"))

    async def place(self, placement: Placement) -> None:
        """Load a release and let it prove itself; nothing of it stays behind if that fails.

        Raises:
            GoneError: the server is away, or went away meanwhile.
            BudwoodError: it refused, or computes something else.
        """
        async with self._placing:
            if placement.name in self.proved:
                return
            era = self._era
            await self._load(placement)
            try:
                await asyncio.to_thread(placement.prove, self)
            except BaseException:
                await self._unload(placement)
                raise
            if era != self._era:
                raise GoneError(f"{self.title} went away while {placement.name} was being proved.")
            self.proved.add(placement.name)

    async def remove(self, placement: Placement) -> None:
        """Unload a release. A server that is away has lost it anyhow."""
        async with self._placing:
            self.proved.discard(placement.name)
            self.retry_at.pop(placement.name, None)
            await self._unload(placement)

    async def close(self, placements: Sequence[Placement]) -> None:
        """Unload what we loaded, where that outlives us; end it, if it is ours."""
        if self.up and self.process is None:
            with contextlib.suppress(BudwoodError):
                for placement in placements:
                    await self._unload(placement)
        self.up = False
        for call in list(self.calls):
            call.cancel()
        await self.client.close()
        if self.process is not None:
            await asyncio.to_thread(self.process.stop)

    async def _load(self, placement: Placement) -> None:
        if placement.folder is None:
            return
        # Left from a life before: what lies under the name then is nothing that we have seen loaded.
        if placement.name in (await self.client.models()).adapters:
            await self.client.unload_adapter(placement.name)
        await self.client.load_adapter(placement.name, placement.folder)

    async def _unload(self, placement: Placement) -> None:
        if placement.folder is not None:
            with contextlib.suppress(GoneError):
                await self.client.unload_adapter(placement.name)

    async def _rise(self) -> None:
        try:
            models = await self.client.models()
        except BudwoodError as error:
            if error.what != self.trouble:
                self.trouble = error.what
                self._report(Event("serve", f"{self.title} is there, but of no use. {error}"))
            return
        self.trouble = ""
        self.base, self.context = models.base, models.context
        self.up = self.was_up = True
        self._wait_s = FIRST_RESTART_S
        self._report(Event("serve", f"{self.title} is up"))

    async def _restart(self, process: Process) -> None:
        ended = process.pid is not None
        self.fall("has ended")
        if self._clock() < self._start_at:
            return
        if ended:
            self._report(Event("serve", str(process.died())))
        self._start_at = self._clock() + self._wait_s
        self._wait_s = min(self._wait_s * 2, LONGEST_RESTART_S)
        self._report(Event("serve", "Starting a vLLM server; this takes from half a minute to some minutes"))
        await asyncio.to_thread(process.start)


def context_of(replicas: Sequence[Replica]) -> int | None:
    """Longest text that every server takes; None where none has said."""
    return min((replica.context for replica in replicas if replica.context is not None), default=None)
