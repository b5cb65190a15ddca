"""Against real vLLM: started, killed and ended by Budwood, and by URL."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from budwood.engine.lora import save_adapter
from budwood.serve.run import Server
from budwood.serve.vllm.loader import VllmLoader
from budwood.store import open_store

from .conftest import Nursery, make_base, make_soil
from .test_promotion import follows, observed, wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(2400)]

PYTHON = os.environ.get("BUDWOOD_VLLM_PYTHON", "")
START_S = 1500.0


def settings(**more: Any) -> dict[str, Any]:
    arguments = ("--max-model-len", "512", "--enforce-eager", "--max-logprobs", "20")
    return {"backend": "vllm", "vllm_python": PYTHON, "vllm_arguments": arguments, "max_batch": 8, **more}


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Server, list[Any]]]:
    """A router with a vLLM of its own and two releases: support (adapter 0) and plain (the base)."""
    if not PYTHON:
        pytest.skip("no vLLM environment; run `make test-vllm`, or set BUDWOOD_VLLM_PYTHON")
    folder = tmp_path_factory.mktemp("vllm")
    # vLLM's attention on CPUs wants heads of 32 or more.
    soil = make_soil(make_base(folder / "base", hidden=128, spread=0.1))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with open_store(folder / ".budwood") as store:
        nursery = Nursery(soil, store)
        nursery.promote(nursery.release("support", 0))
        nursery.promote(nursery.release("plain", None))
        with Server(store, nursery.settings(**settings()), report=nursery.events.append) as server:
            if not server.synced.wait(START_S):
                raise AssertionError([event.message for event in nursery.events])
            assert not server.state()["problems"], server.state()
            yield nursery, server, nursery.events


def ask(server: Server, model: str, text: str = "hello", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)


def close_to(nursery: Nursery, adapter: int | None, reply: httpx.Response, text: str) -> None:
    """The answer is the release's, up to where two tokens are within rounding of each other."""
    assert reply.status_code == 200, reply.text
    prompt = nursery.soil.template.encode_prompt([{"role": "user", "content": text}])
    tokens, gaps = nursery.soil.reference(adapter, prompt, 12)
    clear = next((place for place, gap in enumerate(gaps) if gap < 1e-3), len(tokens))
    wanted = nursery.soil.text(tokens[:clear])
    assert reply.json()["choices"][0]["message"]["content"].startswith(wanted.rstrip("\ufffd"))


def test_answers_are_those_of_the_release(field: Any) -> None:
    nursery, server, _ = field
    for number in range(6):
        close_to(nursery, 0, ask(server, "support", f"case {number}"), f"case {number}")
        close_to(nursery, None, ask(server, "plain", f"case {number}"), f"case {number}")


def test_seeds_logprobs_and_schemas_mean_what_they_mean(field: Any) -> None:
    _, server, _ = field
    warm: dict[str, Any] = {"temperature": 1.0, "seed": 7, "logprobs": True, "top_logprobs": 2, "n": 2}
    first, second = (ask(server, "support", **warm).json() for _ in range(2))
    assert [c["message"] for c in first["choices"]] == [c["message"] for c in second["choices"]]
    assert first["choices"][0]["message"] != first["choices"][1]["message"]
    entries = first["choices"][0]["logprobs"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= entry["top_logprobs"][0]["logprob"] for entry in entries)
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = ask(server, "support", response_format=form, max_tokens=40).json()
    assert set(json.loads(reply["choices"][0]["message"]["content"])) == {"ok"}
    assert reply["choices"][0]["finish_reason"] == "stop"


def test_promotion_and_rollback(field: Any) -> None:
    nursery, server, _ = field
    first = nursery.store.find_release("support@production")
    second = nursery.release("support", 1)
    nursery.promote(second)
    wait_for(lambda: follows(nursery, "support", second.digest))
    close_to(nursery, 1, ask(server, "support"), "hello")
    nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
    wait_for(lambda: follows(nursery, "support", first.digest))
    close_to(nursery, 0, ask(server, "support"), "hello")


