"""Read a request's JSON within limits of size, time and depth; strictly, so that nobody can read something else in it."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from budwood.json_text import decode
from budwood.serve.api.faults import ApiError, bad_request
from budwood.serve.api.wire import check_characters

MAX_BODY_BYTES = 2 << 20
MAX_DEPTH = 128
"""Nesting of a body. Schemas and arguments may have 64 levels of their own, inside a request's few; what follows recurses."""
READ_TIMEOUT_S = 30.0
LONG_BYTES = 64 << 10
"""From here on a body is decoded and checked in a thread of its own: whatever is in it, nobody else's answer waits for that."""

T = TypeVar("T")


async def read_json(request: Request, check: Callable[[dict[str, Any]], T]) -> T:
    """Read the body as a JSON object, and what `check` makes of it.

    Raises:
        ApiError: another content type, too large, too slow, not UTF-8, not JSON, a key twice, nested too deeply, or no object;
            whatever `check` raises.
        ClientDisconnect: the client went while sending.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"The content type is {kind!r}; application/json is needed.", code="unsupported_content_type")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            data = await _read(request)
    except TimeoutError:
        raise ApiError(
            408, f"The body did not arrive within {READ_TIMEOUT_S:.0f} s.", headers={"connection": "close"}
        ) from None
    if len(data) < LONG_BYTES:
        return check(_object(data))
    return await asyncio.to_thread(lambda: check(_object(data)))


def _object(data: bytes) -> dict[str, Any]:
    value = _value(data)
    if not isinstance(value, dict):
        raise bad_request("The body is not a JSON object.", code="invalid_json")
    return value


def _value(data: bytes) -> Any:
    try:
        value = decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except ValueError as error:
        raise bad_request(f"The body is not JSON that can be used: {error}.", code="invalid_json") from None
    # Counting brackets is nothing beside decoding, and tells of nearly every request that there is nothing to measure.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise bad_request(f"The body is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")
    if b"\\ud" in data or b"\\uD" in data:
        check_characters(value)
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper; looked at level by level, without recursion."""
    level = [value]
    for _ in range(levels):
        inner = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)]
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return False
    return True


async def _read(request: Request) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(data)


def _too_large() -> ApiError:
    # The rest of the body is still on its way: the connection cannot be used for another request.
    return ApiError(
        413, f"The body is larger than {MAX_BODY_BYTES:,} bytes.", code="body_too_large", headers={"connection": "close"}
    )


__all__ = ["MAX_BODY_BYTES", "ClientDisconnect", "read_json"]
