"""Requests into files that `prepare`, `evaluate` and `data report --production` read: sampled, redacted, and dropped in time.

A record is a row of training data with what is known besides:

    {"messages": [..., {"role": "assistant", "content": "..."}], "tools": [...],      or "prompt", "completion"
     "model": "support", "release": "9d02…", "version": 3, "request": "chatcmpl-…", "choice": 0, "at": "2026-11-26T20:01:05Z",
     "finish_reason": "stop", "latency_s": 0.41,
     "live": {"release": "41c9…", "answer": "..."}}                                  of a shadow: what the client got

Personal data and secrets are replaced before anything is written; who asked is not written at all. A file that cannot be
written holds no answer up: what was to go into it is dropped, counted and told once.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from budwood.events import Event, Reporter
from budwood.serve.exchange import Answer, Exchange
from budwood.serve.metrics import Metrics
from budwood.store import traffic as files
from budwood.text.pii import redact

TIDY_S = 3600.0


class Sampler:
    """Used by one thread.

    Args:
        root: of the store.
        server_id: part of the files' names, so that no two servers write one.
        share: of answered requests that are written; shadows' answers are all written.
        days: after so many, files are removed.
        metrics: counts what is written and dropped.
        report: told when files cannot be written, and when they can again.
        draw: a number from 0 to 1 for each request. None: a generator of its own; the process's may be seeded by others.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        *,
        server_id: str,
        share: float,
        days: int,
        metrics: Metrics,
        report: Reporter,
        draw: Callable[[], float] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._server_id = server_id
        self._share = share
        self._days = days
        self._metrics = metrics
        self._report = report
        self._draw = draw or random.Random().random
        self._wall_clock = wall_clock
        self._tidied_at = float("-inf")
        self._trouble = ""

    def take(self, exchange: Exchange) -> None:
        """Write a request, if it is drawn and was answered."""
        if exchange.end != "answered":
            return
        kind = "served" if exchange.shadow_of is None else "shadow"
        if kind == "served" and self._draw() >= self._share:
            return
        kind = kind if exchange.messages else f"{kind}-plain"
        records = [json.dumps(record, ensure_ascii=False) for record in records_of(exchange)]
        lines = [record.encode("utf-8", "surrogatepass") for record in records]
        day = datetime.fromtimestamp(exchange.at, UTC).date()
        if self._kept(lambda: files.append(files.place(self._root, exchange.live.name, kind, day, self._server_id), lines)):
            self._metrics.sampled.labels(kind.removesuffix("-plain")).inc()
        else:
            self._metrics.dropped.labels("disk").inc()

    def tidy(self) -> None:
        """Remove what is too old, now and then."""
        now = self._wall_clock()
        if now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            today = datetime.fromtimestamp(now, UTC).date()
            self._kept(lambda: files.drop_older(self._root, self._days, today))

    def _kept(self, change: Callable[[], object]) -> bool:
        try:
            change()
        except OSError as error:
            trouble = error.strerror or type(error).__name__
            if trouble != self._trouble:
                self._trouble = trouble
                self._report(Event("serve", f"Sampled requests cannot be kept: {trouble}; they are dropped and counted"))
            return False
        if self._trouble:
            self._trouble = ""
            self._report(Event("serve", "Sampled requests are kept again"))
        return True


def records_of(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Make a record of each answer, without personal data."""
    live = exchange.live
    beside = exchange.shadow_of
    for number, answer in enumerate(exchange.answers):
        record = {
            **_said(exchange, number, answer),
            "model": exchange.model,
            "release": live.digest,
            "version": live.version,
            "request": exchange.id,
            "choice": number,
            "at": datetime.fromtimestamp(exchange.at, UTC).isoformat(timespec="milliseconds"),
            "finish_reason": answer.finish,
            "latency_s": round(exchange.seconds, 4),
        }
        if beside is not None and number < len(beside.answers):
            record["live"] = {"release": beside.live.digest, "answer": beside.answers[number].text}
        yield without_personal_data(record)


def without_personal_data(value: Any) -> Any:
    """Replace personal data and secrets in every text of a JSON value."""
    if isinstance(value, str):
        return redact(value).text
    if isinstance(value, Mapping):
        return {redact(key).text: without_personal_data(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [without_personal_data(held) for held in value]
    return value


def _said(exchange: Exchange, number: int, answer: Answer) -> dict[str, Any]:
    if not exchange.messages:
        return {"prompt": exchange.prompts[number // exchange.choices], "completion": answer.text}
    messages = [*exchange.messages, {"role": "assistant", "content": answer.text}]
    return {"messages": messages, **({"tools": list(exchange.tools)} if exchange.tools else {})}
