"""The examples: the generator keeps its word, and preparing finds what it planted, row for row."""

import importlib.util
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from budwood.prepare.run import prepare
from budwood.recipe import load_recipe
from budwood.store import Store, open_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TRIAGE = EXAMPLES / "support-triage"
SPLITS = ("train", "validation", "test")
FIELDS = ("intent", "product", "urgency", "order_id", "sentiment")
INTENTS = {"refund", "exchange", "delivery", "damaged", "missing_part", "cancel", "address", "repair", "invoice", "usage"}


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("support_triage_generate", TRIAGE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


class Triage:
    """The example's snapshots, made once for a seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.folder = root / "triage"
        self.folder.mkdir()
        for name in ("recipe.toml", "recipe-v2.toml", "answer.schema.json"):
            (self.folder / name).write_bytes((TRIAGE / name).read_bytes())
        self.planted = load_generator().generate(self.folder / "data", seed=seed)
        self.store: Store = open_store(root / "project")
        self.first = self.prepare("recipe.toml", None)
        self.second = self.prepare("recipe-v2.toml", self.first)

    def prepare(self, recipe: str, onto: Any) -> Any:
        return prepare(load_recipe(self.folder / recipe), self.store, token_length=None, context=0, onto=onto)

    def rows(self, digest: Any) -> dict[str, list[dict[str, Any]]]:
        return {name: read_lines(self.store.file(digest, f"{name}.jsonl")) for name in (*SPLITS, "rejected")}


@pytest.fixture(scope="module", params=[0, 7])
def triage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    example = Triage(tmp_path_factory.mktemp("triage"), request.param)
    yield example
    example.store.close()


def places(rows: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(Path(row["source"]["file"]).name, row["source"]["line"]): row for row in rows}


def test_everything_planted_is_found_and_nothing_else_is_rejected(triage: Triage) -> None:
    body = triage.store.manifest(triage.first).body
    assert body["rejected_by"] == dict(sorted(triage.planted["expected_rejected"].items()))
    assert body["counts"]["read"] == triage.planted["rows"]["tickets.jsonl"] + triage.planted["rows"]["inbox.csv"]


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        ("malformed_line", {"read"}),
        ("broken_json", {"json_answer"}),
        ("empty_answer", {"empty_answer"}),
        ("outvoted_label", {"conflict"}),
        ("tied_label", {"conflict"}),
    ],
)
def test_each_fault_is_rejected_by_its_rule(triage: Triage, kind: str, rules: set[str]) -> None:
    rejected = places(triage.rows(triage.first)["rejected"])
    assert {rejected[place["file"], place["line"]]["rule"] for place in triage.planted["planted"][kind]} == rules


def test_of_a_text_and_its_copy_exactly_one_stays(triage: Triage) -> None:
    rows = triage.rows(triage.first)
    kept = {row["row_id"] for split in SPLITS for row in rows[split]}
    copies = [row for row in rows["rejected"] if row["rule"] in ("exact_duplicate", "near_duplicate")]
    for row in copies:
        named = row["reason"].split(" row ")[1].split(" ")[0]
        assert named in kept


def test_dirt_that_can_be_mended_is_mended(triage: Triage) -> None:
    rows = triage.rows(triage.first)
    kept = places([row for split in SPLITS for row in rows[split]])
    for kind, mark in [
        ("email", "[EMAIL]"),
        ("phone", "[PHONE]"),
        ("card", "[CARD]"),
        ("mojibake", "I’m a regular customer"),
    ]:
        for place in triage.planted["planted"][kind]:
            assert mark in kept[place["file"], place["line"]]["messages"][0]["content"]
    texts = [row["messages"][0]["content"] for row in kept.values()]
    assert sum("[" in text for text in texts) == 100
    assert not any("Ã" in text or "â€" in text or "@example" in text for text in texts)


def test_order_numbers_survive_redaction(triage: Triage) -> None:
    for row in triage.rows(triage.second)["train"]:
        order = json.loads(row["messages"][-1]["content"])["order_id"]
        assert order is None or order in row["messages"][0]["content"]


def test_the_test_holds_no_template_that_is_trained_on_and_every_intent_is_everywhere(triage: Triage) -> None:
    for digest in (triage.first, triage.second):
        rows = triage.rows(digest)
        templates = {split: {row["slices"]["template"] for row in rows[split]} for split in SPLITS}
        assert not templates["train"] & templates["test"]
        assert not templates["train"] & templates["validation"]
        assert not templates["validation"] & templates["test"]
        for split in SPLITS:
            assert {json.loads(row["messages"][-1]["content"])["intent"] for row in rows[split]} == INTENTS


def test_every_word_of_the_test_is_trained_on(triage: Triage) -> None:
    def words(split: str) -> set[str]:
        return {
            word.strip(".,;:?!").casefold()
            for row in triage.rows(triage.first)[split]
            for word in row["messages"][0]["content"].split()
            if not any(sign.isdigit() for sign in word)
        }

    # The names under some messages are drawn so seldom that one of them may be missing.
    assert len(words("test") - words("train")) <= 2


def test_the_second_version_moves_no_row_and_adds_the_newer_ones(triage: Triage) -> None:
    first, second = triage.rows(triage.first), triage.rows(triage.second)
    where = {row["row_id"]: split for split in SPLITS for row in second[split]}
    for split in SPLITS:
        assert {where[row["row_id"]] for row in first[split]} == {split}
    assert len(where) == sum(len(first[split]) for split in SPLITS) + triage.planted["rows"]["newer.jsonl"]


def test_labels_agree_and_follow_the_cues(triage: Triage) -> None:
    """The same text never has two labels, and each field can be read off the message."""
    import tomllib

    wording = tomllib.loads((TRIAGE / "wording.toml").read_text(encoding="utf-8"))
    labels: Mapping[str, set[str]] = defaultdict(set)
    rows = triage.rows(triage.second)
    for row in (row for split in SPLITS for row in rows[split]):
        text, answer = (message["content"] for message in row["messages"])
        values = json.loads(answer)
        labels[text].add(answer)
        assert tuple(values) == FIELDS
        assert row["slices"]["template"].rsplit("-", 2)[0] == values["intent"]
        for field in ("urgency", "sentiment"):
            said = [level for level, cues in wording[field].items() for cue in cues if cue and cue in text]
            assert set(said) <= {values[field]}
            assert said or values[field] in ("normal", "neutral")
        assert any(name in text for name in wording["products"][values["product"]])
    assert {len(answers) for answers in labels.values()} == {1}


def test_another_seed_gives_other_rows_of_the_same_templates(tmp_path: Path) -> None:
    generate = load_generator().generate
    for seed in (1, 2):
        generate(tmp_path / str(seed), seed=seed, rows=1200, newer=50)
    generate(tmp_path / "again", seed=1, rows=1200, newer=50)
    for name in ("tickets.jsonl", "inbox.csv", "newer.jsonl", "planted.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        assert (tmp_path / "1" / name).read_bytes() != (tmp_path / "2" / name).read_bytes()
    with pytest.raises(ValueError, match="rows = 100"):
        generate(tmp_path / "few", rows=100)


def test_banking77_keeps_its_test_file_whole(public_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "banking77"
    folder.mkdir()
    (folder / "recipe.toml").write_bytes((EXAMPLES / "banking77" / "recipe.toml").read_bytes())
    for name in ("train.csv", "test.csv"):
        (folder / name).symlink_to(public_data / "banking77" / name)
    with open_store(tmp_path / "project") as store:
        digest = prepare(load_recipe(folder / "recipe.toml"), store, token_length=None, context=0)
        body = store.manifest(digest).body
        rows = {split: read_lines(store.file(digest, f"{split}.jsonl")) for split in (*SPLITS, "rejected")}
    assert body["counts"]["read"] == 13_083
    assert body["counts"]["test"] == 3_080 == len(rows["test"])
    assert {row["source"]["file"] for row in rows["test"]} == {"test.csv"}
    # The figures of the example's README.
    assert Counter(row["rule"] for row in rows["rejected"]) == {"leak": 117, "near_duplicate": 104, "exact_duplicate": 4}
    assert sum(row["reason"].startswith("same prompt") for row in rows["rejected"] if row["rule"] == "leak") == 7
    assert {row["messages"][-1]["content"] for row in rows["train"]} == {row["messages"][-1]["content"] for row in rows["test"]}
    assert not {prompt(row) for row in rows["train"]} & {prompt(row) for row in rows["test"]}


def prompt(row: Mapping[str, Any]) -> str:
    return " ".join(str(row["messages"][0]["content"]).casefold().split())
