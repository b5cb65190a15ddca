"""Requests sent at a server that speaks OpenAI's completions API: always so many in flight, each token's arrival noted."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Timing:
    """One answer: seconds from its request to the first token, and between that and the last; how many tokens."""

    first_s: float
    rest_s: float
    tokens: int

    @property
    def per_token_s(self) -> float:
        return self.rest_s / max(1, self.tokens - 1)


@dataclass(frozen=True)
class Served:
    """What came of one load.

    Args:
        tokens_per_s: new tokens of all answers over the seconds from the first request to the last token.
        first_s: (p50, p95) seconds to the first token.
        per_token_s: (p50, p95) seconds a later token.
        peak_bytes: of the server, its child processes included.
    """

    tokens_per_s: float
    first_s: tuple[float, float]
    per_token_s: tuple[float, float]
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summary(timings: Sequence[Timing], seconds: float, peak_bytes: int) -> Served:
    return Served(
        sum(timing.tokens for timing in timings) / seconds,
        _marks([timing.first_s for timing in timings]),
        _marks([timing.per_token_s for timing in timings]),
        peak_bytes,
    )


def send_all(url: str, bodies: Sequence[dict[str, Any]], in_flight: int) -> tuple[list[Timing], float]:
    """Send all, `in_flight` at a time; give each answer's times and the seconds that all took together.

    Raises:
        RuntimeError: a server answered with an error, or broke off.
    """
    return asyncio.run(_send_all(url, bodies, in_flight))


async def _send_all(url: str, bodies: Sequence[dict[str, Any]], in_flight: int) -> tuple[list[Timing], float]:
    waiting = iter(bodies)
    began = time.perf_counter()
    groups = await asyncio.gather(*(_worker(url, waiting) for _ in range(in_flight)))
    return [timing for group in groups for timing in group], time.perf_counter() - began


async def _worker(url: str, waiting: Iterator[dict[str, Any]]) -> list[Timing]:
    return [await _send(url, body) for body in waiting]


async def _send(url: str, body: dict[str, Any]) -> Timing:
    parts = urlsplit(url)
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        head = f"POST {parts.path}/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        status = (await reader.readline()).decode()
        if " 200 " not in status:
            raise RuntimeError(f"{status.strip()}: {(await reader.read())[-300:]!r}")
        return await _read(reader, began)
    finally:
        writer.close()


async def exchange(method: str, url: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """Send one request and give the reply's status and JSON."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        reply = await reader.read()
    finally:
        writer.close()
    status, _, text = reply.partition(b"\r\n\r\n")
    return int(status.split()[1]), json.loads(text)


async def _read(reader: asyncio.StreamReader, began: float) -> Timing:
    moments: list[float] = []
    tokens = 0
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(str(event["error"]))
        if event["choices"]:
            moments.append(time.perf_counter())
        if event.get("usage"):
            tokens = int(event["usage"]["completion_tokens"])
    if not tokens:
        raise RuntimeError("the server broke off an answer")
    return Timing(moments[0] - began, moments[-1] - moments[0], tokens)


def _marks(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
