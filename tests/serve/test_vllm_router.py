"""Our server in front of vLLM servers that compute rightly, wrongly, or not at all."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from budwood.engine.lora import save_adapter
from budwood.identity import Digest

from .fake_vllm import FakeVllm, fake_servers
from .test_promotion import follows, observed, wait_for


@pytest.fixture
def two(nursery: Any) -> Iterator[list[FakeVllm]]:
    with fake_servers(nursery.soil.ref, 2) as fakes:
        yield fakes


@pytest.fixture
def one(nursery: Any) -> Iterator[FakeVllm]:
    with fake_servers(nursery.soil.ref) as fakes:
        yield fakes[0]


def at(*fakes: FakeVllm) -> dict[str, Any]:
    return {"backend": "vllm", "vllm_urls": tuple(fake.url for fake in fakes)}


def ask(server: Any, model: str, text: str = "hello", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def said(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def expected(nursery: Any, adapter: int | None, text: str = "hello", tokens: int = 8) -> str:
    prompt = nursery.soil.template.encode_prompt([{"role": "user", "content": text}])
    return str(nursery.soil.text(nursery.soil.reference(adapter, prompt, tokens)[0]))


def test_answers_are_those_of_the_release_through_promotion_and_rollback(nursery: Any, one: FakeVllm) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    nursery.promote(nursery.release("plain", None))
    with nursery.serving(**at(one)) as server:
        assert said(ask(server, "support")) == expected(nursery, 0)
        assert said(ask(server, "plain")) == expected(nursery, None)
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        reply = ask(server, "support")
        assert said(reply) == expected(nursery, 1)
        assert reply.json()["system_fingerprint"] == second.digest
        loads = len(one.calls)
        nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
        wait_for(lambda: follows(nursery, "support", first.digest))
        assert said(ask(server, "support")) == expected(nursery, 0)
        # The predecessor is warm: going back loads nothing.
        assert len(one.calls) == loads
        assert set(one.adapters) == {f"support@1-{first.digest[:12]}", f"support@2-{second.digest[:12]}"}
        salts = {body["model"]: body["cache_salt"] for body in one.bodies if "@" in body["model"]}
        assert salts == {name: row.digest for name, row in zip(sorted(one.adapters), (first, second), strict=True)}
    assert one.adapters == {}


def test_what_no_alias_needs_is_unloaded(nursery: Any, one: FakeVllm) -> None:
    rows = [nursery.release("support", number % 2, note=str(number)) for number in range(3)]
    with nursery.serving(**at(one), adapter_memory_mb=0):
        for row in rows:
            nursery.promote(row)
            wait_for(lambda row=row: follows(nursery, "support", row.digest))  # type: ignore[misc]
        wait_for(lambda: len(one.adapters) == 2)
        assert set(one.adapters) == {f"support@{row.version}-{row.digest[:12]}" for row in rows[1:]}


def test_the_official_client_gets_streams_logprobs_and_usage(nursery: Any, one: FakeVllm) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(**at(one)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", _strict_response_validation=True)
        messages: Any = [{"role": "user", "content": "hello"}]
        whole = client.chat.completions.create(model="support", messages=messages, max_tokens=6, logprobs=True, top_logprobs=3)
        prompt = nursery.soil.template.encode_prompt(messages)
        tokens = nursery.soil.reference(0, prompt, 6)[0]
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len(prompt), len(tokens))
        entries = whole.choices[0].logprobs.content if whole.choices[0].logprobs else None
        assert entries
        assert all(len(entry.top_logprobs) == 3 for entry in entries)
        assert all(entry.token == entry.top_logprobs[0].token for entry in entries)
        stream = client.chat.completions.create(model="support", messages=messages, max_tokens=6, stream=True)
        text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        assert text == whole.choices[0].message.content == expected(nursery, 0, tokens=6)


def test_a_stop_string_ends_the_answer_here_and_at_the_server(nursery: Any, one: FakeVllm) -> None:
    nursery.promote(nursery.release("support", 0))
    text = expected(nursery, 0, tokens=8)
    with nursery.serving(**at(one)) as server:
        one.faults.hold.clear()
        assert said(ask(server, "support", stop=[text[2:4]])) == text[: text.find(text[2:4])]
        one.faults.hold.set()
        assert one.dropped.wait(60)


@pytest.mark.parametrize("fault", ["ignore_adapters", "decode_wrongly"])
def test_an_adapter_that_is_accepted_and_not_applied_never_goes_live(nursery: Any, one: FakeVllm, fault: str) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving(**at(one)) as server:
        setattr(one.faults, fault, True)
        nursery.promote(second)
        wait_for(lambda: (seen := observed(nursery, "support")) is not None and seen[:2] == (second.digest, False))
        assert "golden probes failed" in str(observed(nursery, "support"))
        setattr(one.faults, fault, False)
        reply = ask(server, "support")
        assert reply.json()["system_fingerprint"] == first.digest
        assert said(reply) == expected(nursery, 0)
        assert set(one.adapters) == {f"support@1-{first.digest[:12]}"}


def test_anothers_adapter_never_goes_live(nursery: Any, one: FakeVllm) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving(**at(one)) as server:
        one.faults.swap = f"support@1-{first.digest[:12]}"
        nursery.promote(second)
        wait_for(lambda: (seen := observed(nursery, "support")) is not None and seen[:2] == (second.digest, False))
        assert said(ask(server, "support")) == expected(nursery, 0)


def test_a_load_that_the_server_refuses_is_told_with_its_reason(nursery: Any, one: FakeVllm) -> None:
    nursery.promote(nursery.release("plain", None))
    row = nursery.release("support", 0)
    one.faults.refuse_loads = "LoRA rank 4 is greater than max_lora_rank 1."
    nursery.promote(row)
    with nursery.serving(**at(one)) as server:
        assert "LoRA rank 4 is greater than max_lora_rank 1." in server.state()["problems"]["support@production"]
        assert said(ask(server, "plain")) == expected(nursery, None)


def test_one_server_that_computes_otherwise_keeps_a_release_out(nursery: Any, two: list[FakeVllm]) -> None:
    two[1].faults.ignore_adapters = True
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(**at(*two)) as server:
        assert "golden probes failed" in server.state()["problems"]["support@production"]
        assert not two[0].adapters
        assert not two[1].adapters


def test_requests_go_to_the_less_busy_server(nursery: Any, two: list[FakeVllm]) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(**at(*two)) as server:
        two[0].faults.hold.clear()
        two[1].faults.hold.clear()
        threads = [threading.Thread(target=ask, args=(server, "support", f"case {n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: sum(_streams(fake) for fake in two) == 6 + 4)
        for fake in two:
            fake.faults.hold.set()
        for thread in threads:
            thread.join()
        # Two probes each were spoken on both when the release came up.
        assert [_streams(fake) - 2 for fake in two] == [3, 3]


def _streams(fake: FakeVllm) -> int:
    return sum(bool(body["stream"]) for body in fake.bodies)


def test_a_server_that_dies_before_the_first_token_is_stood_in_for(nursery: Any, two: list[FakeVllm]) -> None:
    row = nursery.release("support", 0)
    nursery.promote(row)
    with nursery.serving(**at(*two)) as server:
        two[0].faults.die_at = 0
        for number in range(4):
            assert said(ask(server, "support", f"case {number}")) == expected(nursery, 0, f"case {number}")
        two[0].stop()
        for number in range(4):
            assert said(ask(server, "support", f"case {number}")) == expected(nursery, 0, f"case {number}")
        # It comes back empty, and gets nothing before the release has been proved there again.
        two[0].faults.die_at = None
        two[0].faults.ignore_adapters = True
        before = len(two[0].bodies)
        two[0].start()
        wait_for(lambda: any("kept from" in event.message for event in nursery.events))
        assert said(ask(server, "support")) == expected(nursery, 0)
        assert not [body for body in two[0].bodies[before:] if body["stream"]]
        assert not two[0].adapters


def test_a_server_that_comes_back_gets_its_releases_again(nursery: Any, one: FakeVllm) -> None:
    row = nursery.release("support", 0)
    nursery.promote(row)
    with nursery.serving(**at(one)) as server:
        one.stop()
        reply = ask(server, "support")
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        assert httpx.get(f"{server.url}/health").status_code != 200
        one.start()
        wait_for(lambda: ask(server, "support").status_code == 200)
        assert said(ask(server, "support")) == expected(nursery, 0)


def test_an_alias_never_moves_to_a_release_that_no_server_has_proved_again(nursery: Any, one: FakeVllm) -> None:
    """The predecessor is warm, but a server that went away has it no more: a rollback waits until it is there."""
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving(**at(one)) as server:
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        one.stop()
        assert ask(server, "support").status_code == 503
        nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
        wait_for(lambda: "has to be proved again" in server.state()["problems"].get("support@production", ""))
        assert "still serving support@2" in server.state()["problems"]["support@production"]
        assert not follows(nursery, "support", first.digest)
        one.start()
        wait_for(lambda: follows(nursery, "support", first.digest))
        assert said(ask(server, "support")) == expected(nursery, 0)


def test_a_server_that_lost_its_adapters_unnoticed_is_found_out(nursery: Any, one: FakeVllm) -> None:
    row = nursery.release("support", 0)
    nursery.promote(row)
    with nursery.serving(**at(one)) as server:
        one.adapters.clear()
        one._bank.remove(f"support@1-{row.digest[:12]}")
        assert ask(server, "support").status_code == 503
        wait_for(lambda: ask(server, "support").status_code == 200)


def test_what_breaks_off_in_the_middle_is_an_error_and_no_answer(nursery: Any, two: list[FakeVllm]) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(**at(*two)) as server:
        for fake in two:
            fake.faults.die_at = 3
        assert ask(server, "support").status_code == 503
        lines = [line for line in ask(server, "support", stream=True).text.splitlines() if line.startswith("data: {")]
        assert "error" in json.loads(lines[-1].removeprefix("data: "))


def test_a_wrong_key_is_said(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_KEY", "right")
    with fake_servers(nursery.soil.ref, key="right") as (fake,):
        nursery.promote(nursery.release("support", 0))
        with nursery.serving(**at(fake), vllm_key_env="VLLM_TEST_KEY") as server:
            assert said(ask(server, "support")) == expected(nursery, 0)
        monkeypatch.setenv("VLLM_TEST_KEY", "wrong")
        with nursery.serving(**at(fake), vllm_key_env="VLLM_TEST_KEY"):
            assert any("does not take our API key" in event.message for event in nursery.events)


def test_a_parameter_that_vllm_would_bend_is_refused(nursery: Any, one: FakeVllm) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(**at(one)) as server:
        reply = ask(server, "support", temperature=0.001)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "temperature"


def test_adapters_that_vllm_cannot_serve_are_refused_before_it_sees_them(nursery: Any, one: FakeVllm) -> None:
    quantised = nursery.release("support", 0, changes={"quantization": "nf4"})
    nursery.promote(quantised)
    nursery.promote(nursery.release("wide", 0))
    with nursery.serving(**at(one), vllm_max_lora_rank=1) as server:
        problems = server.state()["problems"]
        assert "quantised as 'nf4'" in problems["support@production"]
        assert "its rank is 4, and this vLLM takes up to 1" in problems["wide@production"]
    assert one.calls == []


def test_a_load_left_from_a_life_before_is_replaced(nursery: Any, one: FakeVllm, tmp_path: Any) -> None:
    row = nursery.release("support", 0)
    save_adapter(nursery.soil.adapters[1], tmp_path / "old", base_id="x", revision=None)
    name = f"support@1-{row.digest[:12]}"
    with httpx.Client(base_url=one.url) as client:
        client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(tmp_path / "old")}).raise_for_status()
    nursery.promote(row)
    with nursery.serving(**at(one)) as server:
        assert one.calls[1:3] == [f"unload {name}", f"load {name}"]
        assert said(ask(server, "support")) == expected(nursery, 0)
        assert Digest(ask(server, "support").json()["system_fingerprint"]) == row.digest
