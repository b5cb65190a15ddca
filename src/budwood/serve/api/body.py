"""Read a request's JSON within limits of size and time."""

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from budwood.serve.api.faults import ApiError, bad_request

MAX_BODY_BYTES = 2 << 20
READ_TIMEOUT_S = 30.0


async def read_json(request: Request) -> dict[str, Any]:
    """Read the body as a JSON object.

    Raises:
        ApiError: another content type, too large, too slow, not UTF-8, not JSON, nested too deeply, or no object.
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
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise bad_request(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise bad_request("The body is not a JSON object.", code="invalid_json")
    return value


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
