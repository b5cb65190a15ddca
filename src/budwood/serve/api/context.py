"""What the routes of one server share."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from budwood.serve.access.limits import Limits
from budwood.serve.api.actions import AdminActions, Audit
from budwood.serve.api.entrance import Entrance
from budwood.serve.api.flight import Admission, Mailbox
from budwood.serve.demand import Demand
from budwood.serve.directory import Directory
from budwood.serve.exchange import Finished
from budwood.serve.metrics import Metrics

if TYPE_CHECKING:
    from budwood.recipe import ServeSection
    from budwood.serve.api.shadow import Shadows


@dataclass
class Context:
    """Everything that a route needs, given by whoever builds the app.

    Args:
        directory: names → releases.
        settings: limits.
        metrics: figures.
        entrance: who may come in.
        limits: how much each caller may use; used in the event loop only.
        admission: places; used in the event loop only.
        state: what `/ready` shows: {"ready": bool, …}.
        synced: whether everything that the catalog wanted at the start is loaded or has failed.
        healthy: whether every engine lives.
        sync: looks at the catalog now; blocks.
        finished: is told of every request that ended; returns at once.
        demand: brings up a release that a request names and that is not loaded; None: such requests are refused.
        admin: what the admin API can do besides; None: it is not there.
        audit: the record of admin calls; blocks. None: as `admin`.
        log: takes one line a request; None: there is no log.
        wall_clock: seconds since 1970, for `created`.
        clock: seconds, for durations.
        draw_seed: seed of a sampled request that names none.
        run: random word of this run; with a counter it makes ids that no other run repeats, without a system call each.
    """

    directory: Directory
    settings: "ServeSection"
    metrics: Metrics
    entrance: Entrance
    limits: Limits
    admission: Admission
    state: Callable[[], dict[str, Any]]
    synced: Callable[[], bool]
    healthy: Callable[[], bool]
    sync: Callable[[], None]
    finished: Finished = lambda exchange: None
    demand: Demand | None = None
    admin: AdminActions | None = None
    audit: Audit | None = None
    log: Callable[[Mapping[str, Any]], None] | None = None
    wall_clock: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    draw_seed: Callable[[], int] = field(default=lambda: secrets.randbits(63))
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    mailbox: Mailbox | None = None
    """Set when the event loop runs."""
    _counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @cached_property
    def shadows(self) -> "Shadows":
        """Who answers copies of requests; made in the event loop, at the first answer."""
        from budwood.serve.api.shadow import Shadows

        return Shadows(self)

    def new_id(self) -> str:
        return f"{self.run}{next(self._counter):012x}"
