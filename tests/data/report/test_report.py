"""The page of a snapshot: it counts what the manifest counts, shows what was done, and lets nothing out of its place."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from tests.data.report.conftest import Bench, Reader, questions

from budwood.data.report.changes import COVER

BOUND = 2_000_000


def dirty() -> list[dict[str, Any]]:
    """Clean rows, then one of each fault."""
    rows = questions(120)
    return [
        *rows,
        {"prompt": "  Where is  my parcel with the blue ribbon?\u00a0", "completion": "wait", "channel": "web"},
        {"prompt": "Write to ann.lee@example.org when my parcel has come, please", "completion": "call", "channel": "web"},
        {"prompt": "How do I close it?", "completion": "", "channel": "web"},
        dict(rows[0]),
        {"prompt": "Who pays for the gate repair at number nine?", "completion": "pay", "channel": "web"},
        {"prompt": "Who pays for the gate repair at number nine?", "completion": "wait", "channel": "web"},
        {"prompt": "Who pays for the gate repair at number nine?", "completion": "pay", "channel": "app"},
    ]


def test_counts_are_those_of_the_manifest(bench: Bench) -> None:
    bench.write("rows.jsonl", dirty())
    recipe = bench.recipe("rows.jsonl", validation=0.2, test=0.2)
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe)
    said = Reader(page).text
    counts = facts.body["counts"]
    assert f"{counts['read']} read = {counts['kept']} kept + {counts['rejected']} rejected" in said
    for split in ("train", "validation", "test"):
        assert f"{split} {counts[split]:,}" in said
    for rule in facts.body["rules"]:
        did = [f"{rule[verb]:,} {verb}" for verb in ("changed", "dropped", "flagged") if rule[verb]]
        assert not did or f"{rule['name']} {', '.join(did)}" in said
    assert sum(one.total() for one in facts.found.lengths.values()) == counts["kept"]
    assert facts.found.answers.rows == counts["kept"]
    assert sum(facts.found.group_sizes.values()) == facts.body["groups"]["count"]
    assert "jsonl, utf-8" in said
    assert facts.body["sources"][0]["sha256"] in said


def test_rows_are_shown_before_and_after_with_personal_data_covered(bench: Bench) -> None:
    bench.write("rows.jsonl", dirty())
    recipe = bench.recipe("rows.jsonl")
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe)
    (mended,) = facts.changes.by_rule["whitespace"]
    assert mended.before == "user:   Where is  my parcel with the blue ribbon?\u00a0\nassistant: wait"
    assert mended.after == "user: Where is  my parcel with the blue ribbon?\nassistant: wait"
    (redacted,) = facts.changes.by_rule["pii"]
    assert f"Write to {COVER} when" in redacted.before
    assert "Write to [EMAIL] when" in redacted.after
    assert "ann.lee" not in page
    assert not facts.changes.notes


def test_a_recipe_with_benchmarks_and_test_files_shows_them_too(bench: Bench) -> None:
    bench.write("rows.jsonl", dirty())
    bench.write(
        "exam.jsonl", [{"prompt": "How many hours does a clock with two hands need to go round once?", "completion": "12"}]
    )
    recipe = bench.recipe("rows.jsonl", {"path": "exam.jsonl", "split": "test"}, benchmarks=["exam.jsonl"])
    facts, _ = bench.page(bench.prepare(recipe), recipe=recipe)
    assert facts.changes.by_rule["whitespace"]
    assert not facts.changes.notes


def test_what_is_personal_only_after_mending_is_not_shown(bench: Bench) -> None:
    bench.write("rows.jsonl", [*questions(40), {"prompt": "mail bob.ray@exam\u200bple.org about it", "completion": "wait"}])
    recipe = bench.recipe("rows.jsonl")
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe)
    assert not any(facts.changes.by_rule.values())
    assert "could not be covered beyond doubt" in Reader(page).text
    assert "bob" not in page


def test_personal_data_that_the_recipe_leaves_in_is_not_shown(bench: Bench) -> None:
    rows = [*questions(40), {"prompt": "mail bob.ray@example.org about it", "completion": "wait", "who": "bob.ray@example.org"}]
    log = bench.write("log.jsonl", [{"prompt": f"write to zebulon.day@example.org about {n * 7919 % 997}"} for n in range(40)])
    bench.write("rows.jsonl", rows)
    recipe = bench.recipe("rows.jsonl", pii="flag", validation=0.3, test=0.3)
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe, production=log)
    assert facts.found.flagged["pii"].seen == 1
    assert "bob" not in page
    assert "zebulon" not in page


@pytest.mark.parametrize("fate", ["gone", "changed", "no recipe", "other rules"])
def test_where_rows_cannot_be_made_again_the_page_says_why(fate: str, bench: Bench) -> None:
    path = bench.write("rows.jsonl", dirty())
    recipe = bench.recipe("rows.jsonl")
    digest = bench.prepare(recipe)
    given: Any = recipe
    if fate == "gone":
        path.unlink()
        words = "There is no source"
    elif fate == "changed":
        bench.write("rows.jsonl", questions(3))
        words = "rows.jsonl is no longer the file that was read"
    elif fate == "no recipe":
        given, words = None, "Give the recipe (--recipe)"
    else:
        given, words = bench.recipe("rows.jsonl", pii="drop"), "with other settings of pii."
    facts, page = bench.page(digest, recipe=given)
    assert not any(facts.changes.by_rule.values())
    assert words in Reader(page).text


def test_clusters_and_conflicts_have_their_members(bench: Bench) -> None:
    bench.write("rows.jsonl", [*dirty(), *[dict(questions(1)[0])] * 9])
    recipe = bench.recipe("rows.jsonl")
    facts, page = bench.page(bench.prepare(recipe), recipe=recipe)
    dropped = sum(facts.body["rejected_by"].get(rule, 0) for rule in ("exact_duplicate", "near_duplicate"))
    assert sum(one.size - 1 for one in facts.found.clusters) == dropped
    assert facts.found.clusters[0].size == 11
    said = Reader(page).text
    assert "11 rows" in said
    assert "… and 4 more rows." in said
    assert "1 prompt with different answers; policy: majority" in said
    (conflict,) = facts.found.conflicts.shown()
    assert [(answer, fate) for _, answer, fate in conflict.rows] == [("wait", "dropped")]
    assert conflict.winner in facts.found.texts


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "</pre></article><img src=x onerror=alert(1)>",
        "\"'><svg onload=alert(1)>",
        "\x1b[31m\x07",
        "\u202egnol\u2066",
        "&lt;already&gt;",
        "</style><style>*{display:none}",
    ],
)
def test_hostile_texts_stay_text(hostile: str, bench: Bench) -> None:
    rows = questions(60)
    for number, row in enumerate(rows[:40]):
        row["prompt"] = f"{hostile} {row['prompt']}"
        row["completion"] = hostile if number % 2 else json.dumps({hostile: hostile})
        row["channel"] = hostile
        row[hostile] = "x" if number % 2 else "y"
    bench.write("rows.jsonl", [*rows, rows[0], {"prompt": hostile, "completion": ""}])
    log = bench.write("log.jsonl", [{"prompt": f"{hostile} {n}", "channel": hostile} for n in range(30)])
    recipe = bench.recipe({"path": "rows.jsonl", "origin": hostile}, rules=["pii"], validation=0.3, test=0.3, conflicts="keep")
    _, page = bench.page(bench.prepare(recipe), recipe=recipe, production=log)
    read = Reader(page)
    tags = [tag for tag, _ in read.tags]
    assert tags.count("style") == 1
    assert not {"script", "img", "iframe", "object"} & set(tags)
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)


def test_nothing_is_loaded(bench: Bench) -> None:
    bench.write("rows.jsonl", dirty())
    recipe = bench.recipe("rows.jsonl")
    _, page = bench.page(bench.prepare(recipe), recipe=recipe)
    read = Reader(page)
    assert not re.search(r"https?://", page)
    assert {str(attributes["href"])[0] for tag, attributes in read.tags if tag == "a"} == {"#"}
    places = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {str(attributes["href"])[1:] for tag, attributes in read.tags if tag == "a"} <= places
    assert not [attributes for _, attributes in read.tags if "src" in attributes or "style" in attributes]
    (policy,) = [attributes["content"] for tag, attributes in read.tags if tag == "meta" and "http-equiv" in attributes]
    (content,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"


def test_a_page_of_many_long_hostile_rows_stays_small(bench: Bench) -> None:
    quotes = '"' * 70
    columns = {f"{quotes}{n}": quotes for n in range(60)}
    rows = [
        {"prompt": f"{number} " + '"<&>' * 600, "completion": '"' * 3000, **columns, "kind": f"{'&' * 70}{number % 200}"}
        for number in range(240)
    ]
    bench.write("rows.jsonl", rows + rows[:100])
    recipe = bench.recipe("rows.jsonl", near_duplicate=1.0, conflicts="keep")
    log = bench.write("log.jsonl", [{"prompt": '"' * 5000 + str(number)} for number in range(50)])
    _, page = bench.page(bench.prepare(recipe), recipe=recipe, production=log)
    assert 20_000 < len(page.encode()) < BOUND
    Reader(page)


def test_lengths_are_tokens_with_the_limit_or_characters_said_plainly(bench: Bench) -> None:
    bench.write("rows.jsonl", questions(60))
    recipe = bench.recipe("rows.jsonl")
    facts, page = bench.page(bench.prepare(recipe, context=20), recipe=recipe)
    said = Reader(page).text
    assert "Lengths in tokens" in said
    assert "context limit 20 tokens" in said
    longest = max(max(one) for one in facts.found.lengths.values())
    assert f"The limit is 20; the longest row that was kept has {longest}" in said
    facts, page = bench.page(bench.prepare(recipe, tokens=False), recipe=recipe)
    said = Reader(page).text
    assert "Lengths in characters" in said
    assert "no tokenizer was at hand" in said
    assert "context limit 20" not in said


def test_the_same_snapshot_gives_the_same_page(bench: Bench) -> None:
    bench.write("rows.jsonl", dirty())
    recipe = bench.recipe("rows.jsonl", validation=0.3, test=0.3)
    digest = bench.prepare(recipe)
    assert bench.page(digest, recipe=recipe)[1] == bench.page(digest, recipe=recipe)[1]
