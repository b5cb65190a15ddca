"""What is known of one HTTP request beside its body: who asks, under which id, and what the log will say of it."""

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from budwood.serve.access.book import NOBODY, Caller

_KEY = "budwood.call"


@dataclass
class Call:
    """One request.

    Args:
        id: sent back as `x-request-id`.
        caller: whose token it carries.
        figures: what the log says besides: release, tokens. Never a text of a prompt or an answer.
    """

    id: str
    caller: Caller = NOBODY
    figures: dict[str, Any] = field(default_factory=dict)


def attach(scope: Scope, call: Call) -> None:
    scope[_KEY] = call


def call_of(request: Request) -> Call:
    call = request.scope[_KEY]
    assert isinstance(call, Call)
    return call
