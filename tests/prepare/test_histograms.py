"""Lengths and labels, counted row by row, and in parts that are added up."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from budwood.prepare.histograms import EDGES, MOST_LABELS, SHOWN_LABELS, Histograms, Sizes, measure
from budwood.prepare.row import SPLITS, Message, Split

ROW = st.tuples(
    st.sampled_from(SPLITS),
    st.builds(Sizes, st.integers(0, 10_000), st.integers(0, 300), st.one_of(st.sampled_from(["yes", "no"]), st.none())),
    st.one_of(st.none(), st.integers(1, 3_000_000)),
)
Rows = list[tuple[Split, Sizes, int | None]]


def counted(rows: Rows, labels: Sequence[str] = ()) -> Histograms:
    histograms = Histograms(labels)
    for split, sizes, tokens in rows:
        histograms.add(split, sizes, tokens)
    return histograms


@given(st.lists(ROW, max_size=40), st.integers(0, 40))
def test_parts_add_up_to_the_whole_in_any_order(rows: Rows, cut: int) -> None:
    for first, second in ((rows[:cut], rows[cut:]), (rows[cut:], rows[:cut])):
        merged = counted(first)
        merged.merge(counted(second))
        assert merged.as_body() == counted(rows).as_body()


@given(st.lists(ROW, max_size=40))
def test_every_row_is_in_the_bin_of_its_length(rows: Rows) -> None:
    body = counted(rows).as_body()
    for split in SPLITS:
        bins = body.get("answer_characters", {}).get(split, [])
        ends = {low: high for low, high in pairwise(EDGES)}
        plain = {low: sum(low <= sizes.answer < ends[low] for where, sizes, _ in rows if where == split) for low, _ in bins}
        assert dict(bins) == plain
        assert sum(plain.values()) == sum(where == split for where, _, _ in rows)
        assert not bins or (bins[0][1] and bins[-1][1])


def test_edges_rise_and_the_last_bin_is_open() -> None:
    assert all(low < high for low, high in pairwise(EDGES))
    body = counted([("train", Sizes(10**9, 0, None), None)]).as_body()
    assert body["prompt_characters"] == {"train": [[EDGES[-1], 1]]}
    assert "tokens" not in body


def test_prompt_and_answer_are_measured_apart() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": {"city": "Bonn"}}}
    talk = (Message("system", "Be brief."), Message("user", "Where?"), Message("assistant", "Here."))
    assert measure(talk) == Sizes(15, 5, "Here.")
    assert measure((talk[1], Message("assistant", "", calls=(call,)))).label is None
    assert measure((talk[1], Message("assistant", "x" * 81))).label is None
    assert measure(talk[:2]).label is None


def answers(*texts: str, declared: Sequence[str] = ()) -> dict[str, object] | None:
    rows: Rows = [("train", Sizes(1, len(text), text), None) for text in texts]
    labels: dict[str, object] | None = counted(rows, declared).as_body()["labels"]
    return labels


def test_a_closed_set_of_answers_is_listed_by_split() -> None:
    rows: Rows = []
    for split in SPLITS:
        rows += [(split, Sizes(1, 3, label), None) for label in ("yes", "yes", "no", "no")]
    assert counted(rows).as_body()["labels"] == {
        "different": 2,
        "rows": [["no", 2, 2, 2], ["yes", 2, 2, 2]],
        "others": {"labels": 0, "rows": 0},
    }


def test_open_answers_are_no_labels() -> None:
    assert answers(*(f"answer {number // 4}" for number in range(40))) is None
    assert answers(*["yes"] * 99, *(f"a{number}" for number in range(MOST_LABELS))) is None
    long: Rows = [*(("train", Sizes(1, 3, "yes"), None) for _ in range(99)), ("train", Sizes(1, 99, None), None)]
    assert counted(long).as_body()["labels"] is None
    assert answers() is None


def test_a_rare_answer_is_counted_and_not_shown_unless_the_recipe_lists_it() -> None:
    shown = answers(*["yes"] * 20, *["no"] * 20, "Ann Example", "Ann Example")
    assert shown == {"different": 3, "rows": [["no", 20, 0, 0], ["yes", 20, 0, 0]], "others": {"labels": 1, "rows": 2}}
    declared = answers("yes", "no", declared=("yes", "no"))
    assert declared is not None
    assert declared["rows"] == [["no", 1, 0, 0], ["yes", 1, 0, 0]]


def test_only_the_most_frequent_answers_are_listed() -> None:
    texts = [f"label {number:02}" for number in range(40) for _ in range(5 + number)]
    labels = answers(*texts)
    assert labels is not None
    rows = labels["rows"]
    assert isinstance(rows, list)
    assert [row[0] for row in rows] == [f"label {number:02}" for number in range(39, 39 - SHOWN_LABELS, -1)]
    assert labels["others"] == {"labels": 10, "rows": sum(Counter(texts)[f"label {number:02}"] for number in range(10))}
