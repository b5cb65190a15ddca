"""Group F of the bad inputs, 71 (requests): a 4xx that names the field, bounded time and memory, and nobody else notices.

Each case is sent to a server that runs, byte by byte where a client's library would tidy it. After each, another client is
answered as before, nothing is held for the one that misbehaved, and neither alias nor history has moved. Case 72, the moments
of a server's life, is in `test_bad_moments.py`, and in `test_promotion`, `test_follow` and `test_demand`.
"""

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from budwood.serve import listen
from budwood.serve.api import body as body_module

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
PATIENCE_S = 60.0
ASK: dict[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
PROMPT: dict[str, Any] = {"model": "support", "prompt": "x", "max_tokens": 2}


@dataclass(frozen=True)
class Reply:
    """What came back: 0 and nothing where the connection was cut without a word."""

    status: int
    head: str
    text: str
    all: bytes = field(repr=False)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)["error"]
        return found


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes; it must, within PATIENCE_S."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            data += piece
    return data


def reply_of(data: bytes) -> Reply:
    head, _, text = data.partition(b"\r\n\r\n")
    return Reply(
        int(head.split()[1]) if head else 0,
        head.decode("latin-1"),
        text.decode("utf-8", "replace"),
        data,
    )


def sent(url: str, data: bytes) -> Reply:
    with connected(url) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return reply_of(read_all(connection))


def head(*lines: str, method: str = "POST", path: str = CHAT, host: str = "127.0.0.1") -> bytes:
    start = [f"{method} {path} HTTP/1.1", *([f"host: {host}"] if host else []), *lines]
    return "\r\n".join([*start, "", ""]).encode("latin-1")


def posted(body: bytes, *, path: str = CHAT, kind: str = "application/json") -> bytes:
    lines = ["connection: close", f"content-length: {len(body)}", *([f"content-type: {kind}"] if kind else [])]
    return head(*lines, path=path) + body


def held(url: str) -> dict[str, float]:
    """What the server holds for requests: places, streams."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text
    return {
        name: float(re.findall(rf"^{name} (\S+)$", text, re.M)[0]) for name in ("budwood_choices_in_flight", "budwood_streams")
    }


NOTHING = {"budwood_choices_in_flight": 0, "budwood_streams": 0}


def expected(soil: Any) -> str:
    """The reference's answer to ASK."""
    prompt = soil.template.encode_prompt(ASK["messages"])
    return str(soil.text(soil.reference(0, prompt, ASK["max_tokens"])[0]))


@pytest.fixture
def unmoved(garden: Any) -> Iterator[str]:
    """URL of the server. Afterwards another client is answered as before, nothing is held, and nothing has moved."""
    nursery, server = garden
    before = (nursery.store.aliases(), nursery.store.history())
    threads = threading.active_count()
    yield server.url
    answer = httpx.post(f"{server.url}{CHAT}", json=ASK, timeout=PATIENCE_S).json()["choices"][0]
    assert answer["message"]["content"] == expected(nursery.soil)
    assert held(server.url) == NOTHING
    # What was long was decoded in threads that stay for the next.
    assert threading.active_count() <= threads + 8
    assert (nursery.store.aliases(), nursery.store.history()) == before


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def chat(**changes: Any) -> bytes:
    return json.dumps({**ASK, **changes}).encode()


def with_schema(schema: dict[str, Any]) -> bytes:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def text_of(**raw: str) -> bytes:
    """A chat request whose named fields are these texts, as they are."""
    given = {key: json.dumps(value) for key, value in ASK.items()} | raw
    return ("{" + ", ".join(f'"{key}": {value}' for key, value in given.items()) + "}").encode()


def with_tool(parameters: str) -> bytes:
    """A chat request with a tool whose parameters are this text."""
    return text_of(tools=f'[{{"type": "function", "function": {{"name": "f", "parameters": {parameters}}}}}]')


