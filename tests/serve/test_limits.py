"""What one caller may use: buckets that fill steadily, and how a server says that one is empty."""

from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.serve.access.limits import Limits, OverLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 90)), max_size=30))
def test_no_minute_takes_more_than_two_limits_and_a_wait_that_is_named_is_enough(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    limits = Limits(0, 30, clock)
    taken: list[tuple[float, int]] = []
    for cost, pause in steps:
        clock.now += pause
        try:
            limits.take("a", "tokens", cost)
        except OverLimit as over:
            if over.wait_s is None:
                assert cost > 30
                continue
            clock.now += over.wait_s + 1e-6
            limits.take("a", "tokens", cost)
        taken.append((clock.now, cost))
        # A full bucket and what fills it meanwhile: never more within any minute.
        assert sum(spent for at, spent in taken if at > clock.now - 60) <= 60 + 1e-3


def test_callers_have_buckets_of_their_own_and_get_back_what_they_did_not_use() -> None:
    limits = Limits(2, 100, Clock())
    limits.take("a", "requests", 1)
    limits.take("a", "requests", 1)
    with pytest.raises(OverLimit):
        limits.take("a", "requests", 1)
    limits.take("b", "requests", 1)
    limits.take("a", "tokens", 90)
    limits.give_back("a", "tokens", 60)
    assert limits.headers("a") == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60.000s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "18.000s",
    }
    limits.give_back("a", "tokens", 1000)
    assert limits.headers("a")["x-ratelimit-remaining-tokens"] == "100"
    assert Limits(0, 0, Clock()).headers("a") == {}


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.serve.access.limits.MOST_CALLERS", 10)
    clock = Clock()
    limits = Limits(5, 0, clock)
    for number in range(100):
        clock.now += 10
        limits.take(str(number), "requests", 1)
    assert len(limits._buckets) <= 11


def test_a_server_says_what_is_left_and_when_there_is_more(nursery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Time stands still: nothing comes back between two requests, however slow they are.
    monkeypatch.setattr("budwood.serve.run.time", SimpleNamespace(monotonic=Clock()))
    nursery.promote(nursery.release("support", 0))
    body: dict[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    with nursery.serving(requests_per_minute=3, tokens_per_minute=60) as server:
        url = f"{server.url}/v1/chat/completions"
        first = httpx.post(url, json=body, timeout=60)
        assert first.status_code == 200
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        large = httpx.post(url, json={**body, "max_tokens": 64}, timeout=60)
        assert (large.status_code, large.json()["error"]["param"]) == (400, "max_tokens")
        over = httpx.post(url, json={**body, "n": 13}, timeout=60)
        assert over.status_code == 429
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as caught,
        ):
            client.chat.completions.create(**body)
        error = caught.value
        assert error.code == "rate_limit_exceeded"
        assert error.response.headers["retry-after"] == "20"
        assert error.response.headers["retry-after-ms"] == "20000"
        figures = httpx.get(f"{server.url}/metrics").text
        assert 'budwood_rate_limited_total{limit="requests"} 1.0' in figures
        assert 'budwood_rate_limited_total{limit="tokens"} 2.0' in figures


def test_an_answer_that_is_overdue_is_cut_and_not_tried_again(nursery: Any) -> None:
    nursery.promote(nursery.release("support", 0))
    body = {"model": "support", "messages": [{"role": "user", "content": "x"}], "max_tokens": 400, "n": 4}
    with nursery.serving(max_new_tokens=400, deadline_s=0.001) as server:
        url = f"{server.url}/v1/chat/completions"
        whole = httpx.post(url, json=body, timeout=60)
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert whole.headers["x-should-retry"] == "false"
        streamed = httpx.post(url, json={**body, "stream": True}, timeout=60)
        assert streamed.status_code == 200
        assert '"code": "deadline_exceeded"' in streamed.text
        assert streamed.text.endswith("data: [DONE]\n\n")
