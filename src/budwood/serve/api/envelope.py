"""What is true of every reply: a request id, errors as JSON, a line in the figures and the log; and a client that reads."""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from budwood.serve.api.call import Call, attach
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, error_object
from budwood.serve.api.generation import CLIENT_GONE

KNOWN_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/admin",
)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Envelope:
    """Lets a request in, or answers for those behind: see `entrance`."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        call = Call(_request_id(headers.get("x-request-id", ""), self._context.new_id))
        began = self._context.clock()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = call.id
            # A client that reads nothing must not hold its places for ever; what it has not read is dropped with it.
            try:
                async with asyncio.timeout(self._context.settings.write_timeout_s):
                    await send(message)
            except TimeoutError:
                self._context.metrics.slow_readers.inc()
                raise ClientDisconnect from None

        attach(scope, call)
        try:
            _check_version(scope["http_version"])
            call.caller = self._context.entrance.admit(scope["path"], headers)
            await self._app(scope, receive, send_with_id)
        except ApiError as fault:
            # The body of a request that was not let in has not been read: the connection cannot be used for another.
            headers_out = {**fault.headers, "connection": "close"}
            await JSONResponse(error_object(fault), fault.status, headers_out)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            if not status:
                ours = ApiError(500, "The server failed at this request; its log says why.", code="internal_error")
                await JSONResponse(error_object(ours), 500)(scope, receive, send_with_id)
            # The server's own log gets the traceback; the client gets no inside of ours.
            raise
        finally:
            self._note(scope, call, status, self._context.clock() - began)

    def _note(self, scope: Scope, call: Call, status: int, seconds: float) -> None:
        # Only paths of ours become labels: strangers must not be able to make new time series, nor to write into the log.
        path = scope["path"]
        endpoint = next((known for known in KNOWN_PATHS if path == known or path.startswith(known + "/")), "other")
        self._context.metrics.requests.labels(endpoint, str(status)).inc()
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            self._context.metrics.turned_away.labels(str(status)).inc()
        if self._context.log is not None:
            figures: dict[str, Any] = {"request_id": call.id, "token": call.caller.name, "endpoint": endpoint, "status": status}
            self._context.log({**figures, "seconds": round(seconds, 6), **call.figures})


def _check_version(version: str) -> None:
    if version not in ("1.0", "1.1"):
        raise ApiError(400, f"HTTP {version} is not spoken here; HTTP 1.1 is.", code="wrong_framing")


def _request_id(given: str, new_id: Callable[[], str]) -> str:
    """The sender's own id, if it may stand in a log; else one of ours."""
    return given if _ID.fullmatch(given) else f"req_{new_id()}"
