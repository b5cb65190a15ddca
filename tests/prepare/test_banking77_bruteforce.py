"""BANKING77 with its published test file, held to a search of all pairs that shares no code with the stage.

Every text is compared with every other by true Jaccard: shingles as columns of a sparse matrix, shared ones as its product with
itself. So nothing is missed by chance, and what the stage misses shows here.
"""

import csv
import json
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray
from scipy import sparse

from budwood.prepare.run import prepare
from budwood.recipe import recipe_from_mapping
from budwood.store import open_store

THRESHOLD = 0.8
SHINGLE = 5
SHORT_WORDS = 50
TEST = "test.csv"


@dataclass(frozen=True)
class Asked:
    file: str
    line: int
    text: str
    label: str


def read(path: Path) -> list[Asked]:
    """Rows with the line that each begins on."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        begins = reader.line_num + 1
        for text, label in reader:
            rows.append(Asked(path.name, begins, plain(text), label))
            begins = reader.line_num + 1
    return rows


def plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str, *, words: bool) -> set[str]:
    units: Sequence[str] = text.split() if words else text
    joined = " " if words else ""
    return {joined.join(units[i : i + SHINGLE]) for i in range(max(len(units) - SHINGLE + 1, 1))} if units else set()


def near_pairs(texts: Sequence[str], *, words: bool) -> set[tuple[int, int]]:
    """All pairs of texts at least THRESHOLD alike, by one kind of shingle."""
    columns: dict[str, int] = {}
    held = [[columns.setdefault(one, len(columns)) for one in shingles(text, words=words)] for text in texts]
    ends = numpy.cumsum([0, *map(len, held)])
    matrix = sparse.csr_matrix(
        (numpy.ones(ends[-1], numpy.int32), numpy.concatenate(list(map(numpy.array, held))), ends),
        shape=(len(texts), len(columns)),
    )
    sizes = numpy.diff(ends)
    order = numpy.argsort(sizes, kind="stable")
    matrix, ranked = matrix[order], sizes[order]
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(texts), 500):
        block = matrix[start : start + 500]
        # A text with more than 1/THRESHOLD times the shingles cannot be near; all others are compared.
        stop = int(numpy.searchsorted(ranked, ranked[min(start + 500, len(texts)) - 1] / THRESHOLD + 1, side="right"))
        shared = (block @ matrix[start:stop].T).tocoo()
        first, second = shared.row + start, shared.col + start
        alike = shared.data / (ranked[first] + ranked[second] - shared.data)
        hit: NDArray[Any] = (alike >= THRESHOLD) & (first < second)
        ends_of = numpy.sort(numpy.stack([order[first[hit]], order[second[hit]]], axis=1), axis=1)
        pairs |= set(map(tuple, ends_of.tolist()))
    return pairs


def all_pairs(rows: Sequence[Asked]) -> set[tuple[int, int]]:
    """Pairs that are near: by words where both are long, else by characters."""
    texts = [row.text for row in rows]
    short = [len(text.split()) < SHORT_WORDS for text in texts]
    by_words = {(i, j) for i, j in near_pairs(texts, words=True) if not short[i] and not short[j]}
    return by_words | {(i, j) for i, j in near_pairs(texts, words=False) if short[i] or short[j]}


def components(count: int, pairs: set[tuple[int, int]]) -> list[set[int]]:
    rows, columns = zip(*pairs, strict=True)
    graph = sparse.coo_matrix((numpy.ones(len(rows)), (rows, columns)), shape=(count, count))
    _, names = sparse.csgraph.connected_components(graph, directed=False)
    groups: dict[int, set[int]] = defaultdict(set)
    for row, name in enumerate(names.tolist()):
        groups[name].add(row)
    return list(groups.values())


@dataclass(frozen=True)
class Outcome:
    kept: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    conflicts: list[dict[str, Any]]
    body: dict[str, Any]


@pytest.fixture(scope="module")
def rows(public_data: Path) -> list[Asked]:
    return [*read(public_data / "banking77" / "train.csv"), *read(public_data / "banking77" / TEST)]


@pytest.fixture(scope="module")
def outcome(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("banking77")
    for name in ("train.csv", TEST):
        shutil.copy(public_data / "banking77" / name, folder)
    columns = {"prompt": "text", "completion": "category"}
    sources = [{"path": "train.csv", "columns": columns, "split": "train"}, {"path": TEST, "columns": columns, "split": "test"}]
    # What is compared are the published bytes: nothing is mended or redacted.
    section = {"rules": ["roles"], "conflicts": "keep", "near_duplicate": THRESHOLD}
    recipe = recipe_from_mapping({"name": "banking77", "source": sources, "prepare": section}, folder=folder)
    with open_store(folder / "project") as store:
        digest = prepare(recipe, store, token_length=None, context=0)

        def lines(name: str) -> list[dict[str, Any]]:
            path = store.folder(digest) / f"{name}.jsonl"
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

        kept = [row for split in ("train", "validation", "test") for row in lines(split)]
        return Outcome(kept, lines("rejected"), lines("conflicts"), dict(store.manifest(digest).body))


def place(row: dict[str, Any]) -> tuple[str, int]:
    return row["source"]["file"], row["source"]["line"]


def test_every_leaked_row_is_found_and_no_other(rows: list[Asked], outcome: Outcome) -> None:
    pairs = all_pairs(rows)
    leaked = {
        (rows[i].file, rows[i].line)
        for group in components(len(rows), pairs)
        if any(rows[i].file == TEST for i in group)
        for i in group
        if rows[i].file != TEST
    }
    found = {place(row) for row in outcome.rejected if row["rule"] == "leak"}
    assert len(leaked) > 100
    assert found == leaked
    # Said directly: no pair that is near lies on both sides.
    split = {place(row): row["split"] for row in outcome.kept}
    for i, j in pairs:
        sides = {split.get((rows[k].file, rows[k].line)) for k in (i, j)} - {None}
        assert len(sides) <= 1


def test_every_conflict_is_listed_and_no_other(rows: list[Asked], outcome: Outcome) -> None:
    """Labels that disagree on the same prompt, or within a group of near-duplicates."""
    expected = set()
    asked_by_test = {row.text for row in rows if row.file == TEST}
    prompts: dict[str, list[Asked]] = defaultdict(list)
    for row in rows:
        prompts[row.text].append(row)
    for members in prompts.values():
        test, other = ([row for row in members if (row.file == TEST) == side] for side in (True, False))
        # A row that a test row asks too is out before the others vote.
        sides = {"test rows": test, "rows": [] if test else other, "rows and test rows": members if test and other else []}
        expected |= {("same", name, places(among)) for name, among in sides.items() if disagree(among)}
    for group in components(len(rows), all_pairs(rows)):
        among = [rows[i] for i in group if rows[i].file == TEST or rows[i].text not in asked_by_test]
        if disagree(among) and len({row.text for row in among}) > 1:
            files = {row.file == TEST for row in among}
            expected.add(
                ("near", "rows and test rows" if len(files) > 1 else "test rows" if True in files else "rows", places(among))
            )
    found = {
        (
            one["prompts"],
            one["between"],
            frozenset((row["file"], row["line"]) for answer in one["answers"] for row in answer["rows"]),
        )
        for one in outcome.conflicts
    }
    assert found == expected
    assert len(found) == len(outcome.conflicts) > 5
    assert {one["kind"] for one in outcome.conflicts} == {"label"}


def disagree(among: Sequence[Asked]) -> bool:
    return len({row.label for row in among}) > 1


def places(among: Sequence[Asked]) -> frozenset[tuple[str, int]]:
    return frozenset((row.file, row.line) for row in among)


def test_every_copy_is_found(rows: list[Asked], outcome: Outcome) -> None:
    """Of rows that say the same, one at most is trained on."""
    texts = {(row.file, row.line): (row.text, row.label) for row in rows}
    kept = [texts[place(row)] for row in outcome.kept if row["split"] != "test"]
    assert len(kept) == len(set(kept))
    assert len(outcome.kept) + len(outcome.rejected) == len(rows)
