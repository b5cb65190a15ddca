"""A canary on running servers: who is answered by it, who is not, and what happens when it is bad or cannot be loaded."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from budwood.identity import Digest
from budwood.recipe import CanarySection, ServeSection
from budwood.release.canary import change, end, guard, promote_canary, start, statuses
from budwood.serve.api.flight import Admission
from budwood.serve.api.shadow import MOST_WAITING as MOST_COPIES
from budwood.serve.api.shadow import Shadows
from budwood.serve.metrics import Metrics
from budwood.serve.routing import place
from budwood.serve.run import Server
from budwood.store import ReleaseRow, traffic
from budwood.store.trials import Trial

from .test_promotion import PATIENCE_S, wait_for
from .test_sampling import exchange

POLICY = CanarySection(max_error_rate=0.05, min_requests=8, max_latency_ratio=0.0)
CLIENT = httpx.Client(timeout=PATIENCE_S)
KEYS = [f"user {number}" for number in range(14)]
"""Five of them are in at 25 %, nine at 50 %, eleven at 75 %."""


@pytest.fixture(autouse=True, scope="module")
def _closing() -> Iterator[None]:
    with CLIENT:
        yield


@contextmanager
def two_servers(nursery: Any, **settings: Any) -> Iterator[list[Server]]:
    """Two servers over one catalog, each judging what it sees."""
    given = nursery.settings(poll_s=0.05, **settings)
    with (
        Server(nursery.store, given, guard=guard, report=nursery.events.append) as one,
        Server(nursery.store, given, guard=guard, report=nursery.events.append) as other,
    ):
        for server in (one, other):
            assert server.synced.wait(PATIENCE_S)
        yield [one, other]


def post(server: Server, key: str, **more: Any) -> httpx.Response:
    body = {"model": "support", "messages": [{"role": "user", "content": "alpha"}], "max_tokens": 2, "user": key, **more}
    return CLIENT.post(f"{server.url}/v1/chat/completions", json=body)


def sides(server: Server) -> dict[str, Digest]:
    return {key: Digest(post(server, key).json()["system_fingerprint"]) for key in KEYS}


def two_releases(nursery: Any, **second: Any) -> tuple[ReleaseRow, ReleaseRow]:
    bound = {"object": nursery.base_object()}
    first, other = nursery.release("support", 0, changes=bound), nursery.release("support", 1, changes=bound, **second)
    nursery.promote(first)
    return first, other


def begin(nursery: Any, row: ReleaseRow, share: float, **more: Any) -> Trial:
    given: dict[str, Any] = {"policy": POLICY, "who": "t", "reason": "t", "override": "test"} | more
    return start(nursery.store, f"support@{row.version}", share=share, **given)


def routed(servers: list[Server], share: float) -> bool:
    trials = [CLIENT.get(f"{server.url}/ready").json()["trials"] for server in servers]
    return all([one["share"] for one in found] == [share] for found in trials)


def test_a_canary_gets_its_share_on_every_server_and_nobody_changes_sides_as_it_grows(nursery: Any) -> None:
    first, second = two_releases(nursery)
    with two_servers(nursery) as servers:
        begin(nursery, second, 0.25)
        wait_for(lambda: routed(servers, 0.25))
        for server in servers:
            wanted = {key: second.digest if place("support", "production", key) < 0.25 else first.digest for key in KEYS}
            assert sides(server) == wanted
        assert set(Counter(sides(servers[0]).values())) == {first.digest, second.digest}
        # The header names the sender before anything in the body; a release asked for by its number is that release.
        inside = next(key for key in KEYS if place("support", "production", key) < 0.25)
        reply = httpx.post(
            f"{servers[0].url}/v1/chat/completions",
            json={"model": "support", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "user": "x"},
            headers={"x-budwood-key": inside},
            timeout=PATIENCE_S,
        )
        assert reply.headers["x-budwood-release"] == second.digest
        assert post(servers[0], inside, model="support@1").json()["system_fingerprint"] == first.digest

        before = {key for key, digest in sides(servers[0]).items() if digest == second.digest}
        change(nursery.store, "support", "production", "canary", share=0.75, who="t", reason="t")
        wait_for(lambda: routed(servers, 0.75))
        after = {key for key, digest in sides(servers[1]).items() if digest == second.digest}
        assert before < after
        wait_for(
            lambda: [report.ok for report in nursery.store.canaries.reports(nursery.store.canaries.rows()[0])] == [True] * 2
        )

        promote_canary(nursery.store, "support", "production", who="t", reason="t", override="test")
        wait_for(lambda: set(sides(servers[0]).values()) | set(sides(servers[1]).values()) == {second.digest})


def test_a_canary_that_cannot_be_proved_gets_nothing_and_says_why(nursery: Any) -> None:
    first, broken = two_releases(nursery, shift=0.5)
    with two_servers(nursery) as servers:
        begin(nursery, broken, 1.0)
        wait_for(lambda: len(statuses(nursery.store)[0].reports) == 2)
        wait_for(lambda: all("golden probes" in one.detail for one in statuses(nursery.store)[0].reports))
        for report in statuses(nursery.store)[0].reports:
            assert not report.ok
            assert f"all traffic stays with {first.digest[:12]}" in report.detail
        assert set(sides(servers[0]).values()) == {first.digest}
        end(nursery.store, "support", "production", "canary", who="t", reason="t")


def test_a_failing_canary_is_taken_back_once_by_two_servers(nursery: Any, monkeypatch: Any) -> None:
    first, second = two_releases(nursery)
    with two_servers(nursery) as servers:
        begin(nursery, second, 0.5)
        wait_for(lambda: routed(servers, 0.5))
        from budwood.serve.api import jobs
        from budwood.serve.api.faults import ApiError

        original = jobs._job

        def job(context: Any, live: Any, *rest: Any) -> Any:
            if live.digest == second.digest:
                raise ApiError(500, "The release gave no finite probabilities for this prompt.")
            return original(context, live, *rest)

        monkeypatch.setattr(jobs, "_job", job)

        def asked_until_it_ended() -> bool:
            for server in servers:
                sides_of = [post(server, key).status_code for key in KEYS]
                assert set(sides_of) <= {200, 500}
            return not nursery.store.canaries.rows()

        wait_for(asked_until_it_ended)
        wait_for(lambda: all(CLIENT.get(f"{server.url}/ready").json()["trials"] == [] for server in servers))
        assert set(sides(servers[0]).values()) == {first.digest}
    ended = [event for event in nursery.store.history("support") if event.kind == "canary_ended"]
    assert len(ended) == 1
    assert ended[0].who.endswith("(policy)")
    assert ended[0].detail["counts"]["trial"]["errors"] >= 8
    assert ended[0].detail["counts"]["stable"]["errors"] == 0


def test_a_shadow_answers_copies_that_no_client_sees(nursery: Any) -> None:
    first, second = two_releases(nursery)
    with nursery.serving(poll_s=0.05, sample=1.0) as server:
        begin(nursery, second, 0.5, kind="shadow", override=None)
        wait_for(lambda: routed([server], 0.5))
        replies = {key: post(server, key) for key in KEYS}
        assert {reply.headers["x-budwood-release"] for reply in replies.values()} == {first.digest}
        copied = {key for key in KEYS if place("support", "production", key) < 0.5}
        wait_for(lambda: len(records(nursery, "shadow")) == len(copied) and len(records(nursery, "served")) == len(KEYS))
        said = {reply.json()["id"]: reply.json()["choices"][0]["message"]["content"] for reply in replies.values()}
        served = {record["request"]: record for record in records(nursery, "served")}
        assert {name: record["messages"][-1]["content"] for name, record in served.items()} == said
        ids = {replies[key].json()["id"] for key in copied}
        shadows = {record["request"]: record for record in records(nursery, "shadow")}
        assert shadows.keys() == ids
        prompt = nursery.soil.template.encode_prompt([{"role": "user", "content": "alpha"}])
        wanted = nursery.soil.text(nursery.soil.reference(1, prompt, 2)[0])
        for name, record in shadows.items():
            assert record["release"] == second.digest
            assert record["messages"][-1]["content"] == wanted
            assert record["live"] == {"release": first.digest, "answer": said[name]}
        metrics = CLIENT.get(f"{server.url}/metrics").text
        answered = [line for line in metrics.splitlines() if line.startswith("budwood_answers_total")]
        assert len(answered) == 1
        assert f"support@1-{first.digest[:12]}" in answered[0]


def records(nursery: Any, kind: str) -> list[dict[str, Any]]:
    paths = traffic.files(nursery.store.root, "support", kinds=[kind])
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def test_copies_wait_for_room_and_are_dropped_when_there_is_none() -> None:
    """Without an engine: live requests hold the places, so copies queue up to their bound, and run when there is room."""

    async def play() -> tuple[int, float, int]:
        admission = Admission(100, 100)
        metrics = Metrics()
        begun: list[str] = []

        class Names:
            def has_shadow(self, model: str, key: str) -> bool:
                return True

            @contextmanager
            def acquire_shadow(self, model: str, key: str) -> Iterator[Any]:
                begun.append(key)
                yield None

        context: Any = SimpleNamespace(
            directory=Names(), settings=ServeSection(max_batch=4), metrics=metrics, admission=admission
        )
        shadows = Shadows(context)
        admission.enter(3, "a")  # more than half of the engine's places
        for number in range(MOST_COPIES + 6):
            shadows.offer(exchange(number), None)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        waited = len(begun)
        admission.leave(3, "a")
        shadows.offer(exchange(0, end="failed", answers=()), None)  # type: ignore[arg-type]
        while shadows._waiting or shadows._running:
            await asyncio.sleep(0)
        dropped = next(
            sample.value
            for family in metrics.dropped.collect()
            for sample in family.samples
            if sample.labels == {"reason": "shadow"} and sample.name.endswith("_total")
        )
        return waited, dropped, len(begun)

    assert asyncio.run(play()) == (0, 6.0, MOST_COPIES)