def test_an_adapter_whose_names_match_nothing_stays_out(field: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM compares ends of names: it accepts such an adapter, lists it and answers 200 from the base."""
    from safetensors.torch import load_file, save_file

    nursery, server, _ = field
    first = nursery.store.find_release("support@production")
    original = VllmLoader._write

    def write(*arguments: Any) -> Path | None:
        folder = original(*arguments)
        assert folder is not None
        file = folder / "adapter_model.safetensors"
        broken = {name.replace("model.layers.", "model.decoder.layers."): value for name, value in load_file(file).items()}
        save_file(broken, file, metadata={"format": "pt"})
        return folder

    monkeypatch.setattr(VllmLoader, "_write", write)
    spoilt = nursery.release("support", 1, note="spoilt on the way")
    nursery.promote(spoilt)
    wait_for(lambda: (seen := observed(nursery, "support")) is not None and seen[:2] == (spoilt.digest, False))
    monkeypatch.undo()
    print(observed(nursery, "support"))
    close_to(nursery, 0, ask(server, "support"), "hello")
    nursery.promote(first)
    wait_for(lambda: follows(nursery, "support", first.digest))


def test_the_same_adapter_asked_of_vllm_itself(field: Any, tmp_path: Path) -> None:
    nursery, server, _ = field
    replica = next(iter(server._parts.backend._pools.values())).replicas[0]
    save_adapter(nursery.soil.adapters[0], tmp_path / "own", base_id="x", revision=None)
    prompt = list(nursery.soil.template.encode_prompt([{"role": "user", "content": "itself"}]))
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(replica.client._socket)),
        base_url="http://vllm",
        headers=replica.client._headers,
        timeout=120,
    ) as vllm:
        load = {"lora_name": "by-hand", "lora_path": str(tmp_path / "own")}
        vllm.post("/v1/load_lora_adapter", json=load).raise_for_status()
        body = {"model": "by-hand", "prompt": prompt, "max_tokens": 12, "temperature": 0, "return_token_ids": True}
        own = vllm.post("/v1/completions", json=body).raise_for_status().json()["choices"][0]
        vllm.post("/v1/unload_lora_adapter", json={"lora_name": "by-hand"}).raise_for_status()
        assert vllm.get("/v1/models", headers={"authorization": "Bearer guessed"}).status_code == 401
    ours = ask(server, "support", "itself").json()["choices"][0]["message"]["content"]
    assert ours == nursery.soil.text(own["token_ids"])


def test_killed_during_a_promotion_the_alias_is_old_or_new_and_answers_again(field: Any) -> None:
    nursery, server, events = field
    first = nursery.store.find_release("support@production")
    second = nursery.release("support", 1, note="promoted while vLLM is killed")
    process = next(iter(server._parts.backend._pools.values())).replicas[0].process
    began = len(events)
    nursery.promote(second)
    os.kill(process.pid, signal.SIGKILL)
    seen = []

    def answered() -> bool:
        reply = ask(server, "support")
        seen.append(reply.status_code)
        return reply.status_code == 200 and reply.json()["system_fingerprint"] == second.digest

    wait_for_long(answered)
    close_to(nursery, 1, ask(server, "support"), "hello")
    assert set(seen) <= {200, 503}, seen
    assert any("it gets no requests until" in event.message for event in events[began:])
    nursery.promote(first)
    wait_for(lambda: follows(nursery, "support", first.digest))
    close_to(nursery, 0, ask(server, "support"), "hello")
    nursery.store.history("support")


def test_probes_hold_in_bfloat16(field: Any, tmp_path: Path) -> None:
    """Probes as they are measured for every release, on a vLLM of its own that computes in bfloat16."""
    from budwood.engine.probes import read_probes
    from budwood.events import silent
    from budwood.pipeline.adopting import Adoption, adopt

    soil = field[0].soil
    save_adapter(soil.adapters[0], tmp_path / "peft", base_id="x", revision=None)
    with open_store(tmp_path / ".budwood") as store:
        nursery = Nursery(soil, store)
        wish = Adoption("imported", str(soil.ref.folder))
        digest = adopt(store, tmp_path / "peft", wish, who="t", reason="t", report=silent).digest
        probes = read_probes(store.file(digest, "probes.json"))
        assert probes.tolerances["bfloat16"] > probes.tolerances["float32"]
        nursery.promote(store.find_release(digest))
        chosen = nursery.settings(**settings(precision="bfloat16"))
        with Server(store, chosen, report=nursery.events.append) as server:
            assert server.synced.wait(START_S)
            assert not server.state()["problems"], server.state()
            passed = next(event for event in nursery.events if "probes passed" in event.message)
            # Not float32 by another name: a difference that float32 does not make, and within what was measured for it.
            assert probes.tolerances["float32"] < passed.fields["difference"] <= probes.tolerances["bfloat16"]
            assert ask(server, "imported").json()["system_fingerprint"] == digest


def wait_for_long(what: Any) -> None:
    tick = threading.Event()
    for _ in range(int(START_S)):
        if what():
            return
        tick.wait(1.0)
    raise AssertionError("it did not happen in time")
