"""The routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from budwood.errors import BudwoodError
from budwood.serve.api import generation
from budwood.serve.api.admin import add_admin
from budwood.serve.api.body import read_json
from budwood.serve.api.call import call_of
from budwood.serve.api.context import Context
from budwood.serve.api.document import make_document
from budwood.serve.api.envelope import Envelope
from budwood.serve.api.faults import ApiError, engine_fault, error_object
from budwood.serve.api.flight import Mailbox
from budwood.serve.api.generation import check_may_ask
from budwood.serve.api.schema import read_chat, read_completion
from budwood.serve.directory import Live, NotUpError, UnknownModelError


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
    app.add_middleware(Envelope, context=context)
    _add_generation(app, context)
    _add_models(app, context)
    _add_operations(app, context)
    add_admin(app, context)
    return app


def _add_generation(app: FastAPI, context: Context) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        return await generation.chat(context, request, await read_json(request, read_chat))

    @app.post("/v1/completions", response_model=None)
    async def completions(request: Request) -> Response:
        return await generation.completion(context, request, await read_json(request, read_completion))


def _add_models(app: FastAPI, context: Context) -> None:
    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> Response:
        caller = call_of(request).caller
        names = context.directory.names()
        data = [_model(name, live) for name, live in names.items() if caller.may_ask(name)]
        return JSONResponse({"object": "list", "data": data})

    # A path, since names may hold a slash that the client sends as %2F; the server decodes it once.
    @app.get("/v1/models/{name:path}", response_model=None)
    async def model(request: Request, name: str) -> Response:
        check_may_ask(call_of(request), name)
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
    async def ready(request: Request) -> Response:
        state = context.state()
        # Which releases there are is told only to those who may read figures.
        shown = state if call_of(request).caller.may("metrics") else {"ready": state["ready"]}
        return JSONResponse(shown, 200 if state["ready"] else 503)

    document = make_document(admin=context.admin is not None)

    @app.get("/openapi.json", response_model=None)
    async def openapi() -> Response:
        return JSONResponse(document)

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


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
