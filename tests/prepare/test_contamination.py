"""Text of a benchmark does not reach training: what is found, what is left alone, what is said and counted."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from budwood.errors import DataError, RecipeError
from budwood.prepare.benchmarks import Benchmark, BenchmarkRow
from budwood.prepare.guard import Guard, make_guard, tally
from budwood.prepare.row import Message
from budwood.recipe import PrepareSection, load_recipe
from budwood.text.normalise import normalise

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdklmnrst"]


def prose(seed: int, count: int = 40) -> str:
    """Words in an order that no other seed has 8 words of."""
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def ask(prompt: str, answer: str = "fine by me") -> dict[str, Any]:
    return {"prompt": prompt, "completion": answer}


OTHERS = [ask(f"{prose(900 + i, 30)}?", prose(950 + i, 30)) for i in range(9)]


def middle(text: str, start: int, count: int) -> str:
    return " ".join(text.split()[start : start + count])


CASES = [
    (ask(prose(1)), "bench.jsonl line 1: 1.00 of the prompt, 13 words of the prompt in a row"),
    (
        ask(f"{prose(70, 30)} {middle(prose(1), 10, 22)}"),
        "bench.jsonl line 1: 0.55 of the prompt, 13 words of the prompt in a row",
    ),
    (
        ask(" ".join(middle(prose(1), i, 9) + " or so" for i in (0, 10, 20, 30))),
        "bench.jsonl line 1: 0.90 of the prompt",
    ),
    (ask("Say it.", prose(2)), "bench.jsonl line 1: 1.00 of the answer, 13 words of the answer in a row"),
    (
        ask("Recite the question.", prose(1).upper().replace(" ", ", ")),
        "bench.jsonl line 1: 1.00 of the prompt, 13 words of the prompt in a row",
    ),
    (
        ask(f"{prose(71)} {middle(prose(1), 5, 13)}"),
        "bench.jsonl line 1: also 0.32 of the prompt, 13 words of the prompt in a row",
    ),
    (ask("Where is my new  CARD?", "lost"), "bench.jsonl line 2: 1.00 alike"),
    (ask("where is my new card??", "lost"), "bench.jsonl line 2: 0.94 alike"),
    (
        ask(f"{prose(1)} {prose(3)}"),
        "bench.jsonl line 1: 1.00 of the prompt, 13 words of the prompt in a row; "
        "bench.jsonl line 3: 1.00 of the prompt, 13 words of the prompt in a row",
    ),
]
INNOCENT = [
    ask("Tell me then", middle(prose(5), 0, 10)),
    ask(f"{prose(75)} {middle(prose(4), 2, 8)}"),
    ask(f"{middle(prose(1), 0, 12)} {prose(72)}"),
    ask("Where is my card?", "lost"),
    ask(f"{prose(73)} where is my new card?", "lost"),
    ask("Another question, and a long one at that?", "eighteen"),
]
CASES.append((ask(f"{prose(74)} {middle(prose(4), 0, 10)}"), "bench.jsonl line 4: 1.00 of the prompt"))
BENCH = [ask(prose(1), prose(2)), ask("Where is my new card?", "eighteen"), ask(prose(3), "eighteen")]
BENCH.append(ask(middle(prose(4), 0, 10), middle(prose(5), 0, 10)))


def test_bad_65_each_way_of_holding_a_benchmark_is_found_and_said_without_its_text(bench: Any) -> None:
    rows = [case for case, _ in CASES] + INNOCENT + OTHERS
    bench.write("bench.jsonl", BENCH)
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), benchmarks=["bench.jsonl"], rules=["roles"])
    expected = {line: ("contamination", reason) for line, (_, reason) in enumerate(CASES, start=1)}
    assert snapshot.reasons() == expected
    (figures,) = snapshot.body["benchmarks"]
    assert figures["rows"] == 4
    assert figures["touched"] == {"run": 2, "coverage": 3, "alike": 1, "any": 4}
    assert (figures["dropped"], figures["flagged"]) == (len(CASES), 0)
    card = bench.store.file(snapshot.digest, "card.md").read_text()
    assert f"| bench.jsonl | 4 | 4 | 2 | 3 | 1 | {len(CASES)} | 0 |" in card


def test_a_conversation_is_looked_at_turn_by_turn_and_without_its_system_message(bench: Any) -> None:
    def chat(*turns: str) -> dict[str, Any]:
        roles = ("user", "assistant") * len(turns)
        return {"messages": [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]}

    rows = [
        chat("hello", "hello", prose(1), "fine"),
        chat("Where is my new card?", "Let me see.", "Please do.", "Lost."),
        chat(middle(prose(1), 0, 10), middle(prose(1), 10, 7)),
        {"messages": [{"role": "system", "content": prose(1)}, *chat("hello you", "good day")["messages"]]},
    ]
    bench.write("bench.jsonl", BENCH)
    others = bench.write("others.jsonl", OTHERS)
    snapshot = bench.prepare(bench.write("rows.jsonl", rows), others, benchmarks=["bench.jsonl"])
    assert {line for line, (rule, _) in snapshot.reasons().items() if rule == "contamination"} == {1, 2}


def test_what_many_benchmark_rows_have_in_common_and_the_system_text_count_for_nothing(bench: Any) -> None:
    frame, system = prose(10, 30), prose(11, 30)
    bench.write("bench.jsonl", [ask(f"{frame} {system} {prose(20 + i, 30)}") for i in range(12)])
    rows = [
        ask(f"{frame} {prose(60, 20)}"),
        ask(f"{system} {prose(61, 20)}"),
        ask(f"{frame} {system} {prose(25, 30)}"),
        *OTHERS,
    ]
    name = bench.write("rows.jsonl", rows)
    snapshot = bench.prepare(name, benchmarks=["bench.jsonl"], system=system)
    assert {line: reason for line, (_, reason) in snapshot.reasons().items()} == {
        3: "bench.jsonl line 6: 1.00 of the prompt, 13 words of the prompt in a row"
    }


@pytest.mark.parametrize("action", ["flag", "stop"])
def test_bad_65_a_row_may_be_flagged_or_stop_the_stage(bench: Any, action: str) -> None:
    bench.write("bench.jsonl", BENCH)
    name = bench.write("rows.jsonl", [*OTHERS, ask(prose(1))])
    if action == "stop":
        with pytest.raises(DataError, match=r"\(rows.jsonl line 10\) holds text of a benchmark: bench.jsonl line 1: 1.00 of"):
            bench.prepare(name, benchmarks=["bench.jsonl"], contamination="stop")
        return
    snapshot = bench.prepare(name, benchmarks=["bench.jsonl"], contamination="flag")
    flagged = [row for row in snapshot.kept if any(touch["rule"] == "contamination" for touch in row["touched"])]
    assert [row["source"]["line"] for row in flagged] == [10]
    assert snapshot.body["benchmarks"][0]["flagged"] == 1
    assert not snapshot.rejected


def test_thresholds_are_the_recipes(bench: Any) -> None:
    bench.write("bench.jsonl", BENCH)
    half = ask(f"{prose(70, 30)} {middle(prose(1), 10, 22)}")
    name = bench.write("rows.jsonl", [*OTHERS, half])
    assert not bench.prepare(name, benchmarks=["bench.jsonl"], contamination_coverage=0.6, contamination_run=False).rejected
    found = bench.prepare(name, benchmarks=["bench.jsonl"], contamination_coverage=0.5, contamination_run=False).reasons()
    assert found[10][1] == "bench.jsonl line 1: 0.55 of the prompt, also 13 words of the prompt in a row"


def test_redaction_comes_after(bench: Any) -> None:
    held = f"{prose(1, 12)} ann@example.org {prose(3, 12)}"
    bench.write("bench.jsonl", [ask(held)])
    snapshot = bench.prepare(bench.write("rows.jsonl", [*OTHERS, ask(held)]), benchmarks=["bench.jsonl"])
    assert snapshot.reasons()[10][0] == "contamination"


def test_a_test_file_of_a_stated_encoding_is_read_so_as_a_benchmark_too(bench: Any) -> None:
    # Czech: nothing in the bytes tells cp1250 from its neighbours, so that reading needs the recipe's word.
    asked = [f"Žluťoučký kůň {prose(600 + i, 30)}?" for i in range(4)]
    text = "".join(json.dumps(ask(one), ensure_ascii=False) + "\n" for one in asked)
    (bench.folder / "held.jsonl").write_bytes(text.encode("cp1250"))
    name = bench.write("rows.jsonl", [ask(f"Again: {asked[2]} {prose(77, 9)}"), *OTHERS])
    named = {"path": "held.jsonl", "encoding": "cp1250"}
    watched = bench.prepare(name, {**named, "split": "test"}, near_duplicate=1.0)
    assert [(one["rows"], one["touched"]["any"]) for one in watched.body["benchmarks"]] == [(4, 1)]
    guarded = bench.prepare(name, benchmarks=[named], near_duplicate=1.0)
    assert guarded.reasons()[1][0] == "contamination"
    card = bench.store.file(guarded.digest, "card.md").read_text(encoding="utf-8")
    assert "benchmarks = held.jsonl" in card
    assert "sha256'" not in card


def test_a_published_test_file_is_watched_and_one_that_is_named_besides_is_guarded(bench: Any) -> None:
    half = ask(f"{prose(70, 30)} {middle(prose(1), 10, 22)}")
    train = bench.write("train.jsonl", [half, ask(prose(1), "other"), *OTHERS])
    test = bench.write("test.jsonl", BENCH)
    sources = ({"path": train, "split": "train"}, {"path": test, "split": "test"})
    watched = bench.prepare(*sources)
    assert {line: rule for line, (rule, _) in watched.reasons().items()} == {2: "leak"}
    (touch,) = next(row for row in watched.kept if row["source"] == {**row["source"], "file": train, "line": 1})["touched"]
    assert touch == {
        "rule": "contamination",
        "kind": "flagged",
        "reason": "test.jsonl line 1: 0.55 of the prompt, 13 words of the prompt in a row",
    }
    assert [one["published"] for one in watched.body["benchmarks"]] == [True]
    guarded = bench.prepare(*sources, benchmarks=[test])
    assert {line: rule for line, (rule, _) in guarded.reasons().items()} == {1: "contamination", 2: "contamination"}
    assert [one["published"] for one in guarded.body["benchmarks"]] == [False]
    assert len(guarded.rows["test"]) == len(BENCH)


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        (BENCH, {}),
        ([{"question": row["prompt"], "answer": row["completion"]} for row in BENCH], {}),
        ([{"text": row["prompt"], "label": 3} for row in BENCH], {}),
        ([{"messages": [{"role": "user", "content": row["prompt"]}]} for row in BENCH], {}),
        ([{"q": row["prompt"], "n": i} for i, row in enumerate(BENCH)], {"columns": {"prompt": "q"}, "name": "Q"}),
        ([{"instruction": row["prompt"], "input": "", "output": "x"} for row in BENCH], {"format": "alpaca"}),
    ],
)
def test_benchmarks_are_read_in_any_layout(bench: Any, rows: Sequence[Mapping[str, Any]], table: dict[str, Any]) -> None:
    bench.write("bench.jsonl", rows)
    named = [{"path": "bench.jsonl", **table}] if table else ["bench.jsonl"]
    snapshot = bench.prepare(bench.write("rows.jsonl", [*OTHERS, ask(prose(3))]), benchmarks=named)
    assert snapshot.reasons()[10][1].startswith(f"{table.get('name', 'bench.jsonl')} line 3: 1.00 of the prompt")


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        (["nowhere.jsonl"], DataError, "There is no benchmark 'nowhere.jsonl'. In [prepare] benchmarks."),
        (["broken.jsonl"], DataError, "broken.jsonl line 2 cannot be read: "),
        (["odd.jsonl"], DataError, "odd.jsonl has rows of no known shape: their keys are 'zzz'. In [prepare] benchmarks."),
        (["blank.jsonl"], DataError, "No row of blank.jsonl has a prompt. In [prepare] benchmarks."),
        (
            [{"path": "bench.jsonl", "columns": {"prompt": "q"}}],
            DataError,
            'bench.jsonl has no column "q". Its columns: completion,',
        ),
        ([{"path": "bench.jsonl", "columns": {"promt": "q"}}], RecipeError, '"promt" is no part of a benchmark\'s row.'),
        ([{"path": "bench.jsonl", "columns": {"completion": "q"}}], RecipeError, "columns needs prompt."),
        (["bench.jsonl", "copy.jsonl"], RecipeError, "copy.jsonl holds the same bytes as bench.jsonl."),
        (
            ["bench.jsonl", {"path": "two.jsonl", "name": "bench.jsonl"}],
            RecipeError,
            'Two benchmarks are called "bench.jsonl".',
        ),
    ],
)
def test_a_benchmark_that_cannot_be_guarded_is_refused(bench: Any, named: list[Any], error: Any, said: str) -> None:
    for name, rows in (("bench", BENCH), ("copy", BENCH), ("two", BENCH[:1]), ("blank", [ask(" ")]), ("odd", [{"zzz": 1}])):
        bench.write(f"{name}.jsonl", rows)
    (bench.folder / "broken.jsonl").write_text(f"{json.dumps(BENCH[0])}\n{{'prompt': \n", encoding="utf-8")
    with pytest.raises(error) as caught:
        bench.prepare(bench.write("rows.jsonl", OTHERS), benchmarks=named)
    assert said in str(caught.value)


def test_a_benchmark_that_changes_names_the_snapshot_anew_and_none_changes_nothing(bench: Any) -> None:
    name = bench.write("rows.jsonl", OTHERS)
    bench.write("bench.jsonl", BENCH)
    first = bench.prepare(name, benchmarks=["bench.jsonl"])
    bench.write("bench.jsonl", BENCH[:2])
    assert bench.prepare(name, benchmarks=["bench.jsonl"]).digest != first.digest
    plain = bench.prepare(name)
    assert "benchmarks" not in plain.body
    assert not {"benchmarks", "contamination", "contamination_run", "contamination_coverage"} & plain.body["settings"].keys()
    assert "contamination" not in {rule["name"] for rule in plain.body["rules"]}


def test_figures_are_read_off_the_reasons_whatever_files_are_called() -> None:
    names = ("a line 3: x", "a", "b; a line 1: c", "(.*)")
    guard = guard_of({name: [prose(100 * i + j) for j in range(30)] for i, name in enumerate(names)})
    every = " ".join(prose(100 * i + j) for i in range(4) for j in (0, 3))
    reasons = [guard.say(guard.look([Message("user", every)]))]
    figures = tally(guard.benchmarks, reasons, [])
    assert [(one["name"], one["touched"]["any"], one["dropped"]) for one in figures] == [(name, 2, 1) for name in names]


def test_of_very_many_benchmark_rows_the_first_twenty_are_named() -> None:
    guard = guard_of({"a": [prose(j) for j in range(30)]})
    said = guard.say(guard.look([Message("user", " ".join(prose(j) for j in range(30)))]))
    assert said.count("13 words") == 20
    assert said.endswith("; and 10 more rows")
    assert tally(guard.benchmarks, [], [said])[0]["touched"]["any"] == 20


def guard_of(prompts: Mapping[str, Sequence[str]]) -> Guard:
    from budwood.identity import Digest

    benchmarks = [
        Benchmark(
            name, Digest("0" * 64), tuple(BenchmarkRow(j + 1, normalise(text), "") for j, text in enumerate(texts)), False
        )
        for name, texts in prompts.items()
    ]
    return make_guard(benchmarks, PrepareSection())


def test_a_recipe_file_takes_paths_and_tables(tmp_path: Any) -> None:
    path = tmp_path / "recipe.toml"
    head = 'name = "x"\n[[source]]\npath = "a"\n'
    path.write_text(f'{head}[prepare]\nbenchmarks = ["b.jsonl", {{ path = "c.csv", columns = {{ prompt = "q" }} }}]\n')
    first, second = load_recipe(path).prepare.benchmarks
    assert (first.path, first.columns, second.path, second.columns) == ("b.jsonl", {}, "c.csv", {"prompt": "q"})
    path.write_text(f'{head}[[prepare.benchmarks]]\npath = "b.jsonl"\nlicense = "MIT"\n')
    with pytest.raises(RecipeError, match=r'Unknown key "prepare.benchmarks\[0\].license".'):
        load_recipe(path)


def test_gsm8k_training_rows_that_are_test_rows_in_other_words_are_found(public_data: Any, bench: Any) -> None:
    def pairs(name: str) -> list[dict[str, Any]]:
        lines = (public_data / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [ask(row["question"], row["answer"]) for row in map(json.loads, lines)]

    guard = guard_of({"gsm8k": [row["prompt"] for row in pairs("test")]})
    found: dict[int, list[int]] = {}
    for line, row in enumerate(pairs("train"), start=1):
        hits = guard.look([Message("user", row["prompt"]), Message("assistant", row["completion"])])
        found |= {line: [hit.line for hit in hits]} if hits else {}
    # "A train travels 360 miles in 3 hours …" against "A plane travels 1200 miles in 3 hours …", and the like.
    assert found == {21: [633], 407: [582], 1315: [603], 5163: [603]}
