"""Releases that no alias names: loaded when a request names them, and unloaded when memory is wanted for others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from budwood.serve.loader import Loader
from budwood.serve.run import Server
from budwood.store import ReleaseRow

PATIENCE_S = 60.0


def ask(server: Server, model: str, text: str = "alpha") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE_S)


def loaded(server: Server) -> set[str]:
    return {model["release"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]}


def wanted_text(nursery: Any, adapter: int, text: str = "alpha") -> str:
    prompt = nursery.soil.template.encode_prompt([{"role": "user", "content": text}])
    tokens, _ = nursery.soil.reference(adapter, prompt, 8)
    return str(nursery.soil.text(tokens))


@pytest.fixture
def rows(nursery: Any) -> list[ReleaseRow]:
    """Four releases of two adapters; the first is in production."""
    made = [nursery.release("support", number % 2, note=str(number)) for number in range(4)]
    nursery.promote(made[0])
    return made


def test_a_release_is_loaded_when_a_request_names_it(nursery: Any, rows: list[ReleaseRow]) -> None:
    with nursery.serving(on_demand="any") as server:
        assert loaded(server) == {rows[0].digest}
        for number, model in ((1, "support@2"), (2, f"support@{rows[2].digest[:8]}"), (3, f"support@4-{rows[3].digest[:12]}")):
            reply = ask(server, model)
            assert reply.status_code == 200
            assert reply.json()["system_fingerprint"] == rows[number].digest
            assert reply.json()["choices"][0]["message"]["content"] == wanted_text(nursery, number % 2)
        assert loaded(server) == {row.digest for row in rows}


def test_names_of_no_release_are_not_found(nursery: Any, rows: list[ReleaseRow]) -> None:
    with nursery.serving(on_demand="any") as server:
        for model in ("support@9", "support@abcdef12", "other@1", f"other@{rows[0].digest[:8]}", "support@nowhere", "support@"):
            assert ask(server, model).status_code == 404
    with nursery.serving(on_demand="none") as server:
        assert ask(server, "support@2").status_code == 404


def test_a_release_that_fails_its_probes_never_answers(nursery: Any, rows: list[ReleaseRow]) -> None:
    spoilt = nursery.release("support", 1, shift=1.0)
    with nursery.serving(on_demand="any") as server:
        for _ in range(2):
            reply = ask(server, f"support@{spoilt.version}")
            assert reply.status_code == 422
            assert "golden probes failed" in reply.json()["error"]["message"]
        assert loaded(server) == {rows[0].digest}


def test_a_base_that_is_not_served_is_not_loaded_on_demand(nursery: Any, rows: list[ReleaseRow]) -> None:
    other = nursery.release("support", 1, changes={"weights_digest": "0" * 64})
    with nursery.serving(on_demand="any") as server:
        reply = ask(server, f"support@{other.version}")
        assert reply.status_code == 422
        assert "Its base is not in memory" in reply.json()["error"]["message"]


def test_bad_72_many_requests_for_one_cold_release_load_it_once(
    nursery: Any, rows: list[ReleaseRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    go = threading.Event()
    original = Loader.load

    def load(self: Loader, row: ReleaseRow) -> Any:
        loads.append(row.digest)
        assert row.digest == rows[0].digest or go.wait(PATIENCE_S)
        return original(self, row)

    monkeypatch.setattr(Loader, "load", load)
    with nursery.serving(on_demand="any") as server, ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(ask, server, "support@2") for _ in range(5)]
        # What is loaded answers meanwhile.
        assert ask(server, "support").status_code == 200
        go.set()
        assert {reply.result().json()["system_fingerprint"] for reply in replies} == {rows[1].digest}
    assert loads.count(rows[1].digest) == 1


def test_bad_72_the_least_recently_used_go_and_those_of_aliases_stay(
    nursery: Any, rows: list[ReleaseRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every adapter counts as 400 KiB of 1 MiB: two fit.
    monkeypatch.setattr(Loader, "size_bytes", lambda self, row: 400 << 10)
    monkeypatch.setattr(Loader, "_size_of", lambda self, engine, key: 400 << 10)
    fifth = nursery.release("support", None, note="plain")
    nursery.adapter_of[fifth.digest] = None
    adapters = {row.digest: row for row in rows}
    with nursery.serving(adapter_memory_mb=1, on_demand="any") as server:
        assert ask(server, "support@2").status_code == 200
        assert loaded(server) == {rows[0].digest, rows[1].digest}
        # Versions 1 and 3 share an adapter: it is counted once.
        assert ask(server, "support@3").status_code == 200
        assert rows[0].digest in loaded(server)
        assert loaded(server) <= set(adapters)
        for version in (2, 4, 3, 2):
            reply = ask(server, f"support@{version}")
            assert reply.json()["choices"][0]["message"]["content"] == wanted_text(nursery, (version - 1) % 2)
        assert ask(server, "support").json()["system_fingerprint"] == rows[0].digest


def test_a_reload_does_not_replay_the_probes_and_hashes_the_files_again(
    nursery: Any, rows: list[ReleaseRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every adapter counts as 400 KiB of 1 MiB: beside production's there is room for one release.
    monkeypatch.setattr(Loader, "size_bytes", lambda self, row: 400 << 10)
    monkeypatch.setattr(Loader, "_size_of", lambda self, engine, key: 400 << 10)

    def proofs() -> int:
        return sum(f"support@2-{rows[1].digest[:12]}: probes passed" in event.message for event in nursery.events)

    with nursery.serving(adapter_memory_mb=1, on_demand="any") as server:
        for version in (2, 4, 2, 4):
            assert ask(server, f"support@{version}").status_code == 200
            assert loaded(server) == {rows[0].digest, rows[version - 1].digest}
        assert proofs() == 1
        damaged = nursery.store.file(rows[1].digest, "template.jinja")
        damaged.chmod(0o600)
        damaged.write_text("{{ messages }}")
        refused = ask(server, "support@2")
        assert refused.status_code == 422
        assert "is damaged" in refused.json()["error"]["message"]
        assert rows[1].digest not in loaded(server)
        assert ask(server, "support").json()["system_fingerprint"] == rows[0].digest
