"""The admin API: what is registered and served, and moving aliases. Every call of it is put on record, before it is made.

A move made here is the move that `budwood promote` and `budwood rollback` make, with the same gate; in the history it was made
by "token:NAME".
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from budwood.errors import BudwoodError
from budwood.serve.api.actions import AdminActions, Audit
from budwood.serve.api.body import read_json
from budwood.serve.api.call import call_of
from budwood.serve.api.context import Context
from budwood.serve.api.faults import ApiError, bad_request
from budwood.serve.api.wire import Wire, validated

Reference = Annotated[str, Field(min_length=1, max_length=256)]
Reason = Annotated[str, Field(max_length=2000)]
MOST_LISTED = 1000
FAILED = 500


class PromoteRequest(Wire):
    """As `budwood promote` takes it."""

    release: Reference
    alias: Reference = "production"
    expect: Reference | None = None
    reason: Reason = ""
    override: Annotated[str, Field(min_length=1, max_length=2000)] | None = None


class RollbackRequest(Wire):
    """As `budwood rollback` takes it."""

    name: Reference
    alias: Reference = "production"
    to: Reference | None = None
    reason: Reason = ""


def add_admin(app: FastAPI, context: Context) -> None:
    """Add the routes; without functions to do it with, only the look at the catalog is there."""

    @app.post("/admin/sync", response_model=None)
    async def sync(request: Request) -> Response:
        # A JSON body, if only {}: no web page can send that to another origin without being asked first.
        await read_json(request, dict)
        await asyncio.to_thread(context.sync)
        return JSONResponse(context.state())

    if context.admin is not None and context.audit is not None:
        _add_reading(app, context, context.admin, context.audit)
        _add_moving(app, context.admin, context.audit)


def _add_reading(app: FastAPI, context: Context, admin: AdminActions, audit: Audit) -> None:
    @app.get("/admin/state", response_model=None)
    async def state(request: Request) -> Response:
        return await _recorded(audit, request, "state", "", context.state)

    @app.get("/admin/releases", response_model=None)
    async def releases(request: Request) -> Response:
        return await _recorded(audit, request, "releases", "", lambda: {"releases": admin.releases()})

    @app.get("/admin/history", response_model=None)
    async def history(request: Request) -> Response:
        name = request.query_params.get("name", "")[:256]
        return await _recorded(audit, request, "history", name, lambda: {"events": admin.history(name)})

    @app.get("/admin/calls", response_model=None)
    async def calls(request: Request) -> Response:
        last = _number(request.query_params.get("last", "50"))
        return await _recorded(audit, request, "calls", "", lambda: {"calls": admin.calls(last)})


def _add_moving(app: FastAPI, admin: AdminActions, audit: Audit) -> None:
    @app.post("/admin/promote", response_model=None)
    async def promote(request: Request) -> Response:
        wanted = await read_json(request, partial(validated, PromoteRequest))
        who = f"token:{call_of(request).caller.name}"

        def move() -> dict[str, Any]:
            return admin.promote(
                wanted.release,
                wanted.alias,
                expect=wanted.expect,
                who=who,
                reason=wanted.reason,
                override=wanted.override,
            )

        return await _recorded(audit, request, "promote", f"{wanted.alias} to {wanted.release}", move)

    @app.post("/admin/rollback", response_model=None)
    async def rollback(request: Request) -> Response:
        wanted = await read_json(request, partial(validated, RollbackRequest))
        who = f"token:{call_of(request).caller.name}"

        def move() -> dict[str, Any]:
            return admin.rollback(wanted.name, wanted.alias, to=wanted.to, who=who, reason=wanted.reason)

        to = f" to {wanted.to}" if wanted.to else ""
        return await _recorded(audit, request, "rollback", f"{wanted.name}@{wanted.alias}{to}", move)


async def _recorded(audit: Audit, request: Request, action: str, detail: str, work: Callable[[], dict[str, Any]]) -> Response:
    """Do what was asked on another thread, between two entries of the record."""
    call = call_of(request)

    def run() -> Response:
        number = audit.begin(call.caller.name, call.id, action, detail)
        status = FAILED
        try:
            reply = JSONResponse(work())
            status = reply.status_code
            return reply
        except BudwoodError as error:
            refused = _refused(error)
            status = refused.status
            raise refused from error
        finally:
            audit.end(number, status)

    return await asyncio.to_thread(run)


def _refused(error: BudwoodError) -> ApiError:
    # Asking again gives the same until somebody has changed something.
    headers = {"x-should-retry": "false"}
    return error if isinstance(error, ApiError) else ApiError(409, error.what, code="refused", headers=headers, mend=error.mend)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_LISTED):
        raise bad_request(f"last = {text[:32]!r} is not within 1..{MOST_LISTED}.", "last")
    return int(text)
