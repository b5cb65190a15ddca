"""Bad input 72: whatever happens to releases while an answer is being given, the answer is of the release that began it."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .test_promotion import ask, follows, wait_for

ASK: dict[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 300, "n": 3}


def promoted(nursery: Any, server: Any) -> None:
    other = nursery.store.find_release("support@2")
    nursery.promote(other)
    wait_for(lambda: follows(nursery, "support", other.digest))


def promoted_and_rolled_back(nursery: Any, server: Any) -> None:
    promoted(nursery, server)
    first = nursery.store.find_release("support@1")
    nursery.promote(first)
    wait_for(lambda: follows(nursery, "support", first.digest))


def deleted(nursery: Any, server: Any) -> None:
    """Every file of every object, under the live server's feet."""
    for path in (nursery.store.root / "objects").iterdir():
        shutil.rmtree(path)


def promoted_past_what_is_kept(nursery: Any, server: Any) -> None:
    """Three releases on: the one that answers is neither live nor the one before, and would be unloaded."""
    for number in (2, 3, 4):
        row = nursery.store.find_release(f"support@{number}")
        nursery.promote(row)
        wait_for(lambda row=row: follows(nursery, "support", row.digest))  # type: ignore[misc]


MOMENTS: list[Callable[[Any, Any], None]] = [promoted, promoted_and_rolled_back, deleted, promoted_past_what_is_kept]


@pytest.mark.parametrize("moment", MOMENTS, ids=[f"bad_72 {moment.__name__}" for moment in MOMENTS])
def test_a_stream_is_of_one_release_to_its_end(nursery: Any, moment: Callable[[Any, Any], None]) -> None:
    first = nursery.release("support", 0)
    for number, adapter in ((2, 1), (3, 0), (4, 1)):
        nursery.release("support", adapter, note=str(number))
    nursery.promote(first)
    soil = nursery.soil
    tokens, _ = soil.reference(0, soil.template.encode_prompt(ASK["messages"]), ASK["max_tokens"])
    with nursery.serving(max_new_tokens=300) as server:
        url = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", url, json={**ASK, "stream": True}, timeout=60) as reply:
            lines = reply.iter_lines()
            seen = [next(lines)]
            moment(nursery, server)
            seen += list(lines)
        chunks = [json.loads(line.removeprefix("data: ")) for line in seen if line.startswith("data: {")]
        assert seen[-2:] == ["data: [DONE]", ""] or seen[-1] == "data: [DONE]"
        assert {chunk["system_fingerprint"] for chunk in chunks} == {first.digest}
        for index in range(ASK["n"]):
            said = [
                choice["delta"].get("content") or ""
                for chunk in chunks
                for choice in chunk["choices"]
                if choice["index"] == index
            ]
            assert "".join(said) == soil.text(tokens)
        assert ask(server).status_code == 200


@pytest.mark.slow
def test_bad_72_ten_thousand_loads_leave_nothing_behind(soil: Any) -> None:
    bank, adapter = soil.bank, soil.adapters[0]
    before = (bank.keys, bank.size_bytes, parameters(soil))
    for number in range(10_000):
        bank.add(f"load {number}", adapter)
        bank.remove(f"load {number}")
    assert (bank.keys, bank.size_bytes, parameters(soil)) == before


def parameters(soil: Any) -> int:
    return sum(1 for _ in soil.base.model.parameters()) + sum(1 for _ in soil.base.model.buffers())
