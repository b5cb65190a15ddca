"""What is done with requests that have ended, on a thread of its own: counted for trials, and sampled into files.

No answer waits for it. Where it cannot keep up, what comes is dropped, and how much is told in the metrics.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter, silent
from budwood.serve.exchange import Exchange
from budwood.serve.metrics import Metrics
from budwood.serve.traffic import Traffic
from budwood.stats.outcomes import Outcomes, bucket

MOST_WAITING = 2_000
MOST_CHARACTERS = 64 << 20
"""Of all that waits together: prompts may be long."""
Consumer = Callable[[Exchange], None]


class Aftermath:
    """A bounded queue and the thread that empties it.

    Args:
        consumers: called one after the other with each exchange. What they raise costs that exchange, is counted and told by
            its kind: no request of a stranger's may end the thread, or be shown.
        tidy: called again and again, about once a second.
        metrics: counts what is dropped.
        report: told of what was not foreseen.
    """

    def __init__(
        self, consumers: Sequence[Consumer], metrics: Metrics, *, tidy: Callable[[], None], report: Reporter = silent
    ) -> None:
        self._report = report
        self._characters = 0
        self._tidy = tidy
        self._consumers = consumers
        self._metrics = metrics
        self._waiting: deque[Exchange] = deque()
        self._ready = threading.Condition()

    def put(self, exchange: Exchange) -> None:
        """Leave an exchange for the thread, or drop it; returns at once."""
        with self._ready:
            if len(self._waiting) >= MOST_WAITING or self._characters > MOST_CHARACTERS:
                self._metrics.dropped.labels("busy").inc()
                return
            self._waiting.append(exchange)
            self._characters += exchange.characters
            self._ready.notify()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set and nothing is left."""
        while True:
            self._tidy()
            with self._ready:
                self._ready.wait_for(lambda: bool(self._waiting) or stop.is_set(), timeout=1.0)
                if not self._waiting:
                    if stop.is_set():
                        return
                    continue
                exchange = self._waiting.popleft()
                self._characters -= exchange.characters
            self._take(exchange)

    def _take(self, exchange: Exchange) -> None:
        try:
            for consume in self._consumers:
                consume(exchange)
        except Exception as error:
            self._metrics.dropped.labels("failed").inc()
            kind = type(error).__name__
            self._report(Event("serve", f"Request {exchange.id} could not be counted or sampled: {kind}"))


def counting(traffic: Traffic) -> Consumer:
    """Count what became of requests to aliases on which something is tried."""

    def count(exchange: Exchange) -> None:
        if traffic.is_watched(exchange.alias):
            traffic.note(exchange.alias, exchange.live.digest, outcome_of(exchange))

    return count


def outcome_of(exchange: Exchange) -> Outcomes:
    """One request as counts."""
    held = exchange.answers if exchange.schema is not None and exchange.end == "answered" else ()
    wrong = sum(not _accepts(exchange.schema or "", answer.text) for answer in held)
    return Outcomes(1, int(exchange.end == "failed"), len(held), wrong, {bucket(exchange.seconds): 1})


def _accepts(schema: str, text: str) -> bool:
    return _check_of(schema)(text)


@lru_cache(maxsize=64)
def _check_of(schema: str) -> Callable[[str], bool]:
    from budwood.scorers.schema import compile_schema

    try:
        return compile_schema(schema, where="response_format")
    except BudwoodError:
        # The engine took it, so it means something there; what we cannot check counts as kept.
        return lambda text: True
