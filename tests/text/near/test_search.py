"""The search, held to a look at all pairs; and the kernel to the walk in Python."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budwood.native.build import Missing
from budwood.text.near.entries import sign_texts
from budwood.text.near.search import Repeats, Terms, find_repeats
from budwood.text.near.walk import KINDS, LONGEST
from budwood.text.similarity import is_short, jaccard, shingles, similarity

WORDS = [
    f"{stem}{ending}" for stem in ("or", "pay", "ship", "light", "kettle", "über") for ending in ("", "s", "ing", "ed", "er")
]


@dataclass(frozen=True)
class Outcome:
    found: Repeats
    roots: list[int]

    @property
    def results(self) -> tuple[Any, ...]:
        return self.found.twin.tolist(), self.found.alike.tolist(), self.found.crowded, self.roots


def search(
    texts: Sequence[str],
    meanings: Sequence[int],
    roles: Sequence[str] = (),
    *,
    threshold: float = 0.8,
    native: bool = True,
    threads: int = 1,
) -> Outcome:
    roles = roles or ["free"] * len(texts)
    group = {"published": 1, "settled": 2, "free": 2, "absent": 0}
    meaning = numpy.zeros((len(texts), 2), numpy.uint64)
    meaning[:, 1] = meanings
    terms = Terms(
        meaning=meaning,
        asks=numpy.array([group[role] if role in ("published", "free") else 0 for role in roles], numpy.uint8),
        offers=numpy.array([group[role] for role in roles], numpy.uint8),
        goes=numpy.array([role == "free" for role in roles], numpy.uint8),
        member=numpy.arange(len(texts), dtype=numpy.int64)[::-1].copy(),
    )
    entries = sign_texts(iter(texts), len(texts), threshold=threshold, threads=threads, native=native)
    parent = array("q", range(len(texts)))
    found = find_repeats(entries, terms, lambda i: texts[i], parent, native=native)
    return Outcome(found, [_root(parent, len(texts) - 1 - i) for i in range(len(texts))])


def _root(parent: "array[int]", member: int) -> int:
    while parent[member] != member:
        member = parent[member]
    return member


def by_all_pairs(texts: Sequence[str], meanings: Sequence[int], threshold: float) -> tuple[list[int], list[set[int]]]:
    """Say the same by definition, for free rows."""
    twins: list[int] = []
    near: list[set[int]] = []
    sets = [{kind: shingles(text, kind) for kind in KINDS.values()} for text in texts]
    for i, text in enumerate(texts):
        hits = []
        for j in range(i):
            kind = KINDS[is_short(text) or is_short(texts[j])]
            if twins[j] < 0 and text and texts[j] and jaccard(sets[i][kind], sets[j][kind]) >= threshold:
                hits.append(j)
        twins.append(next((j for j in hits if meanings[j] == meanings[i]), -1))
        near.append(set(hits))
    return twins, near


def various(number: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts of all lengths, most of them with variants of one or two changed words."""
    draw = random.Random(seed)
    texts: list[str] = []
    while len(texts) < number:
        words = draw.choices(WORDS, k=draw.choice([1, 2, 3, 4, 5, 8, 20, 47, 49, 50, 52, 58, 62, 80, 120]))
        texts.append(" ".join(words))
        for _ in range(draw.randrange(4)):
            other = list(words)
            other[draw.randrange(len(other))] = draw.choice(WORDS)
            texts.append(" ".join([*other, *draw.choices(WORDS, k=draw.randint(0, 2))]))
    return texts, [draw.randrange(3) for _ in texts]


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.95])
def test_it_finds_what_a_look_at_all_pairs_finds(threshold: float) -> None:
    texts, meanings = various(350, seed=3)
    outcome = search(texts, meanings, threshold=threshold)
    twins, near = by_all_pairs(texts, meanings, threshold)
    assert sum(twin >= 0 for twin in twins) >= 5
    assert sum(map(len, near)) > 20
    # Pairs at the threshold are missed twice in a thousand, those above it almost never.
    assert sum(ours != theirs for ours, theirs in zip(outcome.found.twin.tolist(), twins, strict=True)) <= 2
    apart = [(i, j) for i, hits in enumerate(near) for j in hits if outcome.roots[i] != outcome.roots[j]]
    assert len(apart) <= 2