def with_schema_text(schema: str) -> bytes:
    return text_of(response_format=f'{{"type": "json_schema", "json_schema": {{"name": "x", "schema": {schema}}}}}')


def calling(arguments: str, calls: int = 1) -> bytes:
    """A chat request in which an earlier answer has called a function."""
    made = [{"id": str(n), "type": "function", "function": {"name": "f", "arguments": arguments}} for n in range(calls)]
    return chat(messages=[{"role": "assistant", "content": "", "tool_calls": made}])


BODIES: list[tuple[str, bytes, str | None]] = [
    ("no model", chat(model=None), "model"),
    ("n of 10^9", chat(n=10**9), "n"),
    ("max_tokens negative", chat(max_tokens=-1), "max_tokens"),
    ("max_tokens huge", chat(max_tokens=10**12), "max_tokens"),
    ("temperature NaN", text_of(temperature="NaN"), None),
    ("temperature Infinity", text_of(temperature="-Infinity"), None),
    ("temperature that overflows", text_of(temperature="1e999"), "temperature"),
    ("temperature below 0", chat(temperature=-1), "temperature"),
    ("NaN in a note", text_of(metadata='{"a": NaN}'), None),
    ("NaN in a tool's schema", with_tool('{"x": NaN}'), None),
    ("overflow in a tool's schema", with_tool('{"x": 1e999}'), "tools[0]"),
    ("overflow in a schema", with_schema_text('{"type": "number", "minimum": 1e999}'), "response_format.json_schema.schema"),
    ("number of 5,000 digits", text_of(seed="9" * 5000), None),
    ("one key twice", text_of()[:-1] + b', "model": "plain"}', None),
    ("one key twice deep inside", text_of(messages='[{"role": "user", "content": "x", "content": "y"}]'), None),
    ("stop of nothing", chat(stop=[""]), "stop[0]"),
    ("10^5 stops", chat(stop=["a"] * 100_000), "stop"),
    ("no messages", chat(messages=[]), "messages"),
    ("unknown role", chat(messages=[{"role": "pirate", "content": "x"}]), "messages[0].role"),
    ("malformed tools", chat(tools=[{"type": "function"}]), "tools[0].function"),
    ("recursive schema", with_schema({"$ref": "#"}), "response_format.json_schema.schema"),
    ("regex bomb in a schema", with_schema({"type": "string", "pattern": "(a+)+$"}), "response_format.json_schema.schema"),
    ("logprobs above 20", chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    ("deep JSON, 200,000 levels", b'{"a":' * 200_000, None),
    ("deep JSON, closed", deep(100_000).encode(), None),
    ("deep JSON, 900 levels in a tool", with_tool(deep(900)), None),
    ("deep JSON, 900 levels in a schema", with_schema_text(deep(900)), None),
    ("deep JSON, 900 levels in a note", text_of(metadata=deep(900)), None),
    ("deep JSON in a call's arguments", calling(deep(900)), "messages[0].tool_calls[0].function.arguments"),
    ("UTF-8 cut in half", b'{"model": "\xc3', None),
    ("UTF-8 overlong", b'{"model": "\xc0\xaf"}', None),
    ("UTF-8 surrogates", b'{"model": "\xed\xa0\x80"}', None),
    ("UTF-16", json.dumps(ASK).encode("utf-16"), None),
    ("byte order mark", b"\xef\xbb\xbf" + chat(), None),
    ("lone surrogate in a message", text_of(messages=r'[{"role": "user", "content": "\ud800"}]'), None),
    ("lone surrogate in a model", text_of(model=r'"\ud800"'), None),
    ("lone surrogate in a key", text_of(messages=r'[{"role": "user", "content": "x"}], "\ud800": 1'), None),
    ("lone surrogate in a stop", text_of(stop=r'["\uDFFF"]'), None),
    ("lone surrogate in a tool", with_tool(r'{"description": "\ud800"}'), None),
    ("lone surrogate in a schema", with_schema_text(r'{"type": "string", "const": "\ud800"}'), None),
    ("lone surrogate in a call", calling(r'{"a": "\ud800"}'), "messages[0].tool_calls"),
    ("bytes behind the object", chat() + b"{}", None),
    ("a list", b"[]", None),
    ("nothing", b"", None),
]


@pytest.mark.parametrize(("body", "param"), [row[1:] for row in BODIES], ids=[f"bad_71 {row[0]}" for row in BODIES])
def test_a_body_that_is_no_request(unmoved: str, body: bytes, param: str | None) -> None:
    reply = sent(unmoved, posted(body))
    assert reply.status == 400, reply.text
    assert reply.error["message"]
    assert param is None or reply.error["param"] == param, reply.text


def repeated(first: str, one: str, between: str = ",") -> str:
    """A value of nearly 2 MB, the largest body that is read at all."""
    return "[" + first + (between + one) * (1_800_000 // len(between + one)) + "]"


FLOODS: list[tuple[str, str, bytes, str | None]] = [
    ("unknown fields", CHAT, ("{" + ", ".join(f'"{n:x}": 1' for n in range(150_000)) + "}").encode(), None),
    (
        "fields, the last one twice",
        CHAT,
        ("{" + ", ".join(f'"{n:x}": 1' for n in [*range(150_000), 149_999]) + "}").encode(),
        None,
    ),
    (
        "unknown fields of a message",
        CHAT,
        text_of(messages='[{"role": "user", "content": "x", ' + ", ".join(f'"{n:x}": 1' for n in range(150_000)) + "}]"),
        None,
    ),
    (
        "messages",
        CHAT,
        text_of(messages=repeated('{"role": "user", "content": "x"}', '{"role": "user", "content": "x"}')),
        "messages",
    ),
    (
        "tools of many names",
        CHAT,
        chat(tools=[{"type": "function", "function": {"name": f"f{n}"}} for n in range(30_000)]),
        "tools",
    ),
    ("values in a tool", CHAT, with_tool('{"x": ' + repeated("{}", "{}") + "}"), "tools"),
    ("values in a call", CHAT, calling('{"x": ' + repeated("{}", "{}") + "}"), "messages[0].tool_calls"),
    ("calls", CHAT, calling("{}", 15_000), None),
    ("biases", CHAT, chat(logit_bias={str(n): 1 for n in range(100_000)}), "logit_bias"),
    ("notes", CHAT, chat(metadata={str(n): "x" for n in range(100_000)}), "metadata"),
    ("values in a schema", CHAT, with_schema_text('{"enum": ' + repeated("{}", "{}") + "}"), None),
    ("one long message", CHAT, chat(messages=[{"role": "user", "content": "x" * 1_900_000}]), "messages"),
    (
        "tokens, one of which is none",
        COMPLETION,
        json.dumps(PROMPT).encode()[:-1] + b', "prompt": ' + repeated("1", '"a"').encode() + b"}",
        None,
    ),
    ("tokens that are none", COMPLETION, json.dumps({**PROMPT, "prompt": [1, *["a"] * 300_000]}).encode(), None),
    ("tokens beyond the context", COMPLETION, json.dumps({**PROMPT, "prompt": [1] * 500_000}).encode(), "prompt"),
    ("prompts", COMPLETION, json.dumps({**PROMPT, "prompt": ["a"] * 300_000}).encode(), None),
]


@pytest.mark.parametrize(
    ("path", "body", "param"), [row[1:] for row in FLOODS], ids=[f"bad_71 flood of {row[0]}" for row in FLOODS]
)
@pytest.mark.timeout(120)
def test_a_body_that_is_all_work(unmoved: str, path: str, body: bytes, param: str | None) -> None:
    assert len(body) < body_module.MAX_BODY_BYTES
    with connected(unmoved) as connection:
        connection.sendall(posted(body, path=path))
        # Somebody else is answered meanwhile.
        assert httpx.get(f"{unmoved}/v1/models", timeout=PATIENCE_S).status_code == 200
        reply = reply_of(read_all(connection))
    assert reply.status == 400, reply.text[:300]
    assert param is None or reply.error["param"] == param
    assert len(reply.text) < 2000


SMUGGLED = head(method="GET", path="/v1/models")
CHUNKED = ["content-type: application/json", "transfer-encoding: chunked"]
JSON_KIND = "content-type: application/json"

WIRE: list[tuple[str, bytes, tuple[int, ...]]] = [
    ("no content type", posted(chat(), kind=""), (415,)),
    ("form", posted(b"model=support", kind="application/x-www-form-urlencoded"), (415,)),
    ("multipart", posted(chat(), kind="multipart/form-data; boundary=x"), (415,)),
    ("text", posted(chat(), kind="text/plain"), (415,)),
    ("JSON in name only", posted(b"\x80\x04\x95", kind="application/json"), (400,)),
    (
        "compressed",
        head("connection: close", JSON_KIND, "content-encoding: gzip", "content-length: 4") + b"\x1f\x8b\x08\x00",
        (400,),
    ),
    ("body said to be 10 MB", head(JSON_KIND, f"content-length: {10 << 20}"), (413,)),
    ("body of 10 MB", posted(b" " * (10 << 20)), (413,)),
    ("body of 3 MB in chunks", head(*CHUNKED) + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 48, (413,)),
    ("length of 5,000 digits", head(JSON_KIND, "content-length: " + "9" * 5000), (400, 413)),
    ("length below 0", head(JSON_KIND, "content-length: -1"), (400,)),
    ("length with a sign", head(JSON_KIND, "content-length: +5") + b"hello", (400,)),
    ("length in hex", head(JSON_KIND, "content-length: 0x5") + b"hello", (400,)),
    ("two lengths", head(JSON_KIND, "content-length: 5", "content-length: 6") + b"hello!", (400,)),
    ("length and chunks", head(*CHUNKED, "content-length: 5") + b"0\r\n\r\n" + SMUGGLED, (400,)),
    ("length that fits and chunks", head(*CHUNKED, f"content-length: {len(SMUGGLED) + 5}") + b"0\r\n\r\n" + SMUGGLED, (400,)),
    ("chunks of an unknown kind", head(JSON_KIND, "transfer-encoding: xchunked") + b"0\r\n\r\n", (400, 501)),
    ("chunks under another coding", head(JSON_KIND, "transfer-encoding: gzip, chunked") + b"0\r\n\r\n", (400, 501)),
    ("chunks announced twice", head(*CHUNKED, "transfer-encoding: chunked") + b"0\r\n\r\n", (400, 501)),
    ("chunk length that is none", head(*CHUNKED) + b"zz\r\n", (400,)),
    ("chunk length beyond 64 bits", head(*CHUNKED) + b"f" * 32 + b"\r\n", (400,)),
    ("chunk length below 0", head(*CHUNKED) + b"-1\r\n", (400,)),
    ("chunk with a long extension", head(*CHUNKED) + b"1;" + b"a" * (1 << 17), (400,)),
    ("chunk longer than it says", head(*CHUNKED) + b"1\r\nabc\r\n0\r\n\r\n", (400,)),
    ("trailer of 100 kB", head(*CHUNKED) + b"0\r\n" + b"x: " + b"a" * 100_000 + b"\r\n\r\n", (400,)),
    ("header of 10 MB", head("x-long: " + "a" * (10 << 20)), (0, 400, 431)),
    ("20,000 headers", head(*[f"x-{number}: a" for number in range(20_000)]), (0, 400, 431)),
    ("header name with a blank", head("x-broken : 1"), (400,)),
    ("folded header", head(" folded: 1"), (400, 403)),
    ("NUL in a header", head("x-zero: a\x00b"), (400,)),
    ("bare CR in a header", head("x-zero: a\rb: c"), (400,)),
    ("no host", head("connection: close", host=""), (400,)),
    ("two hosts", head("connection: close", "host: localhost"), (400,)),
    ("another host", head("connection: close", host="evil.example"), (403,)),
    ("another host in the target", head("connection: close", path=f"http://evil.example{CHAT}"), (404,)),
    (
        "another host in target and header",
        head("connection: close", path=f"http://evil.example{CHAT}", host="evil.example"),
        (403,),
    ),
    ("target of a proxy", head("connection: close", method="CONNECT", path="evil.example:443"), (404, 405)),
    ("target of a star", head("connection: close", method="OPTIONS", path="*"), (404, 405)),
    ("target without a slash", head("connection: close", path="v1/chat/completions"), (400, 404)),
    ("target with bytes beyond ASCII", head("connection: close", path="/v1/\xff"), (400, 404)),
    ("target with half a percent sign", head("connection: close", method="GET", path="/v1/models/%f"), (404,)),
    ("target that is no UTF-8", head("connection: close", method="GET", path="/v1/models/%ff%fe"), (404,)),
    ("target of 20 kB", head("connection: close", method="GET", path="/v1/models/" + "a" * 20_000), (404,)),
    ("method that is none", head("connection: close", method="BREW"), (405,)),
    ("method of 10 kB", head("connection: close", method="A" * 10_000), (400, 405)),
    ("HTTP 0.9", b"GET /v1/models\r\n\r\n", (400,)),
    ("HTTP 3 spelled out", b"GET /v1/models HTTP/3.0\r\nhost: 127.0.0.1\r\n\r\n", (400, 505)),
    ("HTTP 2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600 + b"\r\n\r\n", (400,)),
    ("upgrade to another protocol", head("connection: upgrade", "upgrade: websocket", "content-length: 0"), (415,)),
]


@pytest.mark.parametrize(("data", "statuses"), [row[1:] for row in WIRE], ids=[f"bad_71 {row[0]}" for row in WIRE])
def test_bytes_that_are_no_request(
    unmoved: str, monkeypatch: pytest.MonkeyPatch, data: bytes, statuses: tuple[int, ...]
) -> None:
    # What leaves a connection open is cut by the time for the next header.
    monkeypatch.setattr(listen, "HEADER_S", 0.5)
    reply = sent(unmoved, data)
    assert reply.status in statuses, (reply.head, reply.text[:200])
    assert reply.all.count(b"HTTP/1.1 ") <= 1, "what lay behind it was taken for another request"
    assert '"object":"list"' not in reply.text


def test_bad_71_pipelined_requests_are_answered_in_order_each_by_itself(unmoved: str) -> None:
    good = posted(chat()).replace(b"connection: close\r\n", b"")
    bad = posted(chat(n=0)).replace(b"connection: close\r\n", b"")
    reply = sent(unmoved, good + bad + good + posted(b"{") + good)
    assert re.findall(rb"HTTP/1\.1 (\d+)", reply.all) == [b"200", b"400", b"200", b"400"]


# --- clients that are slow, half gone or many ---


@pytest.fixture
def hasty(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes a server whose times and limits are small, and the means to wait until it has seen something."""
    monkeypatch.setattr(listen, "HEADER_S", 0.2)
    monkeypatch.setattr(body_module, "READ_TIMEOUT_S", 0.2)
    nursery.promote(nursery.release("support", 0))
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(nursery.serving(**settings))


SLOW: list[tuple[str, bytes, bytes]] = [
    ("nothing at all", b"", b""),
    ("half a header", b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-", b""),
    ("a blank line", b"\r\n", b"HTTP/1.1 400"),
    ("half a header after a whole request", head("content-length: 0", method="GET", path="/health") + b"GET", b"HTTP/1.1 200"),
    ("a byte of a body after its answer", head("content-length: 99", method="POST", path="/nothing") + b"x", b"HTTP/1.1 404"),
    ("half a body", head(JSON_KIND, "content-length: 100") + b'{"model"', b"HTTP/1.1 408"),
    ("half a chunk", head(*CHUNKED) + b"64\r\nabc", b"HTTP/1.1 408"),
    ("chunks without an end", head(*CHUNKED) + b"1\r\na\r\n", b"HTTP/1.1 408"),
]


@pytest.mark.parametrize(("data", "answer"), [row[1:] for row in SLOW], ids=[f"bad_71 slow, {row[0]}" for row in SLOW])
def test_who_stops_in_the_middle_is_cut_off(hasty: Any, data: bytes, answer: bytes) -> None:
    server = hasty()
    with connected(server.url) as connection:
        connection.sendall(data)
        # Reading ends only when the server closes.
        said = read_all(connection)
    assert said.startswith(answer)
    assert said.count(b"HTTP/1.1 ") == (1 if answer else 0)
    assert httpx.post(f"{server.url}{CHAT}", json=ASK, timeout=PATIENCE_S).status_code == 200


def test_bad_71_a_header_that_drips_is_cut_off(hasty: Any) -> None:
    """The time runs from the header's beginning: another byte now and then does not begin it anew."""
    server = hasty()
    with connected(server.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nx-slow: ")
        connection.settimeout(0.02)
        ended = False
        while not ended:
            try:
                connection.sendall(b"a")
                ended = connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    assert httpx.get(f"{server.url}/health", timeout=PATIENCE_S).status_code == 200


def test_bad_71_many_idle_connections_are_cut_off_and_more_are_closed_at_once(
    hasty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(listen, "HEADER_S", 2.0)
    server = hasty()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(server.url)) for _ in range(20)]
        more = [stack.enter_context(connected(server.url)) for _ in range(20)]
        # Those beyond the limit end first: none of the 20 has been cut off by then.
        assert [read_all(connection) for connection in more] == [b""] * 20
        idle[0].sendall(head("connection: close", method="GET", path="/health"))
        assert reply_of(read_all(idle[0])).status == 200
        assert [read_all(connection) for connection in idle[1:]] == [b""] * 19
    assert httpx.get(f"{server.url}/health", timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize("kernel", [False, True])
def test_bad_71_a_client_that_reads_nothing_is_cut_off_and_others_are_answered(
    hasty: Any, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    """By our own time for writing, and, where the kernel has one for connections, in any case."""
    if not kernel:
        monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    server = hasty(write_timeout_s=0.3, max_streams=1)
    body = chat(max_tokens=60, n=4, stream=True, logprobs=True, top_logprobs=20)
    # The kernel would keep some megabytes for it; a connection takes this over from its listener.
    server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect((host, int(port)))
        connection.sendall(posted(body))
        # Its header is here, so it has begun; the rest is left lying.
        assert connection.recv(4) == b"HTTP"
        while held(server.url) != NOTHING:
            assert httpx.post(f"{server.url}{CHAT}", json=ASK, timeout=PATIENCE_S).status_code == 200
        seen = read_all(connection)
    assert b"data: [DONE]" not in seen
    figures = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).text
    assert kernel or "budwood_slow_readers_total 1.0" in figures
    # Its place is free again: one stream at once is the limit.
    with httpx.stream("POST", f"{server.url}{CHAT}", json={**ASK, "stream": True}, timeout=PATIENCE_S) as reply:
        assert reply.read().endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "sent_before", [posted(chat(stream=True, max_tokens=60)), posted(chat(max_tokens=60)), posted(chat())[:-5]]
)
def test_bad_71_a_client_that_goes_leaves_nothing_behind(hasty: Any, sent_before: bytes) -> None:
    server = hasty()
    for _ in range(20):
        with connected(server.url) as connection:
            connection.sendall(sent_before)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert httpx.post(f"{server.url}{CHAT}", json=ASK, timeout=PATIENCE_S).status_code == 200
    while held(server.url) != NOTHING:
        assert httpx.get(f"{server.url}/health", timeout=PATIENCE_S).status_code == 200
