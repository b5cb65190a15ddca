"""One vLLM server's HTTP: health, models, adapters, completions. Used in one event loop; nothing is tried twice here."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import ServeError
from budwood.serve.backend import UnavailableError
from budwood.serve.vllm.wire import Reply, read_event, unreadable

if TYPE_CHECKING:
    import httpx

CONNECT_S = 5.0
ADMIN_S = 300.0
"""Loading an adapter waits for the step in progress, and for its files."""
HEALTH_S = 5.0
TOKEN_S = 600.0
"""Longest wait for the next token; a request may stand in vLLM's own queue for long."""


class GoneError(UnavailableError):
    """The server cannot be reached, or broke off: another one may answer. `slow`: it only kept us waiting."""

    slow = False


class LostAdapterError(GoneError):
    """The server does not know the adapter (any more): it was started again."""


class RefusedError(ServeError):
    """The server answered that it will not do this; it would say the same again."""


@dataclass(frozen=True)
class Models:
    """What a server has: its base's name, how long a text it takes, and adapter name → folder."""

    base: str
    context: int | None
    adapters: Mapping[str, str]


class VllmClient:
    """Speaks to one server.

    Args:
        url: where it is; with `socket` only a name.
        key: its API key; empty: none.
        socket: Unix socket on which it listens.
    """

    def __init__(self, url: str, *, key: str = "", socket: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._socket = socket
        self._made: httpx.AsyncClient | None = None

    async def healthy(self) -> bool:
        """Whether it says that it is well.

        Raises:
            GoneError: no answer at all.
        """
        async with self._reply("GET", "/health", timeout_s=HEALTH_S) as reply:
            return reply.status_code == 200

    async def models(self) -> Models:
        """Ask what it serves.

        Raises:
            GoneError: no answer.
            ServeError: an answer that cannot be read, or no base.
        """
        value = await self._json("GET", "/v1/models", None)
        try:
            cards = value["data"]
            base = next(card for card in cards if not card.get("parent"))
            adapters = {str(card["id"]): str(card.get("root")) for card in cards if card.get("parent")}
            context = base.get("max_model_len")
            return Models(str(base["id"]), None if context is None else int(context), adapters)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise unreadable(error) from None

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter.

        Raises:
            GoneError: no answer, so that nobody knows whether it is loaded.
            RefusedError: the server's reason.
        """
        await self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter; not knowing it is no error."""
        try:
            await self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        except LostAdapterError:
            return

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """Answer a completion that is not streamed."""
        return await self._json("POST", "/v1/completions", body)

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Reply]:
        """Yield the pieces of a streamed completion, the last with a finish. Closing the iterator stops it at the server.

        Raises:
            GoneError: it broke off, or was never begun.
            RefusedError: the server's reason.
            ServeError: what came cannot be read.
        """
        finished = False
        async with self._reply("POST", "/v1/completions", body, timeout_s=TOKEN_S) as reply:
            await _check(reply)
            async for line in _lines(reply, self.url):
                piece = read_event(line)
                if piece is not None:
                    yield piece
                    finished = finished or piece.finish is not None
        if not finished:
            raise GoneError(f"The vLLM server {self.url} broke off in the middle of an answer.")

    async def close(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        reply = await self._ask(method, path, body)
        try:
            return reply.json()
        except ValueError as error:
            raise unreadable(error) from None

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> "httpx.Response":
        async with self._reply(method, path, body, timeout_s=ADMIN_S) as reply:
            await _check(reply)
            return reply

    @asynccontextmanager
    async def _reply(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float
    ) -> AsyncIterator["httpx.Response"]:
        import httpx

        client = self._client()
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        try:
            async with client.stream(method, path, json=body, timeout=timeout) as reply:
                if path != "/v1/completions" or reply.status_code != 200 or not (body or {}).get("stream"):
                    await reply.aread()
                yield reply
        except httpx.HTTPError as error:
            raise _gone(self.url, error) from None

    def _client(self) -> "httpx.AsyncClient":
        import httpx

        if self._made is None:
            transport = httpx.AsyncHTTPTransport(
                uds=str(self._socket) if self._socket else None,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            )
            # The environment's proxies are not for a server that the recipe names, and a redirect is none of ours.
            self._made = httpx.AsyncClient(base_url=self.url, headers=self._headers, transport=transport, trust_env=False)
        return self._made


async def _lines(reply: "httpx.Response", url: str) -> AsyncIterator[str]:
    import httpx

    try:
        async for line in reply.aiter_lines():
            yield line
    except httpx.HTTPError as error:
        raise _gone(url, error) from None


async def _check(reply: "httpx.Response") -> None:
    if reply.status_code == 200:
        return
    message = _message(reply)
    if reply.status_code == 404 and ("does not exist" in message or "cannot be found" in message):
        raise LostAdapterError(f"The vLLM server {reply.url.host} does not know this adapter: {message}")
    if reply.status_code in (401, 403):
        raise RefusedError(
            f"The vLLM server {reply.url.host} does not take our API key ({reply.status_code}).",
            where="[serve] vllm_key_env",
            mend="Put the right key into that environment variable.",
        )
    # A load that fails inside the server is a 500 with a reason: that is an answer, not a server that is gone.
    if (reply.status_code >= 500 and "lora_adapter" not in reply.url.path) or reply.status_code == 429:
        raise GoneError(f"The vLLM server {reply.url.host} answered {reply.status_code}: {message}")
    raise RefusedError(f"The vLLM server refused with {reply.status_code}: {message}")


def _message(reply: "httpx.Response") -> str:
    try:
        value = reply.json()
        text = str(value["error"]["message"] if "error" in value else value.get("message") or value)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = reply.text
    return text.strip()[:500]


def _gone(url: str, error: Exception) -> GoneError:
    import httpx

    gone = GoneError(f"The vLLM server {url} cannot be reached: {type(error).__name__}: {error}.")
    gone.slow = isinstance(error, httpx.TimeoutException)
    return gone
