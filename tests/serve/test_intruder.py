"""Who has no right here gets nowhere: no token, an old one, one for something else, another name for the host, a web page."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from budwood.errors import ServeError, StoreError
from budwood.events import Event
from budwood.recipe import ServeSection
from budwood.serve.access.book import Book, Refused
from budwood.serve.run import Server
from budwood.store import open_store

ASK: dict[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
PATIENCE_S = 60.0


@dataclass
class House:
    """A server that asks for tokens, and the tokens."""

    nursery: Any
    server: Server
    tokens: dict[str, str]

    def send(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {self.tokens.get(token, token)}"}
        headers.update(more.pop("headers", {}))
        return httpx.request(method, f"{self.server.url}{path}", headers=headers, timeout=PATIENCE_S, **more)


@pytest.fixture(scope="module")
def house(soil: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    from tests.serve.conftest import Nursery

    root = tmp_path_factory.mktemp("house") / ".budwood"
    with open_store(root, clock=lambda: datetime.now(UTC) - timedelta(days=9)) as store:
        expired = Nursery(soil, store).token("expired", "inference", "admin", days=-1)
    with open_store(root) as store:
        nursery = Nursery(soil, store)
        nursery.promote(nursery.release("support", 0))
        nursery.promote(nursery.release("plain", None, changes={"object": nursery.base_object()}))
        nursery.release("support", 1, changes={"object": nursery.base_object()})
        tokens = {
            "all": nursery.token("both", "inference", "admin"),
            "ask": nursery.token("ask", "inference"),
            "plain": nursery.token("plain-only", "inference", models=["plain"]),
            "figures": nursery.token("figures", "metrics"),
            "admin": nursery.token("admin", "admin"),
            "revoked": nursery.token("revoked", "inference", "admin"),
            "expired": expired,
        }
        store.access.revoke("revoked", who="test", reason="test")
        with nursery.serving() as server:
            yield House(nursery, server, tokens)


def forged(token: str) -> str:
    return token[:-1] + ("0" if token[-1] != "0" else "1")


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/health", None, 200),
        ("GET", "/ready", None, 200),
        ("GET", "/ready", "revoked", 200),
        ("GET", "/v1/models", None, 401),
        ("GET", "/v1/models/support", None, 401),
        ("POST", "/v1/chat/completions", None, 401),
        ("POST", "/v1/completions", None, 401),
        ("GET", "/metrics", None, 401),
        ("POST", "/admin/sync", None, 401),
        ("GET", "/admin/state", None, 401),
        ("POST", "/admin/promote", None, 401),
        ("GET", "/nothing", None, 401),
        ("GET", "/openapi.json", None, 401),
        ("GET", "/v1/models", "none", 401),
        ("GET", "/v1/models", "revoked", 401),
        ("GET", "/v1/models", "expired", 401),
        ("POST", "/v1/chat/completions", "expired", 401),
        ("POST", "/admin/promote", "expired", 401),
        ("GET", "/v1/models", "figures", 403),
        ("GET", "/v1/models", "admin", 403),
        ("POST", "/v1/chat/completions", "figures", 403),
        ("GET", "/metrics", "ask", 403),
        ("GET", "/metrics", "figures", 200),
        ("GET", "/metrics", "admin", 200),
        ("GET", "/admin/state", "ask", 403),
        ("GET", "/admin/state", "figures", 403),
        ("POST", "/admin/sync", "ask", 403),
        ("POST", "/admin/promote", "ask", 403),
        ("POST", "/admin/rollback", "figures", 403),
        ("GET", "/v1/../admin/state", "ask", 404),
        ("GET", "/v1/%2e%2e/admin/state", "ask", 404),
        ("GET", "/v1/models/%2e%2e%2f%2e%2e%2fadmin%2fstate", "ask", 404),
        ("GET", "/v1/models/..%5c..%5cadmin", "ask", 404),
        ("GET", "//admin/state", "ask", 404),
        ("GET", "/ADMIN/state", "ask", 404),
        ("GET", "/health/../admin/state", None, 401),
        ("GET", "/nothing", "ask", 404),
        ("GET", "/v1/models", "ask", 200),
        ("GET", "/admin/state", "admin", 200),
    ],
)
def test_a_token_opens_what_it_is_for(house: House, method: str, path: str, token: str | None, status: int) -> None:
    # Over a plain socket: a client's library would tidy the path first.
    reply = raw(
        house, f"{method} {path} HTTP/1.1", *([f"authorization: Bearer {house.tokens.get(token, token)}"] if token else [])
    )
    assert reply.status == status, reply.text
    if status == 401:
        assert reply.header("www-authenticate").startswith('Bearer realm="budwood"')
        assert json.loads(reply.text)["error"]["code"] == "invalid_api_key"
    assert reply.header("access-control-allow-origin") == ""


@dataclass
class Raw:
    status: int
    head: str
    text: str

    def header(self, name: str) -> str:
        lines = (line.partition(":") for line in self.head.splitlines())
        return next((value.strip() for key, _, value in lines if key.lower() == name), "")


def raw(house: House, *lines: str, host: str | None = None, body: bytes = b"") -> Raw:
    """Send these header lines as they are, and read until the other side closes."""
    address, port = house.server.url.removeprefix("http://").split(":")
    head = [lines[0], f"host: {address}:{port}" if host is None else host, "connection: close", *lines[1:]]
    with socket.create_connection((address, int(port)), timeout=PATIENCE_S) as connection:
        data = b""
        try:
            connection.sendall("\r\n".join([*(line for line in head if line), "", ""]).encode() + body)
            while piece := connection.recv(1 << 16):
                data += piece
        except ConnectionError:
            pass  # it was cut: what came before counts
    top, _, text = data.partition(b"\r\n\r\n")
    return Raw(int(top.split()[1]) if top else 0, top.decode("latin-1"), text.decode("utf-8", "replace"))


def test_a_forged_token_is_as_unknown_as_any(house: House) -> None:
    for token in (
        forged(house.tokens["all"]),
        "bw_00000000_" + "0" * 64,
        "x",
        "x" * 20_000,
        "\u00e9".encode().decode("latin-1"),
    ):
        reply = raw(house, "GET /v1/models HTTP/1.1", f"authorization: Bearer {token}")
        assert reply.status == 401
        assert "not known here" in reply.text


@pytest.mark.parametrize(
    "line", ["authorization: Basic YTpi", "authorization: Bearer", "authorization: bw_x", "authorization: Bearer  "]
)
def test_other_forms_of_the_header_are_refused(house: House, line: str) -> None:
    assert raw(house, "GET /v1/models HTTP/1.1", line).status == 401


def test_two_tokens_are_none(house: House) -> None:
    line = f"authorization: Bearer {house.tokens['ask']}"
    assert raw(house, "GET /v1/models HTTP/1.1", line).status == 200
    assert raw(house, "GET /v1/models HTTP/1.1", line, line).status == 401


def test_a_token_for_one_model_sees_and_asks_no_other(house: House) -> None:
    names = [model["id"] for model in house.send("GET", "/v1/models", "plain").json()["data"]]
    assert {name.partition("@")[0] for name in names} == {"plain"}
    assert house.send("POST", "/v1/chat/completions", "plain", json={**ASK, "model": "plain"}).status_code == 200
    for model in ("support", "support@1", "nobody"):
        reply = house.send("POST", "/v1/chat/completions", "plain", json={**ASK, "model": model})
        assert (reply.status_code, reply.json()["error"]["param"]) == (403, "model")
        assert house.send("GET", f"/v1/models/{model}", "plain").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "evil.example:8321"},
        {"host": "10.0.0.1"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_hosts_and_sites_are_refused_even_with_a_token(house: House, headers: dict[str, str]) -> None:
    reply = house.send("POST", "/v1/chat/completions", "all", json=ASK, headers=headers)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] in ("wrong_host", "cross_site")
    assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_is_not_answered_with_leave(house: House) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    reply = house.send("OPTIONS", "/v1/chat/completions", headers=asked)
    assert reply.status_code == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_page_of_the_server_s_own_host_may_ask(house: House) -> None:
    headers = {"origin": house.server.url, "sec-fetch-site": "same-origin"}
    assert house.send("POST", "/v1/chat/completions", "ask", json=ASK, headers=headers).status_code == 200


SMUGGLED = b"GET /admin/state HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["content-length: 5", "content-length: 6"], b"hello"),
        (["content-length: 5", "transfer-encoding: chunked"], b"0\r\n\r\n" + SMUGGLED),
        (["transfer-encoding: chunked, identity"], b"0\r\n\r\n"),
        (["transfer-encoding: xchunked"], b"0\r\n\r\n"),
        (["content-length: -1"], b""),
        (["content-length: +5"], b"hello"),
        (["content-length: 5 "], b"hello" + SMUGGLED),
        (["transfer-encoding: chunked"], b"zz\r\n"),
        (["transfer-encoding: chunked"], b"fffffffffffffffffffff\r\n"),
        (["x-broken : 1"], b""),
        (["host: evil.example"], b""),
        ([" folded: 1"], b""),
        (["x-zero: a\x00b"], b""),
        (["x-huge: " + "a" * (1 << 20)], b""),
        ([f"x-{number}: a" for number in range(20_000)], b""),
    ],
)
def test_odd_framing_is_refused_and_nothing_gets_through_behind_it(house: House, lines: list[str], body: bytes) -> None:
    head = ["POST /v1/chat/completions HTTP/1.1", "content-type: application/json"]
    reply = raw(house, *head, f"authorization: Bearer {house.tokens['ask']}", *lines, body=body)
    assert reply.status in (0, 400, 401, 413, 431, 501), reply.head
    assert '"aliases"' not in reply.text
    assert house.send("GET", "/v1/models", "ask").status_code == 200


def test_every_request_of_a_connection_shows_its_own_token(house: House) -> None:
    host = house.server.url.removeprefix("http://")
    first = f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {house.tokens['all']}\r\n\r\n"
    second = f"GET /admin/state HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    with socket.create_connection((host.split(":")[0], int(host.split(":")[1])), timeout=PATIENCE_S) as connection:
        connection.sendall((first + second).encode())
        data = b""
        while piece := connection.recv(1 << 16):
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 1
    assert data.count(b"HTTP/1.1 401 Unauthorized") == 1


def test_ready_tells_strangers_no_names(house: House) -> None:
    assert house.send("GET", "/ready").json() == {"ready": True}
    assert "aliases" in house.send("GET", "/ready", "figures").json()


def test_the_official_client_raises_what_it_names(house: House) -> None:
    for token, kind in (("wrong", openai.AuthenticationError), ("figures", openai.PermissionDeniedError)):
        with (
            openai.OpenAI(base_url=f"{house.server.url}/v1", api_key=house.tokens.get(token, token), max_retries=0) as client,
            pytest.raises(kind) as caught,
        ):
            client.chat.completions.create(**ASK)
        assert caught.value.response.headers["x-request-id"].startswith("req_")


# --- the admin API ---


def test_an_alias_is_moved_and_moved_back_and_it_is_on_record(house: House) -> None:
    store = house.nursery.store
    wanted = {"release": "support@2", "alias": "staging", "reason": "a try", "override": "no suite yet"}
    moved = house.send("POST", "/admin/promote", "admin", json=wanted, headers={"x-request-id": "my-own.1"})
    assert moved.status_code == 200, moved.text
    assert moved.headers["x-request-id"] == "my-own.1"
    assert moved.json()["version"] == 2
    event = store.history("support")[-1]
    assert (event.kind, event.alias, event.who) == ("promoted", "staging", "token:admin")
    refused = house.send("POST", "/admin/rollback", "admin", json={"name": "support", "alias": "staging"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "refused")
    assert refused.headers["x-should-retry"] == "false"
    calls = house.send("GET", "/admin/calls?last=3", "admin").json()["calls"]
    assert [(call["token"], call["action"], call["status"]) for call in calls] == [
        ("admin", "calls", 0),
        ("admin", "rollback", 409),
        ("admin", "promote", 200),
    ]
    assert calls[2]["request_id"] == "my-own.1"
    assert calls[2]["detail"] == "staging to support@2"


def test_a_release_without_verdict_does_not_go_live_through_the_api(house: House) -> None:
    before = house.nursery.store.aliases()
    reply = house.send("POST", "/admin/promote", "admin", json={"release": "plain@1", "alias": "canary-x"})
    assert reply.status_code == 409
    assert house.nursery.store.aliases() == before


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("promote", {}, "release"),
        ("promote", {"release": "support@2", "who": "somebody else"}, "who"),
        ("promote", {"release": 2}, "release"),
        ("promote", {"release": "x" * 300}, "release"),
        ("rollback", {"name": ""}, "name"),
    ],
)
def test_admin_bodies_are_checked(house: House, path: str, body: dict[str, Any], param: str) -> None:
    reply = house.send("POST", f"/admin/{path}", "admin", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_names_that_leave_their_folder_are_refused(house: House) -> None:
    for path, body in (
        ("promote", {"release": "../../etc/passwd"}),
        ("promote", {"release": "support@../production"}),
        ("promote", {"release": "support@2", "alias": "../x"}),
        ("rollback", {"name": "..%2f.."}),
        ("rollback", {"name": "\x00"}),
    ):
        reply = house.send("POST", f"/admin/{path}", "admin", json=body)
        assert reply.status_code == 409, reply.text


def test_what_cannot_be_put_on_record_is_not_done(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise StoreError("The disk is full: the catalog was not written.")

    before = house.nursery.store.history()
    monkeypatch.setattr("budwood.store.access.Access.begin_call", full)
    wanted = {"release": "support@1", "alias": "staging", "override": "x"}
    reply = house.send("POST", "/admin/promote", "admin", json=wanted)
    assert reply.status_code == 500
    assert "disk is full" in reply.text
    assert house.nursery.store.history() == before


# --- binding, revoking, expiring ---


def test_a_public_address_needs_a_token_that_counts(nursery: Any) -> None:
    settings = ServeSection(host="0.0.0.0", port=0)
    with pytest.raises(ServeError, match="there is no access token that counts"):
        Server(nursery.store, settings)
    nursery.token("ci", "inference")
    nursery.store.access.revoke("ci", who="test", reason="")
    with pytest.raises(ServeError, match="there is no access token that counts"):
        Server(nursery.store, settings)
    with pytest.raises(ServeError, match='auth = "off" is for loopback'):
        Server(nursery.store, ServeSection(host="0.0.0.0", port=0, auth="off"))
    nursery.promote(nursery.release("support", 0))
    token = nursery.token("cd", "inference")
    with nursery.serving(host="0.0.0.0", hosts=("models.example",)) as server:
        port = server.url.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/v1/models"
        assert httpx.get(url).status_code == 401
        known = {"authorization": f"Bearer {token}"}
        for host, status in (("10.0.0.7", 200), ("models.example:80", 200), ("evil.example", 403)):
            assert httpx.get(url, headers={**known, "host": host}).status_code == status


def test_without_any_token_loopback_is_open_but_moves_nothing(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving() as server:
        assert any("no token is asked for" in event.message for event in nursery.events)
        assert httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer anything"}).status_code == 200
        body = {"release": "support@1", "override": "x"}
        assert httpx.post(f"{server.url}/admin/promote", json=body, timeout=PATIENCE_S).status_code == 401
        token = nursery.token("ci", "inference")
        server._parts.book.refresh()
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        good = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{server.url}/v1/models", headers=good).status_code == 200
        nursery.store.access.revoke("ci", who="test", reason="leaked")
        server._parts.book.refresh()
        assert httpx.get(f"{server.url}/v1/models", headers=good).status_code == 401
        assert httpx.get(f"{server.url}/v1/models").status_code == 401


def test_a_token_expires_between_two_readings(nursery: Any) -> None:
    token = nursery.token("ci", "inference", days=1)
    now = datetime.now(UTC)
    times = iter([now, now + timedelta(days=1, seconds=1)])
    book = Book(nursery.store.access.rows, "auto", report=lambda event: None, clock=lambda: next(times))
    assert book.caller(token).name == "ci"
    with pytest.raises(Refused, match="'ci' is expired"):
        book.caller(token)


def test_tokens_that_cannot_be_read_again_go_on_to_count_and_it_is_said_once(nursery: Any) -> None:
    token = nursery.token("ci", "inference")
    rows = nursery.store.access.rows()
    readings: Any = iter([rows, None, None, []])
    events: list[Event] = []

    def read() -> Any:
        found = next(readings)
        if found is None:
            raise StoreError("The catalog is locked.")
        return found

    book = Book(read, "auto", report=events.append)
    book.refresh()
    book.refresh()
    assert book.caller(token).name == "ci"
    assert len(events) == 1
    book.refresh()
    with pytest.raises(Refused):
        book.caller(token)


def test_the_book_is_read_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.serve.access.book.READ_AGAIN_S", 0.001)
    stop = threading.Event()
    readings: list[int] = []

    def read() -> Any:
        readings.append(1)
        if len(readings) > 3:
            stop.set()
        return []

    Book(read, "auto", report=lambda event: None).run(stop)
    assert len(readings) == 4
