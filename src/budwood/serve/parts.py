"""What a server is made of, put together.

    parts = make_parts(store, settings, server_id=…, bases=…, guard=…, measure_drift=…, report=…)
    for name, work in parts.work(settings.poll_s): …                  # each wants a thread, and ends when its event is set

HTTP is not here: `run` puts the routes before these parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event as Flag
from typing import TYPE_CHECKING

from budwood.events import Reporter
from budwood.serve.access.book import Book
from budwood.serve.aftermath import Aftermath, counting
from budwood.serve.demand import Demand
from budwood.serve.directory import Directory
from budwood.serve.drift import DriftWatch
from budwood.serve.follow import Follower
from budwood.serve.metrics import Metrics
from budwood.serve.permission import permit_any, permit_judged
from budwood.serve.presence import Presence
from budwood.serve.reports import Reports
from budwood.serve.sampling import Sampler
from budwood.serve.traffic import Traffic
from budwood.serve.trials import Trials

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef
    from budwood.recipe import ServeSection
    from budwood.serve.backend import Backend
    from budwood.serve.drift import Measure
    from budwood.serve.trials import Guard
    from budwood.store import Store

Work = Callable[[Flag], None]


@dataclass(frozen=True)
class Parts:
    """See the modules that they come from."""

    book: Book
    directory: Directory
    backend: "Backend"
    metrics: Metrics
    trials: Trials
    reports: Reports
    follower: Follower
    demand: Demand | None
    drift: DriftWatch
    aftermath: Aftermath
    presence: Presence

    def work(self, poll_s: float) -> list[tuple[str, Work]]:
        """What wants a thread of its own, by the thread's name."""
        return [
            ("count and sample", self.aftermath.run),
            ("judge what is on trial", self.trials.run),
            ("watch drift", self.drift.run),
            ("read tokens", self.book.run),
            ("report presence", self.presence.run),
            ("follow the catalog", lambda stop: self.follower.watch(stop, poll_s)),
            ("report what is served", self.reports.run),
            ("load releases", self.follower.run),
        ]

    def wake(self) -> None:
        """Let those look up that wait for something else than the end."""
        if self.demand is not None:
            self.demand.close()
        self.reports.wake()


def make_parts(
    store: "Store",
    settings: "ServeSection",
    book: Book,
    *,
    server_id: str,
    bases: "Sequence[BaseRef]",
    guard: "Guard | None",
    measure_drift: "Measure | None",
    report: Reporter,
) -> Parts:
    """Put them together; nothing runs yet. For the arguments see `run.serve`."""
    directory, metrics, traffic = Directory(), Metrics(), Traffic()
    backend = _backend(store, settings, bases, report)
    _show(metrics, backend, directory)
    trials = Trials(store, directory, traffic, server_id=server_id, guard=guard, report=report)
    reports = Reports(store, server_id=server_id, report=report)
    limit_bytes = settings.adapter_memory_mb << 20
    follower = Follower(
        store, backend, directory, metrics, reports=reports, report=report, trials=trials, limit_bytes=limit_bytes
    )
    sampler = Sampler(
        store.root, server_id=server_id, share=settings.sample, days=settings.sample_days, metrics=metrics, report=report
    )
    return Parts(
        book,
        directory,
        backend,
        metrics,
        trials,
        reports,
        follower,
        _demand(store, settings, follower, metrics),
        DriftWatch(store, directory, metrics, measure=measure_drift, hours=settings.drift_hours, report=report),
        Aftermath([counting(traffic), sampler.take], metrics, tidy=sampler.tidy, report=report),
        Presence(store, server_id=server_id, report=report),
    )


def _backend(store: "Store", settings: "ServeSection", bases: "Sequence[BaseRef]", report: Reporter) -> "Backend":
    from budwood.serve.loader import Loader
    from budwood.serve.vllm.loader import VllmLoader

    return (VllmLoader if settings.backend == "vllm" else Loader)(store, settings, bases, report)


def _demand(store: "Store", settings: "ServeSection", follower: Follower, metrics: Metrics) -> Demand | None:
    if settings.on_demand == "none" or settings.adapter_memory_mb == 0:
        return None
    permit = permit_any if settings.on_demand == "any" else permit_judged
    return Demand(store.find_release, partial(permit, store), follower.bring_up, metrics)


def _show(metrics: Metrics, backend: "Backend", directory: Directory) -> None:
    """Have the figures read that nobody counts up."""
    metrics.engine_requests.set_function(lambda: backend.active)
    metrics.engine_tokens.set_function(lambda: backend.tokens_made)
    metrics.adapter_bytes.set_function(lambda: directory.held_bytes)
    metrics.prefix_asked.set_function(lambda: backend.prefixes.asked_tokens)
    metrics.prefix_found.set_function(lambda: backend.prefixes.found_tokens)
    metrics.prefix_bytes.set_function(lambda: backend.prefixes.size_bytes)
