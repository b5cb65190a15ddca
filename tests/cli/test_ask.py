"""`budwood ask` against servers that are none: each reply is refused in words, and nothing in it reaches the terminal raw."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from budwood.cli import ask as ask_command
from budwood.errors import ServeError

Ask = Callable[[str], str]


@pytest.fixture
def ask() -> Ask:
    """Ask the server at a URL; gives what is printed, or raises what the command raises."""
    app = typer.Typer()
    ask_command.register(app)

    def run(url: str, *more: str) -> str:
        done = CliRunner().invoke(app, ["support", "Where is it?", "--url", url, *more])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return run


@contextmanager
def replying(reply: bytes) -> Iterator[str]:
    """A server that sends these bytes to whoever comes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def http(body: str | bytes, status: str = "200 OK") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


def reply(content: Any, fingerprint: Any = "0123456789abcdef") -> bytes:
    return http(json.dumps({"choices": [{"message": {"content": content}}], "system_fingerprint": fingerprint}))


def test_the_answer_and_its_release_are_printed(ask: Ask) -> None:
    with replying(reply("Tomorrow.\nAt noon.")) as url:
        assert ask(url).startswith("Tomorrow.\nAt noon.\n\nAnswered by release 0123456789ab.\n")


def test_a_hostile_answer_is_spelled_out(ask: Ask) -> None:
    with replying(reply("\x1b[2Jgone\r\x9b1m \ud83d half", "\x1b]0;title")) as url:
        printed = ask(url)
    assert printed.startswith("\\x1b[2Jgone\\r\\x9b1m \\ud83d half\n")
    assert "\x1b" not in printed


def test_json_stays_json_and_is_safe_to_show(ask: Callable[..., str]) -> None:
    with replying(reply("\x9b1m \ud83d é")) as url:
        printed = ask(url, "--json")
    assert json.loads(printed)["choices"][0]["message"]["content"] == "\x9b1m \ud83d é"
    assert "\x9b" not in printed
    assert "é" in printed


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (http("<html>"), "replied is no answer: it is no JSON."),
        (http("[" * 100_000), "replied is no answer: it is no JSON."),
        (http(b'{"a": "\xff"}'), "replied is no answer: it is no JSON."),
        (http("[]"), "replied is no answer: it has no message or no system_fingerprint."),
        (http('{"choices": []}'), "replied is no answer: it has no message or no system_fingerprint."),
        (reply(None), "replied is no answer: its message or system_fingerprint is no text."),
        (reply("x", 7), "replied is no answer: its message or system_fingerprint is no text."),
        (b"", "broke off: "),
        (b"220 smtp ready\r\n", "broke off: 220 smtp ready"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "broke off: "),
        (http('{"error": {"message": "no such model"}}', "404 Not Found"), "The server answered 404: no such model"),
        (http('{"error": "busy"}', "503 Busy"), 'The server answered 503: {"error": "busy"}'),
    ],
)
def test_a_reply_that_is_no_answer_is_refused(ask: Ask, sent: bytes, said: str) -> None:
    with replying(sent) as url, pytest.raises(ServeError) as caught:
        ask(url)
    assert said in str(caught.value)


def test_a_server_that_does_not_answer_in_time(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_command, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ServeError) as caught:
        ask(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert "has not answered within 0.05 s" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:8321", "ftp://a", "http://h:port", "http://a b", "http://\u2028", "http://[::1"]
)
def test_what_is_no_url(ask: Ask, url: str) -> None:
    with pytest.raises(ServeError) as caught:
        ask(url)
    assert str(caught.value) == f"{url!r} is no URL of a server. In --url.\n    Write it as http://127.0.0.1:8321."
