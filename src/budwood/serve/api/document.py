"""The OpenAPI document: what may be sent, made from the very models that check it, and what comes back."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from budwood.serve.api.admin import PromoteRequest, RollbackRequest
from budwood.serve.api.schema import ChatRequest, CompletionRequest
from budwood.serve.api.wire import Wire

Operation = dict[str, Any]
_PART = "#/components/schemas/{model}"
_REFUSALS: Mapping[str, str] = {
    "400": "A field is wrong; `param` names it",
    "401": "No token, or one that does not count",
    "403": "The token may not do this, the host is another, or a web page of another site asks",
    "404": "No such model or route",
    "405": "Another method",
    "408": "The body came too slowly",
    "409": "Refused by the gate, or the alias is elsewhere",
    "413": "The body is too large",
    "415": "Another content type",
    "429": "The queue is full, or the caller is over a limit; see Retry-After",
    "503": "The release is being loaded; see Retry-After",
    "504": "Not complete at the deadline",
}


def make_document(*, admin: bool) -> dict[str, Any]:
    """Describe the API; with `admin`, the admin API too."""
    parts: dict[str, Any] = {"Error": _error()}
    paths: dict[str, Any] = {
        "/v1/chat/completions": {"post": _post("Answer a conversation", ChatRequest, parts)},
        "/v1/completions": {"post": _post("Continue a text", CompletionRequest, parts)},
        "/v1/models": {"get": _get("List the names that can be asked")},
        "/v1/models/{model}": {"get": {**_get("Describe one of them"), "parameters": [_named("model", "path")]}},
        "/health": {"get": {**_get("Whether the engines live"), "security": []}},
        "/ready": {"get": {**_get("Whether releases are served"), "security": []}},
        "/metrics": {"get": _get("Figures for Prometheus", kind="text/plain")},
        "/openapi.json": {"get": _get("This document")},
        "/admin/sync": {"post": _post("Look at the catalog now", None, parts)},
    }
    if admin:
        paths |= {
            "/admin/state": {"get": _get("What is served, and what could not be loaded")},
            "/admin/releases": {"get": _get("What is registered")},
            "/admin/history": {"get": {**_get("What happened"), "parameters": [_named("name", "query")]}},
            "/admin/calls": {"get": {**_get("Who called this API"), "parameters": [_count("last")]}},
            "/admin/promote": {"post": _post("Point an alias at a release", PromoteRequest, parts)},
            "/admin/rollback": {"post": _post("Point an alias back", RollbackRequest, parts)},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Budwood", "version": version("budwood")},
        "paths": paths,
        "components": {"schemas": parts, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _get(summary: str, *, kind: str = "application/json") -> Operation:
    return {"summary": summary, "responses": {"200": {"description": "Done", "content": {kind: {}}}, **_refusals()}}


def _post(summary: str, model: type[Wire] | None, parts: dict[str, Any]) -> Operation:
    schema: dict[str, Any] = {"type": "object"}
    if model is not None:
        own = model.model_json_schema(ref_template=_PART, mode="validation")
        parts.update(own.pop("$defs", {}))
        parts[model.__name__] = own
        schema = {"$ref": _PART.format(model=model.__name__)}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    done = {"description": "Done", "content": {"application/json": {}, "text/event-stream": {}}}
    return {"summary": summary, "requestBody": body, "responses": {"200": done, **_refusals()}}


def _refusals() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _PART.format(model="Error")}}}
    return {status: {"description": meaning, "content": content} for status, meaning in _REFUSALS.items()}


def _error() -> dict[str, Any]:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    fields = {"message": text, "type": text, "param": maybe, "code": maybe}
    error = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}


def _named(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string", "maxLength": 256}}


def _count(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}
