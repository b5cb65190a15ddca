"""The socket of a server, and the HTTP machine on it: who may bind where, and how long a connection may idle.

A client that sends its request header slowly, or reads an answer slowly, costs a connection and no more, and not for ever.
"""

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from budwood.errors import ServeError

if TYPE_CHECKING:
    import uvicorn

    from budwood.recipe import ServeSection
    from budwood.serve.access.book import Book

BACKLOG = 2048
GRACE_S = 30
"""How long requests in flight may go on after a stop; then they are cut."""
MAX_HEADER_BYTES = 32 << 10
HEADER_S = 30.0
"""How long a connection may take to send a whole header: the first from its beginning, others from their first byte."""
MAX_CONNECTIONS = 4096
"""Further ones are closed at once: each is a file descriptor, of which a process has not many."""


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(_address(host)).is_loopback
    except ValueError:
        return False


def check_open(settings: "ServeSection", book: "Book") -> None:
    """Refuse to be reached by others without asking who they are.

    Raises:
        ServeError: the address is not loopback and [serve] auth is off, or there is no token that counts.
    """
    if is_loopback(settings.host):
        return
    if settings.auth == "off":
        raise ServeError(
            f'auth = "off" is for loopback addresses only, not {settings.host!r}.',
            where="[serve] auth",
            mend='Leave it at "auto", and make a token with `budwood token create`.',
        )
    if not book.live:
        raise ServeError(
            f"The server binds loopback addresses only, not {settings.host!r}: there is no access token that counts.",
            where="[serve] host",
            mend="Make one with `budwood token create`, or keep to 127.0.0.1.",
        )


def listen(settings: "ServeSection") -> socket.socket:
    """Bind before anything is loaded, so that a taken port is known in the first second.

    Raises:
        ServeError: the address or the port cannot be used.
    """
    host, port = settings.host, settings.port
    address = _address(host)
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    # Without it a restart would find its own port in TIME_WAIT; a listening one still counts as taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted connections inherit it: the kernel ends those whose peer takes nothing any more. Later than we give up
        # writing, so that they are counted: it frees what we have handed over already.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout_s * 1500))
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = "[serve] host" if isinstance(error, socket.gaierror) else "[serve] port"
        raise ServeError(
            f"Port {port} of {host} cannot be used: {error.strerror}.",
            where=where,
            mend="Stop what is running there, or choose another port; 0 takes any free one.",
        ) from None
    return listener


def http_server(app: Any, host: str) -> "uvicorn.Server":
    """Make the HTTP machine; it runs in whatever thread calls its `run`."""
    import uvicorn

    config = uvicorn.Config(
        app,
        host=host,
        http=_protocol(),
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return uvicorn.Server(config)


def _address(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _protocol() -> type[asyncio.Protocol]:
    """Make uvicorn's protocol close connections that send no request, or come too many at once."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MAX_CONNECTIONS:
                transport.abort()
                return
            self._wait_for_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # uvicorn's own timer for idle connections ends with the next byte, whatever comes after it. That byte may
            # also be of a body that was not read before its answer went out.
            if self._timer is None and self._is_between():
                self._wait_for_header()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._timer is not None:
                self._timer.cancel()

        def _is_between(self) -> bool:
            """Whether no request is being answered. `cycle` is set by a whole header, and stays after its answer."""
            return self.cycle is None or self.cycle.response_complete

        def _wait_for_header(self) -> None:
            self._timer = self.loop.call_later(HEADER_S, self._close_unless_used, self.cycle)

        def _close_unless_used(self, before: Any) -> None:
            self._timer = None
            if self.cycle is before:
                self.transport.abort()
            elif self._is_between():
                self._wait_for_header()

    return Protocol