SHORT = st.lists(st.sampled_from(WORDS[:7]), max_size=9).map(" ".join)
LONG = st.tuples(st.lists(st.sampled_from(WORDS[:4]), min_size=48, max_size=52), st.integers(0, 47)).map(
    lambda drawn: " ".join([*drawn[0][: drawn[1]], "other", *drawn[0][drawn[1] :]])
)
ROW = st.tuples(SHORT | LONG, st.integers(0, 1), st.sampled_from(["published", "settled", "free", "absent"]))


@given(st.lists(ROW, max_size=30), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@settings(max_examples=80, deadline=None)
def test_kernel_python_and_any_number_of_threads_agree_and_no_twin_is_false(
    rows: list[tuple[str, int, str]], threshold: float
) -> None:
    texts, meanings, roles = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    outcomes = [
        search(texts, meanings, roles, threshold=threshold, native=native, threads=threads)
        for native, threads in ((True, 1), (False, 1), (True, 2))
    ]
    assert outcomes[0].results == outcomes[1].results == outcomes[2].results
    found = outcomes[0].found
    for i, j in enumerate(found.twin.tolist()):
        if j < 0:
            continue
        assert j < i
        assert similarity(texts[i], texts[j]) == found.alike[i] >= threshold
        assert meanings[i] == meanings[j]
        assert (roles[i], roles[j]) in {("published", "published"), ("free", "settled"), ("free", "free")}
        # What went is repeated by nothing: it would leave no trace of either.
        assert roles[j] != "free" or found.twin[j] < 0
        assert outcomes[0].roots[i] == outcomes[0].roots[j]


@given(st.lists(SHORT, min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_groups_of_rows_that_stay_do_not_depend_on_the_order(texts: list[str], draw: random.Random) -> None:
    order = list(range(len(texts)))
    draw.shuffle(order)
    sets = []
    for places in (range(len(texts)), order):
        roots = search([texts[i] for i in places], list(range(len(texts)))).roots
        sets.append({frozenset(i for i, r in zip(places, roots, strict=True) if r == root) for root in roots})
    assert sets[0] == sets[1]


def test_many_rows_of_one_template_cost_no_more_than_their_number() -> None:
    reads = 0
    texts = [
        f"please tell me where the parcel with the number {i} from my last order is at this very moment" for i in range(3000)
    ]

    class Counted(list[str]):
        def __getitem__(self, i: Any) -> Any:
            nonlocal reads
            reads += 1
            return super().__getitem__(i)

    one = search(Counted(texts), [0] * len(texts))
    assert (one.found.twin[1:] >= 0).mean() > 0.99
    assert reads < 12 * len(texts)
    reads = 0
    each = search(Counted(texts), list(range(len(texts))))
    assert len(set(each.roots)) == 1
    assert reads < 12 * len(texts)
    assert each.found.crowded > len(texts) - 20 * LONGEST


def test_rows_of_less_than_five_words_are_found() -> None:
    texts = ["reset my passwords", "reset my password", "yes", "yes", "no", "", ""]
    assert search(texts, [0] * 7).found.twin.tolist() == [-1, 0, -1, 2, -1, -1, -1]


@pytest.mark.parametrize("native", [True, False])
def test_what_reading_raises_comes_through(native: bool) -> None:
    def read(place: int) -> str:
        raise OSError(f"text {place} is gone")

    texts = ["where is my order"] * 2
    entries = sign_texts(texts, 2, threshold=0.8, native=native)
    meaning, bits = numpy.zeros((2, 2), numpy.uint64), numpy.ones(2, numpy.uint8)
    terms = Terms(meaning, bits, bits, bits, numpy.arange(2))
    with pytest.raises(OSError, match="text 1 is gone"):
        find_repeats(entries, terms, read, array("q", range(2)), native=native)


def test_another_number_of_texts_than_announced_is_refused() -> None:
    for texts in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=f"{len(texts)} texts came, 2 were announced"):
            sign_texts(texts, 2, threshold=0.8)


def test_without_a_compiler_the_result_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.text.near.search.kernels", lambda: Missing("no C compiler was found"))
    monkeypatch.setattr("budwood.text.near.sign.kernels", lambda: Missing("no C compiler was found"))
    assert search(["a b", "a b"], [0, 0]).found.by == "numpy: no C compiler was found"
