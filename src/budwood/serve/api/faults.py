"""Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}} with the right status.

The official client retries 408, 409, 429 and 5xx twice. A request that will fail again is therefore never answered with one
of these, or carries `x-should-retry: false`.
"""

from collections.abc import Mapping
from typing import Any

from budwood.errors import BudwoodError, ServeError
from budwood.serve.backend import UnavailableError


class ApiError(ServeError):
    """A request that gets an error reply.

    Args:
        status: HTTP status.
        what: the message.
        param: the request field that is at fault.
        code: a word for programs.
        headers: further response headers.
        mend: what to do about it.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        mend: str = "",
    ) -> None:
        super().__init__(what, where=param or "", mend=mend)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


def bad_request(what: str, param: str | None = None, *, code: str | None = "invalid_value", mend: str = "") -> ApiError:
    return ApiError(400, what, param=param, code=code, mend=mend)


def from_budwood(error: BudwoodError, *, param: str | None) -> ApiError:
    """What the engine refused is the request's fault: 400, never 5xx."""
    return error if isinstance(error, ApiError) else bad_request(error.what, param, mend=error.mend)


def engine_fault(error: BudwoodError) -> ApiError:
    """What the engine could not go on with is ours: 500; 503 where trying again soon makes sense."""
    if isinstance(error, UnavailableError):
        return ApiError(503, error.what, code="not_up", headers={"retry-after": "1"}, mend=error.mend)
    return ApiError(500, error.what, code="engine_stopped", mend=error.mend)


def error_object(error: ApiError) -> dict[str, Any]:
    message = f"{error.what} {error.mend}".strip()
    return {"error": {"message": message, "type": _type(error.status), "param": error.param, "code": error.code}}


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
