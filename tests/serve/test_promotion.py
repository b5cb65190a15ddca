"""Aliases move while requests are in flight; releases that cannot be proved stay out."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from budwood.errors import ServeError
from budwood.identity import Digest
from budwood.recipe import ServeSection
from budwood.release.promote import wait_for_servers
from budwood.serve.run import Server, serve

PATIENCE_S = 60.0
TIE = 1e-4
"""In float32, another order of the same sums may choose another token where the best is ahead by less than this."""


def wait_for(what: Callable[[], bool]) -> None:
    """Look until it is true; a condition that waits for nothing but the clock."""
    tick = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if what():
            return
        tick.wait(0.01)
    raise AssertionError("it did not happen in time")


def observed(nursery: Any, name: str, alias: str = "production") -> tuple[Digest, bool, str] | None:
    rows = nursery.store.observed(name, alias)
    return (rows[0].digest, rows[0].ok, rows[0].detail) if rows else None


def follows(nursery: Any, name: str, digest: Digest) -> bool:
    state = observed(nursery, name)
    return state is not None and state[:2] == (digest, True)


class Line:
    """A bare keep-alive connection: 200 of the official client would be busier than the server."""

    def __init__(self, url: str) -> None:
        self._host, _, self._port = url.removeprefix("http://").partition(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, int(self._port))
        reader, writer = self._streams
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        reply: dict[str, Any] = json.loads(await reader.readexactly(length))
        assert lines[0] == "http/1.1 200 ok", reply
        return reply

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


@dataclass(frozen=True)
class Answered:
    model: str
    case: str
    release: Digest
    text: str


async def ask_whole(line: Line, model: str, case: str) -> Answered:
    reply = await line.ask({"model": model, "messages": [{"role": "user", "content": case}], "max_tokens": 10})
    return Answered(model, case, Digest(reply["system_fingerprint"]), reply["choices"][0]["message"]["content"])


async def ask_streamed(client: openai.AsyncOpenAI, model: str, case: str) -> Answered:
    messages: Any = [{"role": "user", "content": case}]
    stream = await client.chat.completions.create(model=model, messages=messages, max_tokens=10, stream=True)
    chunks = [chunk async for chunk in stream]
    fingerprints = {str(chunk.system_fingerprint) for chunk in chunks}
    assert len(fingerprints) == 1
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return Answered(model, case, Digest(fingerprints.pop()), text)


def test_bad_72_no_request_fails_while_releases_are_promoted_and_rolled_back(nursery: Any) -> None:
    """200 clients over two adapters and the base, 20 moves: every answer is that of the release that it names."""
    soil = nursery.soil
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    base = nursery.release("plain", None)
    nursery.promote(first)
    nursery.promote(base)
    answers: list[Answered] = []
    moved = threading.Event()

    async def ask(client: openai.AsyncOpenAI, url: str, number: int) -> None:
        model, line = ("plain", "support", "support", "support@1")[number % 4], Line(url)
        last = False
        while not last:
            last = moved.is_set()
            case = f"case {number % 25}"
            # Every tenth is the official client, streaming.
            answers.append(await (ask_whole(line, model, case) if number % 10 else ask_streamed(client, model, case)))
        line.close()

    def move() -> None:
        for number in range(20):
            target, kind = (second, "promoted") if number % 2 == 0 else (first, "rolled_back")
            nursery.store.move_alias("support", "production", target.digest, who="test", reason="test", kind=kind)
            wait_for(lambda digest=target.digest: follows(nursery, "support", digest))  # type: ignore[misc]
            seen = len(answers)
            wait_for(
                lambda begin=seen, digest=target.digest: any(  # type: ignore[misc]
                    answer.release == digest and answer.model == "support" for answer in answers[begin:]
                )
            )
        moved.set()

    async def main(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
            await asyncio.gather(asyncio.to_thread(move), *(ask(client, url, number) for number in range(200)))

    with nursery.serving(max_batch=32, max_queue=400) as server:
        asyncio.run(main(server.url))

    ties = 0
    for answer in answers:
        prompt = soil.template.encode_prompt([{"role": "user", "content": answer.case}])
        tokens, gaps = soil.reference(nursery.adapter_of[answer.release], prompt, 10)
        if answer.text != soil.text(tokens):
            assert min(gaps) < TIE, (answer, soil.text(tokens))
            ties += 1
    assert ties <= len(answers) // 50
    assert len(answers) >= 400

    def releases(model: str) -> set[Digest]:
        return {answer.release for answer in answers if answer.model == model}

    assert releases("support") == {first.digest, second.digest}
    assert releases("support@1") == {first.digest}
    assert releases("plain") == {base.digest}


def ask(server: Server, model: str = "support", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 4, **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE_S)


def test_bad_44_probes_that_fail_keep_the_old_release_and_say_so(nursery: Any) -> None:
    good, bad = nursery.release("support", 0), nursery.release("support", 1, shift=0.5)
    nursery.promote(good)
    with nursery.serving() as server:
        nursery.promote(bad)
        wait_for(lambda: observed(nursery, "support") is not None and not observed(nursery, "support")[1])  # type: ignore[index]
        state = observed(nursery, "support")
        assert state is not None
        assert state[0] == bad.digest
        assert "The golden probes failed at 2 probes: largest difference 0.5, allowed 0.001" in state[2]
        assert f"(still serving support@1-{good.digest[:12]})" in state[2]
        assert ask(server).json()["system_fingerprint"] == good.digest
        assert "support@production" in httpx.get(f"{server.url}/ready").json()["problems"]
        nursery.promote(good)
        wait_for(lambda: follows(nursery, "support", good.digest))
        assert httpx.get(f"{server.url}/ready").json()["problems"] == {}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"weights_digest": "0" * 64}, "binds base {id} with weights 000000000000, but what is found"),
        ({"tokenizer_digest": "0" * 64}, "another base than the one that is here: tokenizer 000000000000 (found"),
        ({"template_digest": "0" * 64}, "another base than the one that is here: chat template 000000000000 (found"),
        ({"id": "/nowhere/at/all"}, "'/nowhere/at/all' is a folder that is not there any more"),
        ({"quantization": "gptq"}, "quantization 'gptq' is not known"),
    ],
    ids=["bad_44 weights", "bad_45 tokenizer", "bad_46 template", "bad_44 gone", "bad_44 quantised"],
)
def test_a_release_over_another_base_is_refused(nursery: Any, changes: dict[str, Any], text: str) -> None:
    nursery.promote(nursery.release("support", 0, changes=changes))
    with nursery.serving() as server:
        state = observed(nursery, "support")
        assert state is not None
        assert not state[1]
        assert text.format(id=nursery.soil.ref.id) in state[2]
        assert state[2].endswith("(nothing is served under this alias)")
        reply = ask(server)
        assert reply.status_code == 503
        assert httpx.get(f"{server.url}/ready").status_code == 503


def test_an_adapter_that_probes_cannot_tell_from_the_base_is_refused(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the engine ignored adapters: the bank is told that no token has one.
    from budwood.engine.lora import AdapterBank

    nursery.promote(nursery.release("support", 0))
    original = AdapterBank.use
    monkeypatch.setattr(AdapterBank, "use", lambda bank, what, **more: original(bank, None, **more))
    with nursery.serving():
        state = observed(nursery, "support")
    assert state is not None
    assert not state[1]
    assert "The golden probes failed" in state[2]


def test_bad_26_damaged_files_are_noticed_before_they_serve(nursery: Any) -> None:
    row = nursery.release("support", 0)
    nursery.promote(row)
    adapter = nursery.store.manifest(row.digest).body["result"]["digest"]
    path = nursery.store.file(adapter, "adapter_model.safetensors")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with nursery.serving():
        state = observed(nursery, "support")
    assert state is not None
    assert not state[1]
    assert f"Object {adapter[:12]} is damaged" in state[2]


def test_bad_72_rolling_back_loads_nothing_and_needs_no_file(nursery: Any) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving() as server:
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        adapter = nursery.store.manifest(first.digest).body["result"]["digest"]
        folder = nursery.store.folder(adapter)
        folder.chmod(0o755)
        shutil.rmtree(folder)
        before = len(nursery.events)
        nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
        wait_for(lambda: follows(nursery, "support", first.digest))
        assert ask(server).json()["system_fingerprint"] == first.digest
        assert [event.message for event in nursery.events[before:]] == [
            f"support@production is now support@1-{first.digest[:12]}"
        ]


def test_a_server_that_starts_keeps_the_previous_release_warm_and_unloads_older_ones(nursery: Any) -> None:
    rows = [nursery.release("support", number % 2, note=str(number)) for number in range(4)]
    nursery.promote(rows[0])
    nursery.promote(rows[1])
    with nursery.serving(adapter_memory_mb=0) as server:

        def loaded() -> set[str]:
            listed = httpx.get(f"{server.url}/v1/models").json()["data"]
            return {model["release"] for model in listed}

        wait_for(lambda: loaded() == {rows[0].digest, rows[1].digest})
        nursery.promote(rows[2])
        wait_for(lambda: loaded() == {rows[1].digest, rows[2].digest})
        nursery.promote(rows[3])
        wait_for(lambda: loaded() == {rows[2].digest, rows[3].digest})
        assert ask(server, "support@1").status_code == 404
    assert nursery.store.observed("support") == []


def test_an_alias_of_a_new_name_is_picked_up_and_the_server_starts_empty(nursery: Any) -> None:
    with nursery.serving() as server:
        assert httpx.get(f"{server.url}/ready").status_code == 503
        nothing = ask(server)
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "model_not_found")
        assert "No release is being served yet." in nothing.json()["error"]["message"]
        row = nursery.release("support", 0)
        nursery.promote(row, "canary")
        wait_for(lambda: bool(nursery.store.observed("support", "canary")))
        assert ask(server, "support@canary").json()["system_fingerprint"] == row.digest
        assert ask(server).status_code == 404


def test_the_first_promotion_waits_for_a_server_that_has_nothing_to_serve_yet(nursery: Any) -> None:
    row = nursery.release("support", 0)
    with nursery.serving() as server:
        nursery.promote(row)
        states = wait_for_servers(nursery.store, "support", "production", row.digest, wait_s=PATIENCE_S)
        assert [(state.server_id, state.state) for state in states] == [(server.id, "follows")]
        assert ask(server).json()["system_fingerprint"] == row.digest
    assert nursery.store.servers() == []


def test_nf4_and_plain_bases_live_side_by_side(nursery: Any) -> None:
    plain = nursery.release("plain", None)
    nursery.promote(plain)
    nursery.promote(nursery.release("small", None, changes={"quantization": "nf4"}))
    with nursery.serving() as server:
        assert ask(server, "plain").json()["system_fingerprint"] == plain.digest
        state = observed(nursery, "small")
        assert state is not None
        # Its probes were made without quantisation: in nf4 they come out differently, and that is noticed.
        assert "The golden probes failed" in state[2]


def test_a_full_queue_answers_429_with_retry_after(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))

    async def main(url: str) -> list[httpx.Response]:
        body = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 60, "n": 4}
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            return await asyncio.gather(*(client.post(f"{url}/v1/chat/completions", json=body) for _ in range(12)))

    with nursery.serving(max_batch=2, max_queue=6) as server:
        replies = asyncio.run(main(server.url))
        refused = [reply for reply in replies if reply.status_code == 429]
        assert {reply.status_code for reply in replies} == {200, 429}
        assert len(refused) >= 4
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].json()["error"]["code"] == "queue_full"
        assert refused[0].json()["error"]["type"] == "rate_limit_error"
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(openai.BadRequestError),
        ):
            client.chat.completions.create(model="support", messages=[{"role": "user", "content": "x"}], n=16)
        assert ask(server).status_code == 200


@pytest.mark.parametrize("streamed", [True, False])
def test_bad_71_generation_stops_when_the_client_goes(nursery: Any, streamed: bool) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(max_new_tokens=400, max_batch=2) as server:
        host, port = server.url.removeprefix("http://").split(":")
        body = json.dumps(
            {
                "model": "support",
                "messages": [{"role": "user", "content": "x"}],
                "max_tokens": 400,
                "n": 8,
                "stream": streamed,
            }
        )
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            wait_for(lambda: in_flight(server) == 8)
        wait_for(lambda: in_flight(server) == 0)
        wait_for(lambda: figure(server, "budwood_engine_requests") == 0)
        # Two of the eight choices run at a time; all of them would be 3,200 tokens.
        assert figure(server, "budwood_engine_tokens") < 1600
        assert 'finish="unfinished"' in httpx.get(f"{server.url}/metrics").text
        assert ask(server).status_code == 200


def figure(server: Server, name: str) -> int:
    text = httpx.get(f"{server.url}/metrics").text
    return int(float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1]))


def in_flight(server: Server) -> int:
    return figure(server, "budwood_choices_in_flight")


def test_stopping_lets_requests_in_flight_finish(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))
    replies: list[httpx.Response] = []
    with nursery.serving(max_new_tokens=400) as server:
        thread = threading.Thread(target=lambda: replies.append(ask(server, max_tokens=300, n=4)))
        thread.start()
        wait_for(lambda: in_flight(server) == 4)
    thread.join(PATIENCE_S)
    assert replies[0].status_code == 200
    assert nursery.store.observed("support") == []


def test_a_taken_port_and_a_public_address_are_refused(nursery: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError) as caught:
            serve(nursery.store, ServeSection(port=port))
    assert str(caught.value) == (
        f"Port {port} of 127.0.0.1 cannot be used: Address already in use. In [serve] port.\n"
        "    Stop what is running there, or choose another port; 0 takes any free one."
    )
    with pytest.raises(ServeError, match=r"binds loopback addresses only, not '0\.0\.0\.0'"):
        serve(nursery.store, ServeSection(host="0.0.0.0", port=0))


CHILD = """
import sys
from pathlib import Path
from budwood.recipe import ServeSection
from budwood.serve.run import serve
from budwood.store import open_store
with open_store(Path(sys.argv[1])) as store:
    serve(store, ServeSection(port=0), ready=lambda server: print(server.url, flush=True))
print("bye", flush=True)
"""


def test_a_signal_ends_the_server_in_good_order(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))
    source = str(Path(__file__).resolve().parents[2] / "src")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(nursery.store.root)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    with child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert httpx.get(f"{url}/ready", timeout=PATIENCE_S).status_code == 200
        assert nursery.store.observed("support")[0].ok
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "bye\n"
    assert child.returncode == 0
    assert nursery.store.observed("support") == []


def test_an_interrupt_ends_the_server_and_the_handlers_are_put_back(nursery: Any) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    urls: list[str] = []

    def interrupt(server: Server) -> None:
        urls.append(server.url)
        signal.raise_signal(signal.SIGINT)

    serve(nursery.store, nursery.settings(), ready=interrupt)
    assert len(urls) == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
