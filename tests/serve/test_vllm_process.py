"""A server that Budwood starts: another environment's Python, a socket, a key, and an end in every case."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from budwood.errors import ServeError
from budwood.serve.vllm.process import Launch, Process

PATIENCE_S = 60.0

SERVER = """
import http.server, os, socketserver, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if arguments["--model"].endswith("broken"):
    sys.exit("there is no such model here")
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/health" or self.headers["authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        self.send_response(200 if known else 401)
        self.send_header("content-length", "0")
        self.end_headers()
    def address_string(self):
        return "socket"
print("updating:", os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], "dev:", os.environ.get("VLLM_SERVER_DEV_MODE"), flush=True)
if os.fork() == 0:
    import time
    time.sleep(600)
socketserver.UnixStreamServer(arguments["--uds"], Answer).serve_forever()
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An environment's Python that has a vLLM of 20 lines."""
    room = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    room.mkdir(parents=True)
    (room / "api_server.py").write_text(SERVER)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def launch(python: str, folder: Path, model: str = "model") -> Launch:
    folder.mkdir(exist_ok=True)
    return Launch(python, folder / model, folder, dtype="float32", max_rank=16, max_loras=2, max_requests=4)


@pytest.fixture
def process(python: str, tmp_path: Path) -> Iterator[Process]:
    made = Process(launch(python, tmp_path / "run"))
    yield made
    made.stop()


async def _healthy(process: Process) -> bool:
    client = process.client()
    try:
        return await client.healthy()
    except ServeError:
        return False
    finally:
        await client.close()


def until(what: object) -> None:
    tick = threading.Event()
    for _ in range(int(PATIENCE_S / 0.02)):
        if what():  # type: ignore[operator]
            return
        tick.wait(0.02)
    raise AssertionError("it did not happen in time")


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_server_is_started_again_and_nothing_of_it_is_left(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    process.start()
    until(lambda: asyncio.run(_healthy(process)))
    first = process.pid
    assert first is not None
    assert "updating: True dev: None" in process.log.read_text()
    os.kill(first, signal.SIGKILL)
    until(lambda: not process.running)
    # Its engine, a process of its own, is still there, and holds the memory that the next one needs.
    assert group_lives(first)
    process.start()
    until(lambda: not group_lives(first))
    until(lambda: asyncio.run(_healthy(process)))
    second = process.pid
    assert second is not None
    process.stop()
    until(lambda: not group_lives(second))


def test_why_it_ended_is_told_from_its_log(python: str, tmp_path: Path) -> None:
    process = Process(launch(python, tmp_path / "run", "broken"))
    process.start()
    until(lambda: not process.running)
    assert "exit status 1" in process.died().what
    assert "there is no such model here" in process.died().what
    process.stop()


def test_a_python_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot be started with '/nowhere/python': No such file"):
        Process(launch("/nowhere/python", tmp_path / "run")).start()


def test_it_ends_when_its_starter_is_killed(python: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    starter = f"""
import sys, time
from pathlib import Path
from budwood.serve.vllm.process import Launch, Process
folder = Path({str(tmp_path / "run")!r})
process = Process(Launch({python!r}, folder / "model", folder, dtype="float32", max_rank=16, max_loras=2, max_requests=4))
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        until(lambda: (tmp_path / "run" / "http").exists())
        child.kill()
    until(lambda: not group_lives(pid))
