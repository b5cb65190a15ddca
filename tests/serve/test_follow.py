"""What a server does while the catalog moves under it, a release cannot be brought up, or an engine dies."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.serve.loader import Loader
from budwood.serve.probe import check_probes
from budwood.serve.run import Server
from budwood.store import Store
from budwood.store.history import MOVES

from .test_promotion import PATIENCE_S, ask, follows, observed, wait_for


def answering(server: Server, model: str) -> Digest | None:
    reply = ask(server, model)
    return Digest(reply.json()["system_fingerprint"]) if reply.status_code == 200 else None


@contextmanager
def held_load(monkeypatch: pytest.MonkeyPatch, digest: Digest) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Loading this release begins, and then waits until it is let go."""
    begun, go = threading.Event(), threading.Event()
    original = Loader.load

    def load(loader: Loader, row: Any) -> Any:
        if row.digest == digest:
            begun.set()
            assert go.wait(PATIENCE_S)
        return original(loader, row)

    monkeypatch.setattr(Loader, "load", load)
    try:
        yield begun, go
    finally:
        go.set()


def test_whatever_is_wrong_with_one_release_the_others_go_on(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good, broken = nursery.release("support", 0), nursery.release("other", 1)
    original = Loader.load

    def load(loader: Loader, row: Any) -> Any:
        if row.digest == broken.digest:
            raise KeyError("model_max_length")
        return original(loader, row)

    monkeypatch.setattr(Loader, "load", load)
    nursery.promote(broken)
    nursery.promote(good)
    with nursery.serving() as server:
        assert answering(server, "support") == good.digest
        state = observed(nursery, "other")
        assert state == (broken.digest, False, "KeyError: 'model_max_length' (nothing is served under this alias)")
        reply = ask(server, "other")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "not_up")
        assert "KeyError: 'model_max_length'" in reply.json()["error"]["message"]
        server.check_alive()


