"""Who may come in: requests for this host, not sent by a web page of somebody else, with a token that may do what is asked.

A web page can reach a server on loopback through its visitor's browser in two ways. It may let its own name point to
127.0.0.1 (DNS rebinding): its requests then carry that name as Host. Or it sends requests across sites: browsers mark these
with Origin and Sec-Fetch-Site, which a page cannot forge. Both are refused, and no answer ever allows another origin to read
it (there is no CORS).
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from budwood.serve.access.book import Book, Caller, Refused, Scope
from budwood.serve.api.faults import ApiError

OPEN = ("/health", "/ready")
"""Paths that need no token: whoever starts and watches servers asks them. They tell only whether all is well."""
_SCOPES: Mapping[str, Scope] = {
    "/v1": "inference",
    "/openapi.json": "inference",
    "/metrics": "metrics",
    "/admin/sync": "sync",
    "/admin": "admin",
}
_REALM = 'Bearer realm="budwood"'


@dataclass(frozen=True)
class Entrance:
    """The rule of one server.

    Args:
        book: who a token is of.
        hosts: names that a Host header may have, besides those of this machine's own loopback.
        literals: whether it may be any IP address: a server that is bound to more than loopback is reached by its own.
    """

    book: Book
    hosts: frozenset[str]
    literals: bool

    def admit(self, path: str, headers: Headers) -> Caller:
        """Let a request in, and say who sent it.

        Raises:
            ApiError: 400, 401 or 403.
        """
        _check_framing(headers)
        self._check_host(headers)
        _check_site(headers)
        try:
            caller = self.book.caller(_secret(headers))
        except Refused as error:
            if path in OPEN:
                return self.book.caller(None)
            raise _unauthorised(error.what, error.mend, 'error="invalid_token"') from None
        if path not in OPEN:
            _check_scope(caller, scope_of(path))
        return caller

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        if len(given) != 1:
            raise ApiError(400, f"There are {len(given)} Host headers; one is needed.", code="wrong_host")
        if not self._is_ours(given[0]):
            raise ApiError(
                403,
                "The Host header names another machine than this one.",
                code="wrong_host",
                mend="If clients reach this server by that name, add it to [serve] hosts.",
            )

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name == "localhost" or name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.literals or address.is_loopback


def _check_framing(headers: Headers) -> None:
    # We would read to the last chunk. A proxy before us that counts instead would take what follows for another request.
    if "content-length" in headers and "transfer-encoding" in headers:
        raise ApiError(
            400, "Both Content-Length and Transfer-Encoding are given; one says where a body ends.", code="wrong_framing"
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _check_site(headers: Headers) -> None:
    origins = headers.getlist("origin")
    host = headers["host"].lower()
    foreign = [origin for origin in origins if origin.lower() not in (f"http://{host}", f"https://{host}")]
    if foreign or any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
        raise ApiError(403, "A web page of another site may not use this server.", code="cross_site")


def _secret(headers: Headers) -> str | None:
    given = headers.getlist("authorization")
    if not given:
        return None
    scheme, _, secret = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorised("The Authorization header is not one of the form `Bearer TOKEN`.", "", 'error="invalid_request"')
    return secret.strip()


def scope_of(path: str) -> Scope | None:
    """What a path asks for; None: no route of ours has it."""
    return next((scope for start, scope in _SCOPES.items() if path == start or path.startswith(f"{start}/")), None)


def _check_scope(caller: Caller, scope: Scope | None) -> None:
    if caller.scopes if scope is None else caller.may(scope):
        # That there is nothing at a path is told to whoever may come in at all.
        return
    if not caller.name:
        mend = "Make one with `budwood token create`, and send it as `Authorization: Bearer TOKEN`."
        raise _unauthorised(f"This needs a token{f' with scope {scope!r}' if scope else ''}.", mend, "")
    raise ApiError(
        403,
        f"The token {caller.name!r} has no scope {scope!r}.",
        code="insufficient_permissions",
        headers={"www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
        mend="Make another with `budwood token create --scope`.",
    )


def _unauthorised(what: str, mend: str, more: str) -> ApiError:
    headers = {"www-authenticate": f"{_REALM}, {more}" if more else _REALM}
    return ApiError(401, what, code="invalid_api_key", headers=headers, mend=mend)


def own_hosts(hosts: Sequence[str]) -> frozenset[str]:
    """Names of [serve] hosts as Host headers are compared with them."""
    return frozenset(_without_port(host).lower() for host in hosts)
