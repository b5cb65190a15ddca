"""The page: what stands on it, that nothing of an answer gets out of its place, and that it stays small."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.evaluate.conftest import number_of, put_snapshot, right, row

from budwood.errors import EvaluationError
from budwood.evaluate.compare import compare
from budwood.evaluate.page import render_page
from budwood.evaluate.page.cases import BUDGET_BYTES
from budwood.evaluate.report import Report
from budwood.evaluate.suite import Case
from budwood.identity import Digest
from budwood.store import Store

Make = Callable[..., Report]


class Reader(HTMLParser):
    """Collects tags, attributes and cards; complains of tags that are not closed in order."""

    VOID = frozenset({"meta", "link", "input", "line", "rect", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def cards(self, key: str) -> int:
        return sum(tag == "article" and key in (attributes["data-in"] or "").split() for tag, attributes in self.tags)


def page_of(candidate: Report, baseline: Report, **parts: Any) -> str:
    comparison = compare(candidate, baseline, primary="exact", alpha=0.05, resamples=300)
    given: dict[str, Any] = {"name": "tickets", "champion": None, "verdict": None} | parts
    return render_page(candidate=candidate, baseline=baseline, comparison=comparison, **given)


def wrong_for(*numbers: int, output: str = "{}") -> Callable[[Case], str]:
    return lambda case: output if number_of(case) in numbers else case.expected


def test_the_verdict_comes_first_with_its_figures(report_of: Make) -> None:
    reasons = ("quality against the baseline: superior <&>.",)
    page = page_of(report_of(wrong_for(0)), report_of(wrong_for(0, 1, 2, 3)), verdict=("PROMOTE", reasons))
    body = page[page.index("<body>") :]
    assert body.index("PROMOTE") < body.index("<h2>")
    assert "superior &lt;&amp;&gt;." in body
    assert "0.917 against the base’s 0.667: <b>+0.250</b>" in body
    assert "3 fixed, 0 regressed" in body
    assert "<title>tickets: PROMOTE</title>" in page


def test_without_a_verdict_the_page_says_so(report_of: Make) -> None:
    report = report_of(right)
    assert "No gate has judged it yet; <code>budwood release</code>" in page_of(report, report)


def test_without_a_regression_what_still_fails_is_open(report_of: Make) -> None:
    page = page_of(report_of(wrong_for(0)), report_of(wrong_for(0, 1)))
    assert 'data-open="failing"' in page
    assert "<b>0</b> Regressed against the base" in page


def test_filters_count_and_regressed_is_open(report_of: Make) -> None:
    page = page_of(report_of(wrong_for(0, 1)), report_of(wrong_for(1, 2, 3)))
    read = Reader(page)
    buttons = [attributes for tag, attributes in read.tags if tag == "button"]
    assert [button["data-show"] for button in buttons if button["aria-pressed"] == "true"] == ["regressed-base"]
    counts = {key: read.cards(key) for key in ("regressed-base", "fixed-base", "failing", "unchanged")}
    assert counts == {"regressed-base": 1, "fixed-base": 2, "failing": 1, "unchanged": 8}
    assert "<b>2</b> Fixed against the base" in page


def test_a_champion_has_its_own_column_and_filters(report_of: Make) -> None:
    candidate, base, champion = report_of(wrong_for(0)), report_of(wrong_for(0, 1, 2)), report_of(wrong_for(1), name="champion")
    read = Reader(page := page_of(candidate, base, champion=champion))
    assert read.cards("regressed-champion") == 1
    assert read.cards("fixed-champion") == 1
    assert 'data-open="regressed-champion"' in page
    assert '<th scope="col" class="n">champion</th>' in page
    with pytest.raises(EvaluationError, match="Cannot compare"):
        page_of(candidate, base, champion=replace(champion, suite="other"))


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "</pre></article><img src=x onerror=alert(1)>",
        "\"'><svg onload=alert(1)>",
        "\x1b[31m\x00\x07",
        "\u202egnol\u2066",
        "\ud800\udfff",
        "&lt;already&gt;",
        "</style><style>*{display:none}",
    ],
)
def test_bad_67_hostile_answers_stay_text(hostile: str, report_of: Make, store: Store) -> None:
    messages = [{"role": "user", "content": hostile}, {"role": "assistant", "content": json.dumps({"intent": hostile})}]
    snapshot = put_snapshot(store, [row(0, messages=messages, slices={"channel": hostile}), row(1), row(2)])
    candidate = report_of(wrong_for(0, 1, output=hostile), snapshot=snapshot)
    page = page_of(candidate, report_of(right, snapshot=snapshot), name="tickets", verdict=("REJECT", (hostile,)))
    read = Reader(page)
    tags = [tag for tag, _ in read.tags]
    assert tags.count("script") == tags.count("style") == 1
    assert not {"img", "iframe", "object", "a"} & set(tags)
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    page.encode("utf-8")


def test_prompts_show_tools_calls_and_results(report_of: Make, store: Store) -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": {"id": "<b>7"}}}
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "depot"},
        {"role": "assistant", "content": "There."},
    ]
    tool = {"type": "function", "function": {"name": "find", "description": "A <i> tool"}}
    snapshot = put_snapshot(store, [row(0, messages=messages, tools=[tool]), row(1), row(2)])
    page = page_of(report_of(wrong_for(0), snapshot=snapshot), report_of(right, snapshot=snapshot))
    assert "find({&quot;id&quot;:&quot;&lt;b&gt;7&quot;})" in page
    assert "A &lt;i&gt; tool" in page
    assert "<b>tool</b> depot" in page


def test_nothing_is_loaded_and_only_its_own_script_may_run(report_of: Make) -> None:
    report = report_of(right)
    page = page_of(report, report)
    read = Reader(page)
    assert not re.search(r"https?://", page)
    assert [attributes["href"] for tag, attributes in read.tags if tag == "link"] == ["data:,"]
    assert not [attributes for _, attributes in read.tags if "src" in attributes or "style" in attributes]
    (policy,) = [attributes["content"] for tag, attributes in read.tags if tag == "meta" and "http-equiv" in attributes]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)


def test_many_long_cases_are_cut_with_their_number_said(report_of: Make, store: Store) -> None:
    snapshot = put_snapshot(store, [row(number, group=str(number)) for number in range(900)])
    candidate = report_of(lambda case: "long answer " * 1000, snapshot=snapshot)
    page = page_of(candidate, report_of(right, snapshot=snapshot))
    read = Reader(page)
    assert len(page.encode()) < BUDGET_BYTES + 200_000 < 5_000_000
    shown = read.cards("regressed-base")
    assert 100 < shown <= 400
    assert f"Regressed against the base: {shown:,} of 900 shown. All are in cases.jsonl" in page


def test_times_are_shown_where_they_were_measured(report_of: Make) -> None:
    report = report_of(right)
    assert "55.6 ms" in page_of(report, report)
    unmeasured = replace(report, latency={}, throughput=None)
    assert "ms</td>" not in page_of(unmeasured, unmeasured)


def test_where_it_comes_from(report_of: Make, snapshot: Digest) -> None:
    candidate, base = report_of(right), report_of(wrong_for(1))
    page = page_of(candidate, base)
    for digest in (candidate.digest, candidate.suite, candidate.subject["digest"], base.digest, snapshot):
        assert digest in page


def test_the_same_report_is_the_same_page(report_of: Make) -> None:
    candidate, base = report_of(right), report_of(wrong_for(1))
    assert page_of(candidate, base) == page_of(candidate, base)


def test_unknown_cases_are_warned_of(report_of: Make) -> None:
    candidate, base = report_of(right), report_of(wrong_for(3))
    gap = {**candidate.cases[5], "scores": {**candidate.cases[5]["scores"], "exact": None}}
    page = page_of(replace(candidate, cases=[*candidate.cases[:5], gap, *candidate.cases[6:]]), base)
    assert "No exact score on both sides, so no evidence: 1 of 12." in page