def test_bad_72_a_release_that_was_rolled_back_while_it_loaded_never_goes_live(
    nursery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving(adapter_memory_mb=0) as server, held_load(monkeypatch, second.digest) as (begun, go):
        nursery.promote(second)
        assert begun.wait(PATIENCE_S)
        wait_for(lambda: "is being loaded" in httpx.get(f"{server.url}/ready").json()["problems"].get("support@production", ""))
        assert answering(server, "support") == first.digest
        nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
        go.set()
        wait_for(lambda: any("unloaded" in event.message for event in nursery.events))
        assert answering(server, "support") == first.digest
        assert not any(f"is now support@2-{second.digest[:12]}" in event.message for event in nursery.events)


def test_a_rollback_does_not_wait_for_another_name_to_load(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, slow = nursery.release("support", 0), nursery.release("support", 1), nursery.release("other", None)
    nursery.promote(first)
    with nursery.serving() as server, held_load(monkeypatch, slow.digest) as (begun, _):
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        nursery.promote(slow)
        assert begun.wait(PATIENCE_S)
        nursery.store.move_alias("support", "production", first.digest, who="t", reason="t", kind="rolled_back")
        wait_for(lambda: follows(nursery, "support", first.digest))
        assert answering(server, "support") == first.digest


def test_a_report_that_could_not_be_written_is_written_later(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    with nursery.serving() as server:
        refusals = [StoreError("The catalog is locked by another process; waited 10 s.")]
        original = Store.observe_all

        def observe(store: Store, *arguments: Any) -> None:
            if refusals:
                raise refusals.pop()
            original(store, *arguments)

        monkeypatch.setattr(Store, "observe_all", observe)
        nursery.promote(second)
        wait_for(lambda: follows(nursery, "support", second.digest))
        assert answering(server, "support") == second.digest
    assert any("The catalog cannot be written; serving goes on." in event.message for event in nursery.events)


def test_going_back_to_what_never_stopped_clears_the_report_even_after_a_forced_look(nursery: Any) -> None:
    good, bad = nursery.release("support", 0), nursery.release("support", 1, shift=0.5)
    nursery.promote(good)
    with nursery.serving() as server:
        nursery.promote(bad)
        wait_for(lambda: observed(nursery, "support")[0] == bad.digest)  # type: ignore[index]
        nursery.promote(good)
        httpx.post(f"{server.url}/admin/sync", json={}, timeout=PATIENCE_S)
        assert follows(nursery, "support", good.digest)
        assert httpx.get(f"{server.url}/ready").json()["problems"] == {}


def test_an_engine_that_died_is_started_again(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)  # the traceback is for the server's log
    row = nursery.release("support", 0)
    nursery.promote(row)
    with nursery.serving() as server:
        worker = server._parts.directory.find("support").worker

        def step() -> list[Any]:
            raise RuntimeError("out of memory")

        worker.generator.step = step
        reply = ask(server)
        assert (reply.status_code, reply.headers["x-budwood-release"]) == (500, row.digest)
        wait_for(lambda: answering(server, "support") == row.digest)
        wait_for(lambda: follows(nursery, "support", row.digest))
        assert httpx.get(f"{server.url}/health").status_code == 200
        server.check_alive()


def test_probes_that_the_base_alone_passes_prove_nothing(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(worker: Any, slot: int, probes: Any, **more: Any) -> float:
        return check_probes(worker, slot, type(probes)(1e6, 1e-5, probes.probes, tolerances={"float32": 1e6}), **more)

    monkeypatch.setattr("budwood.serve.loader.check_probes", wide)
    nursery.promote(nursery.release("support", 0))
    with nursery.serving():
        state = observed(nursery, "support")
    assert state is not None
    assert not state[1]
    assert "the adapter does nothing to the golden probes" in state[2]


def test_a_precision_in_which_nothing_was_proved_does_not_serve(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))
    with nursery.serving(precision="bfloat16"):
        state = observed(nursery, "support")
    assert state is not None
    assert not state[1]
    assert "In bfloat16 nothing tells this release from a wrong one" in state[2]


def test_a_base_folder_is_found_from_wherever_the_server_starts(nursery: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bases" / "mine"
    shutil.copytree(nursery.soil.ref.folder, folder)
    base = nursery.base_object()
    row = nursery.release("support", 0, changes={"id": "../bases/mine", "object": base})
    nursery.promote(row)
    with nursery.serving():
        state = observed(nursery, "support")
        assert state is not None
        assert "'../bases/mine' is a folder that is not there any more" in state[2]
    nursery.store.attest(base, {"folder": str(folder)})
    with nursery.serving() as server:
        assert answering(server, "support") == row.digest


def test_a_history_that_cannot_be_read_for_a_moment_ends_no_server(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    nursery.promote(first)
    nursery.promote(second)
    refusals = [StoreError("The catalog cannot be reached: server closed the connection.")]
    original = Store.history

    def history(store: Store, *arguments: Any, **more: Any) -> Any:
        if refusals and more.get("kinds") == MOVES:
            raise refusals.pop()
        return original(store, *arguments, **more)

    monkeypatch.setattr(Store, "history", history)
    with nursery.serving(on_demand="none") as server:
        wait_for(lambda: answering(server, f"support@{first.version}") == first.digest)
        server.check_alive()
    assert any("The catalog cannot be used; serving what is loaded." in event.message for event in nursery.events)


def test_the_release_before_stays_loaded_though_the_alias_moved_while_it_was_looked_up(
    nursery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (nursery.release("support", number) for number in (0, 1, None))
    nursery.promote(first)
    nursery.promote(second)
    nursery.promote(third, "staging")
    original, seen = Store.history, list[str]()

    def history(store: Store, *arguments: Any, **more: Any) -> Any:
        found = original(store, *arguments, **more)
        if not seen and more.get("kinds") == MOVES:
            seen.append("once")
            nursery.promote(third)
            wait_for(lambda: any("support@production is now support@3" in event.message for event in nursery.events))
        return found

    monkeypatch.setattr(Store, "history", history)
    with nursery.serving(adapter_memory_mb=0, on_demand="none") as server:
        httpx.post(f"{server.url}/admin/sync", json={}, timeout=PATIENCE_S)
        assert {live.digest for live in server._parts.directory.loaded().values()} == {second.digest, third.digest}


def test_an_engine_that_cannot_unload_ends_no_server(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [nursery.release("support", number, note=str(number)) for number in (0, 1, None)]
    nursery.promote(rows[0])

    def unload(loader: Loader, live: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(Loader, "unload", unload)
    with nursery.serving(adapter_memory_mb=0) as server:
        for row in rows[1:]:
            nursery.promote(row)
            wait_for(partial(follows, nursery, "support", row.digest))
        wait_for(lambda: any("could not be unloaded cleanly. TimeoutError" in event.message for event in nursery.events))
        server.check_alive()
        assert answering(server, "support") == rows[2].digest
