"""Transformers' generate with PEFT's adapters behind a small server: `transformers serve` takes no adapter by request.

All that wait when a batch has ended are the next batch, as many as there are places; each row names its adapter, which is how
PEFT mixes them. Every token is sent as soon as its step is done.
"""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Waiting:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.tokens: queue.SimpleQueue[int | None] = queue.SimpleQueue()


def serve(folder: Path, adapters: int, port: int, batch: int) -> None:
    """Serve until the process is ended. Models are `plain`, `a0`, `a1` and so on."""
    import torch
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    model: Any = loader.from_pretrained(folder / "base", dtype=torch.bfloat16).eval()
    if adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / "adapter-0", adapter_name="a0")
        for number in range(1, adapters):
            model.load_adapter(folder / f"adapter-{number}", adapter_name=f"a{number}")
        # PEFT keeps adapters in float32 otherwise.
        model = model.to(torch.bfloat16).eval()
    waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(model, waiting, batch, adapters > 0), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", port), _handler(waiting)).serve_forever()


def _run(model: Any, waiting: "queue.SimpleQueue[_Waiting]", batch: int, named: bool) -> None:
    while True:
        rows = [waiting.get()]
        while len(rows) < batch and not waiting.empty():
            rows.append(waiting.get())
        _answer(model, rows, named)


def _answer(model: Any, rows: list[_Waiting], named: bool) -> None:
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Sent(StoppingCriteria):
        """Sends each row's newest token; ends nothing."""

        def __call__(self, input_ids: Any, scores: Any, **others: Any) -> Any:
            for row, token in zip(rows, input_ids[:, -1].tolist(), strict=True):
                row.tokens.put(token)
            return torch.zeros(len(rows), dtype=torch.bool)

    # All prompts of this benchmark are equally long: nothing is padded.
    ids = torch.tensor([row.body["prompt"] for row in rows])
    names = (
        {"adapter_names": ["__base__" if row.body["model"] == "plain" else row.body["model"] for row in rows]} if named else {}
    )
    new = max(row.body["max_tokens"] for row in rows)
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([Sent()]),
            **names,
        )
    for row in rows:
        row.tokens.put(None)


def _handler(waiting: "queue.SimpleQueue[_Waiting]") -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            row = _Waiting(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            waiting.put(row)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            count = 0
            while (token := row.tokens.get()) is not None:
                count += 1
                self._event({"choices": [{"index": 0, "text": f"t{token} "}]})
            self._event({"choices": [], "usage": {"completion_tokens": count}})

        def _event(self, value: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
            self.wfile.flush()

    return Handler
