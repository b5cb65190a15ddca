"""The routes, and what is true of every reply: a request id, errors as JSON, a host that is this machine."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from budwood.errors import BudwoodError
from budwood.serve.api import generation
from budwood.serve.api.body import read_json
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, engine_fault, error_object
from budwood.serve.api.flight import Mailbox
from budwood.serve.directory import Live, NotUpError, UnknownModelError

KNOWN_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics", "/admin/sync")

Handler = Callable[[Context, Request, Mapping[str, Any]], Awaitable[Response]]


def make_app(context: Context) -> FastAPI:
    """Build the application; it opens no socket and starts no thread."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context.mailbox = Mailbox(asyncio.get_running_loop())
        yield

    app = FastAPI(title="Budwood", openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(BudwoodError, _budwood_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(_Envelope, context=context)
    _add_generation(app, context)
    _add_models(app, context)
    _add_operations(app, context)
    return app


def _add_generation(app: FastAPI, context: Context) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        return await generation.chat(context, request, await read_json(request))

    @app.post("/v1/completions", response_model=None)
    async def completions(request: Request) -> Response:
        return await generation.completion(context, request, await read_json(request))


def _add_models(app: FastAPI, context: Context) -> None:
    @app.get("/v1/models", response_model=None)
    async def models() -> Response:
        data = [_model(name, live) for name, live in context.directory.names().items()]
        return JSONResponse({"object": "list", "data": data})

    # A path, since names may hold a slash that the client sends as %2F; the server decodes it once.
    @app.get("/v1/models/{name:path}", response_model=None)
    async def model(name: str) -> Response:
        try:
            return JSONResponse(_model(name, context.directory.find(name)))
        except (UnknownModelError, NotUpError) as error:
            raise ApiError(404, error.what, param="model", code="model_not_found", mend=error.mend) from None


def _add_operations(app: FastAPI, context: Context) -> None:
    @app.get("/health", response_model=None)
    async def health() -> Response:
        healthy = context.healthy()
        return JSONResponse({"status": "ok" if healthy else "an engine has stopped"}, 200 if healthy else 503)

    @app.get("/ready", response_model=None)
    async def ready() -> Response:
        state = context.state()
        return JSONResponse(state, 200 if state["ready"] else 503)

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/admin/sync", response_model=None)
    async def sync(request: Request) -> Response:
        # A JSON body, if only {}: no web page can send that to another origin without being asked first.
        await read_json(request)
        await asyncio.to_thread(context.sync)
        return JSONResponse(context.state())


def _model(name: str, live: Live) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(datetime.fromisoformat(live.created_at).timestamp()),
        "owned_by": "budwood",
        "root": live.concrete,
        "parent": live.base_id,
        "release": live.digest,
        "max_model_len": live.worker.context,
    }


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error_object(error), error.status, error.headers)


async def _budwood_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BudwoodError)
    return JSONResponse(error_object(engine_fault(error)), 500)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fault = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", code="no_such_route")
    return JSONResponse(error_object(fault), error.status_code, error.headers)


class _Envelope:
    """Adds `x-request-id`, counts, answers what nobody foresaw, and refuses hosts that are not this machine.

    The last is against DNS rebinding: a web page whose name was made to point to 127.0.0.1 still sends its own host name.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._context.new_id()}"
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
                self._count(scope["path"], message["status"])
            await send(message)

        if not _is_this_machine(Headers(scope=scope).get("host", "")):
            fault = ApiError(403, "The Host header names another machine than this one.", code="wrong_host")
            await JSONResponse(error_object(fault), 403)(scope, receive, send_with_id)
            return
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            if not begun:
                fault = ApiError(500, "The server failed at this request; its log says why.", code="internal_error")
                await JSONResponse(error_object(fault), 500)(scope, receive, send_with_id)
            # The server's own log gets the traceback; the client gets no inside of ours.
            raise

    def _count(self, path: str, status: int) -> None:
        # Only paths of ours become labels: strangers must not be able to make new time series.
        endpoint = next((known for known in KNOWN_PATHS if path == known or path.startswith(known + "/")), "other")
        self._context.metrics.requests.labels(endpoint, str(status)).inc()


def _is_this_machine(host: str) -> bool:
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
