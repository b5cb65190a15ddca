"""A server that speaks as much of vLLM's API as we use, computes the plain way, and can be told to misbehave."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from budwood.engine.base import BaseRef, load_base
from budwood.engine.generate.reference import _logits
from budwood.engine.lora import AdapterBank, load_adapter

BASE = "the-base"


@dataclass
class Faults:
    """What to do wrong from now on."""

    ignore_adapters: bool = False
    """Accept an adapter, list it, and answer from the base."""
    swap: str = ""
    """Answer requests of any adapter from this one."""
    decode_wrongly: bool = False
    """Score texts rightly, and make answers from the base."""
    refuse_loads: str = ""
    """Answer loads with 500 and this reason."""
    die_at: int | None = None
    """Break off answers after so many tokens."""
    hold: threading.Event = field(default_factory=threading.Event)
    """Answers wait for it before their last token; set at first."""


class FakeVllm:
    """One server on one port, which can be stopped and started again, empty, as a process that was killed."""

    def __init__(self, ref: BaseRef, *, key: str = "") -> None:
        base = load_base(ref)
        self._base, self._bank = base, AdapterBank.attach(base.model)
        self._lock = threading.Lock()
        self._key = key
        self._port = 0
        self.faults = Faults()
        self.faults.hold.set()
        self.adapters: dict[str, str] = {}
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.dropped = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=self._port, log_config=None, lifespan="off", timeout_graceful_shutdown=0
        )
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        tick = threading.Event()
        while not server.started:
            assert self._thread.is_alive()
            tick.wait(0.005)
        self._port = server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join()
        with self._lock:
            for name in self.adapters:
                self._bank.remove(name)
            self.adapters.clear()

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return Response(status_code=200)

    async def _models(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        cards = [{"id": BASE, "root": "/models/base", "parent": None, "max_model_len": self._base.identity.context}]
        cards += [{"id": name, "root": path, "parent": BASE} for name, path in self.adapters.items()]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        body = await request.json()
        self.calls.append(f"load {body['lora_name']}")
        if self.faults.refuse_loads:
            return _error(500, self.faults.refuse_loads)
        if body["lora_name"] in self.adapters:
            return _error(400, "has already been loaded")
        with self._lock:
            self._bank.add(body["lora_name"], load_adapter(Path(body["lora_path"]), self._base.model))
        self.adapters[body["lora_name"]] = body["lora_path"]
        return PlainTextResponse("Success")

    async def _unload(self, request: Request) -> Response:
        body = await request.json()
        self.calls.append(f"unload {body['lora_name']}")
        if self.adapters.pop(body["lora_name"], None) is None:
            return _error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        with self._lock:
            self._bank.remove(body["lora_name"])
        return PlainTextResponse("Success")

    async def _complete(self, request: Request) -> Response:
        if refusal := self._stranger(request):
            return refusal
        body = await request.json()
        self.bodies.append(body)
        model = body["model"]
        if model != BASE and model not in self.adapters:
            return _error(404, f"The model `{model}` does not exist.")
        if not body["stream"]:
            choice = await run_in_threadpool(self._next, body, self._slot(model), body["prompt"])
            return JSONResponse({"choices": [choice]})
        return StreamingResponse(self._stream(body), media_type="text/event-stream")

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        slot = -1 if self.faults.decode_wrongly else self._slot(body["model"])
        text = list(body["prompt"])
        try:
            for made in range(body["max_tokens"]):
                if self.faults.die_at is not None and made >= self.faults.die_at:
                    raise RuntimeError("told to die")
                if made == body["max_tokens"] - 1:
                    await run_in_threadpool(self.faults.hold.wait, 60)
                choice = await run_in_threadpool(self._next, body, slot, text)
                text.append(choice["token_ids"][0])
                yield f"data: {json.dumps({'choices': [choice]})}\n\n"
                if choice["finish_reason"]:
                    break
            yield "data: [DONE]\n\n"
        except BaseException:
            self.dropped.set()
            raise

    def _next(self, body: dict[str, Any], slot: int, text: list[int]) -> dict[str, Any]:
        with self._lock:
            row = _logits(self._base, self._bank, slot, text, [len(text) - 1])[0].log_softmax(-1)
        token = body["allowed_token_ids"][0] if "allowed_token_ids" in body else int(row.argmax())
        if body["temperature"] > 0:
            generator = torch.Generator().manual_seed(body["seed"] + len(text))
            token = int(torch.multinomial((row / body["temperature"]).softmax(-1), 1, generator=generator))
        stopped = token in body.get("stop_token_ids", ())
        ended = len(text) + 1 - len(body["prompt"]) >= body["max_tokens"]
        choice: dict[str, Any] = {
            "token_ids": [token],
            "finish_reason": "stop" if stopped else "length" if ended else None,
            "stop_reason": token if stopped else None,
        }
        if body.get("logprobs") is not None:
            best = row.topk(body["logprobs"] or 1)
            top = {f"token_id:{token}": float(row[token])}
            if body["logprobs"]:
                top |= {f"token_id:{t}": v for t, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
            choice["logprobs"] = {"token_logprobs": [float(row[token])], "top_logprobs": [top]}
        return choice

    def _slot(self, model: str) -> int:
        if model == BASE or self.faults.ignore_adapters:
            return -1
        return self._bank.slot(self.faults.swap or model)

    def _stranger(self, request: Request) -> Response | None:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return None


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "x", "code": status}}, status)


@contextmanager
def fake_servers(ref: BaseRef, count: int = 1, *, key: str = "") -> Iterator[list[FakeVllm]]:
    fakes = [FakeVllm(ref, key=key) for _ in range(count)]
    for fake in fakes:
        fake.start()
    try:
        yield fakes
    finally:
        for fake in fakes:
            fake.faults.hold.set()
            fake.stop()
