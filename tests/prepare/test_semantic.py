"""Semantic duplicates: planted paraphrases, held to plain loops over all pairs; vectors that are paid for once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pytest
from tests.prepare.conftest import Bench, Snapshot

from budwood.data.forget import forget, make_wanted
from budwood.prepare.alike import ASKING, find_alike
from budwood.prepare.groups import roots
from budwood.prepare.run import prepare
from budwood.prepare.vectors import open_vectors
from budwood.text.near.search import Terms

SEMANTIC = {"model": "test", "threshold": 0.9}


@dataclass
class Topics:
    """Embeds by the first word in brackets: texts of one topic point the same way, whatever their words."""

    width: int = 16
    device: str = "cpu"
    identity: Mapping[str, Any] = field(default_factory=lambda: {"model": "topics", "version": 1})
    asked: list[str] = field(default_factory=list)

    def __call__(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        vectors = numpy.stack([self._vector(text) for text in texts])
        return (vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)).astype(numpy.float32)

    def _vector(self, text: str) -> Any:
        topic = text.partition("[")[2].partition("]")[0] or text
        whole = numpy.random.default_rng(_seed(topic)).normal(size=self.width)
        return whole + 0.05 * numpy.random.default_rng(_seed(text)).normal(size=self.width)


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def ask(topic: str, words: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"prompt": f"[{topic}] {words}", "completion": answer, **more}


ROWS = [
    ask("parcel", "where has my delivery got to", "status"),
    ask("refund", "give me back what I paid", "refund"),
    ask("parcel", "tracking says nothing since Monday, any news?", "status"),
    ask("parcel", "is anybody ever going to bring the thing", "complaint"),
    *[ask(f"other{i}", f"{chr(97 + i) * 8} {i * i}", f"answer {i}") for i in range(20)],
]


def made(bench: Bench, embed: Topics, rows: Sequence[Mapping[str, Any]], *, onto: Any = None, **keys: Any) -> Snapshot:
    recipe = bench.recipe(bench.write("rows.jsonl", rows), semantic={**SEMANTIC, **keys}, validation=0.2, test=0.2)
    digest = prepare(recipe, bench.store, token_length=None, context=0, onto=onto, embed=embed)
    return bench.read(digest)


def test_a_paraphrase_with_the_same_answer_goes_and_one_with_another_stays_in_the_group(bench: Bench) -> None:
    snapshot = made(bench, Topics(), ROWS)
    first = next(row for row in snapshot.kept if row["source"]["line"] == 1)
    rule, reason = snapshot.reasons()[3]
    assert rule == "semantic_duplicate"
    assert reason.endswith(f"alike in meaning to row {first['row_id']} (rows.jsonl line 1)")
    assert 0.9 <= float(reason.split()[0]) < 1
    groups = {row["source"]["line"]: (row["group"], row["split"]) for row in snapshot.kept}
    assert groups[1] == groups[4]
    assert len({group for group, _ in groups.values()}) == len(ROWS) - 2


def test_flagged_rows_stay_and_grouped_ones_are_left_alone(bench: Bench) -> None:
    flagged, grouped = (made(bench, Topics(), ROWS, action=action) for action in ("flag", "group"))
    for snapshot in (flagged, grouped):
        assert not snapshot.rejected
        by_line = {row["source"]["line"]: row for row in snapshot.kept}
        assert len({by_line[line]["group"] for line in (1, 3, 4)}) == 1
    assert _touched(flagged) == [(3, "flagged")]
    assert not _touched(grouped)
    rule = next(rule for rule in flagged.body["rules"] if rule["name"] == "semantic_duplicate")
    assert (rule["flagged"], rule["dropped"], rule["options"]["threshold"]) == (1, 0, 0.9)


def _touched(snapshot: Snapshot) -> list[tuple[int, str]]:
    touches = [(row["source"]["line"], touch) for row in snapshot.kept for touch in row["touched"]]
    return [(line, touch["kind"]) for line, touch in touches if touch["rule"] == "semantic_duplicate"]


def test_compared_as_whole_rows_short_answers_still_have_to_be_the_same(bench: Bench) -> None:
    told = "Your parcel is on its way and will be with you in the course of tomorrow"
    rows = [*ROWS, ask("tax", "how much is it", told), ask("tax", "what do I owe the state", f"{told}, then")]
    snapshot = made(bench, Topics(), rows, on="row")
    assert set(snapshot.reasons()) == {3, 26}


def test_a_train_row_alike_to_a_published_test_row_goes_and_the_test_row_stays(bench: Bench) -> None:
    test = bench.write("test.jsonl", [ask("parcel", "I miss my package", "status"), ask("gift", "wrap it, please", "gift")])
    rows = bench.write("rows.jsonl", ROWS)
    recipe = bench.recipe(rows, {"path": test, "split": "test"}, semantic=SEMANTIC)
    snapshot = bench.read(prepare(recipe, bench.store, token_length=None, context=0, embed=Topics()))
    assert {row["rule"] for row in snapshot.rejected if row["source"]["line"] in (1, 3, 4)} == {"leak"}
    assert {row["source"]["line"] for row in snapshot.rejected} == {1, 3, 4}
    assert sum(row["source"]["file"] == "test.jsonl" for row in snapshot.rows["test"]) == 2


def test_rows_keep_their_splits_and_a_bridge_in_meaning_gives_way(bench: Bench) -> None:
    first = made(bench, Topics(), ROWS)
    more = [ask(f"other{i}", f"{chr(122 - i) * 9} {i * 7 + 1000}", f"new {i}") for i in range(20)]
    second = made(bench, Topics(), [*ROWS, *more], onto=first.digest)
    # The file's digest is in row ids, so rows are told by their prompts.
    before = {row["messages"][0]["content"]: row["split"] for row in first.kept}
    after = {row["messages"][0]["content"]: row["split"] for row in second.kept}
    assert all(after[prompt] == split for prompt, split in before.items())
    topics: dict[str, set[str]] = {}
    for prompt, split in after.items():
        topics.setdefault(prompt.partition("]")[0], set()).add(split)
    assert {len(splits) for splits in topics.values()} == {1}
    assert len(after) == len(before) + 20


def test_without_the_key_a_snapshot_says_nothing_of_it(bench: Bench) -> None:
    snapshot = bench.prepare(bench.write("rows.jsonl", ROWS))
    assert "semantic" not in json.dumps(snapshot.body)


def test_texts_are_embedded_once_for_all_snapshots_and_another_model_begins_anew(bench: Bench) -> None:
    first = Topics()
    made(bench, first, ROWS)
    again = Topics()
    more = [*ROWS, ask("garden", "when do roses bloom", "in June")]
    made(bench, again, more)
    assert again.asked == ["[garden] when do roses bloom"]
    other = Topics(identity={"model": "topics", "version": 2})
    made(bench, other, ROWS)
    assert len(other.asked) == len(first.asked) == len(ROWS)


def test_what_a_kill_left_is_used_and_what_it_left_half_written_is_not(bench: Bench) -> None:
    keys = numpy.arange(10, dtype=numpy.uint64).reshape(5, 2)
    embed = Topics()
    with open_vectors(bench.store, embed) as vectors:
        vectors.gather(keys, lambda row: f"text {row}")
        path = bench.store.root.glob("work/*/embeddings-*").__next__()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 7)
    again = Topics()
    with open_vectors(bench.store, again) as vectors:
        places = vectors.gather(keys, lambda row: f"text {row}")
        read = vectors.read(places)
    assert again.asked == ["text 4"]
    assert numpy.abs(read - embed([f"text {row}" for row in range(5)])).max() < 1e-3


def test_what_a_kill_left_of_other_rows_is_not_kept_with_the_snapshot(bench: Bench) -> None:
    with open_vectors(bench.store, Topics()) as vectors:
        vectors.gather(numpy.array([[1, 2]], numpy.uint64), lambda row: "a text that is in no snapshot")
    snapshot = made(bench, Topics(), ROWS)
    (path,) = bench.store.root.glob(f"cache/{snapshot.digest}/embeddings-*")
    kind = numpy.dtype([("key", "<u8", (2,)), ("vector", "<f2", (16,)), ("sum", "<u4")])
    records = numpy.fromfile(path, kind)
    assert len(records) == len(ROWS)
    assert not (records["key"] == [1, 2]).all(axis=1).any()
    assert not list(bench.store.root.glob("work/*/embeddings-*"))


def test_forgotten_rows_take_all_vectors_with_them(bench: Bench) -> None:
    made(bench, Topics(), ROWS)
    with open_vectors(bench.store, Topics()) as vectors:
        vectors.gather(numpy.array([[1, 2]], numpy.uint64), lambda row: "a text of a preparation that was cut short")
    assert len(list(bench.store.root.rglob("embeddings-*"))) == 2
    done = forget(bench.store, make_wanted(texts=["nothing since Monday"]), who="anna", reason="asked to")
    assert done.is_complete
    assert not list(bench.store.root.rglob("embeddings-*"))


@pytest.mark.parametrize("seed", range(4))
def test_the_search_finds_what_loops_over_all_pairs_find(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.prepare.alike.ASKING", 7)
    monkeypatch.setattr("budwood.prepare.alike.OFFERED", 5)
    generator = numpy.random.default_rng(seed)
    count = 60
    vectors = generator.normal(size=(12, 6))[generator.integers(12, size=count)] + 0.1 * generator.normal(size=(count, 6))
    vectors = (vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)).astype(numpy.float32)
    terms = Terms(
        meaning=generator.integers(3, size=(count, 1)).repeat(2, 1).astype(numpy.uint64),
        asks=generator.integers(3, size=count).astype(numpy.uint8),
        offers=generator.integers(3, size=count).astype(numpy.uint8),
        goes=generator.integers(2, size=count).astype(numpy.uint8),
        member=generator.permutation(count),
    )
    parent = numpy.arange(count)
    ticks: list[int] = []
    found = find_alike(lambda start, stop: vectors[start:stop], terms, 0.95, parent, tick=ticks.append)
    twin, group = _plainly(vectors, terms, 0.95)
    assert found.twin.tolist() == twin
    assert _partition(roots(parent)) == _partition(numpy.array(group))
    assert ticks[-1] == count
    assert ASKING > 7


def _plainly(vectors: Any, terms: Terms, threshold: float) -> tuple[list[int], list[int]]:
    count = len(vectors)
    twin, gone, group = [-1] * count, [False] * count, list(range(count))
    for i in range(count):
        for j in range(i):
            if gone[j] or float(vectors[i].astype(float) @ vectors[j].astype(float)) < threshold:
                continue
            old, new = group[terms.member[i]], group[terms.member[j]]
            group = [new if one == old else one for one in group]
            same = bool((terms.meaning[i] == terms.meaning[j]).all())
            if twin[i] < 0 and terms.asks[i] & terms.offers[j] and same:
                twin[i] = j
        gone[i] = twin[i] >= 0 and bool(terms.goes[i])
    return twin, group


def _partition(group: Any) -> set[frozenset[int]]:
    members: dict[int, set[int]] = {}
    for row, one in enumerate(group.tolist()):
        members.setdefault(one, set()).add(row)
    return set(map(frozenset, members.values()))
