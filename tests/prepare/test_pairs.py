"""A text file with one pair a line, parted by what the recipe says; and the recipes for public data that need it."""

from pathlib import Path

import pytest
from tests.prepare.conftest import Bench

from budwood.errors import DataError
from budwood.prepare.run import prepare
from budwood.recipe import load_recipe
from budwood.store import open_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "public-data"


def test_each_line_is_a_pair_and_others_are_rejected_with_their_reason(bench: Bench) -> None:
    lines = [f"facts {n * 7919 % 997} of {n}||sentence {n} " for n in range(30)]
    lines[3], lines[7], lines[9] = "no separator", "one||two||three", "   "
    (bench.folder / "pairs.txt").write_text("\r\n".join(lines) + "\n", encoding="utf-8", newline="")
    made = bench.prepare({"path": "pairs.txt", "separator": "||"}, max_malformed=0.1)
    assert made.body["counts"]["read"] == 29
    assert made.body["sources"][0]["layout"] == "pairs"
    assert made.reasons() == {
        4: ("read", "'||' stands 0 times in it, where once is expected"),
        8: ("read", "'||' stands 2 times in it, where once is expected"),
    }
    (last,) = [row for row in made.kept if row["source"]["line"] == 30]
    assert [message["content"] for message in last["messages"]] == [f"facts {29 * 7919 % 997} of 29", "sentence 29"]


def test_without_a_separator_such_a_file_is_refused(bench: Bench) -> None:
    (bench.folder / "pairs.txt").write_text("a : b | c : d||e\na : b||f\n", encoding="utf-8")
    with pytest.raises(DataError):
        bench.prepare("pairs.txt")


@pytest.mark.parametrize(
    ("name", "folder", "figures"),
    [
        ("gsm8k", "gsm8k", {"read": 8_792, "kept": 8_792, "test": 1_319}),
        ("sharegpt", "sharegpt_sample", {"read": 500, "kept": 207}),
        ("e2e", "e2e_nlg", {"read": 9_365, "kept": 9_213, "test": 4_693}),
    ],
)
def test_public_data_go_through_with_their_recipes(
    name: str, folder: str, figures: dict[str, int], public_data: Path, tmp_path: Path
) -> None:
    here = tmp_path / name
    here.mkdir()
    (here / "recipe.toml").write_bytes((EXAMPLES / name / "recipe.toml").read_bytes())
    recipe = load_recipe(here / "recipe.toml")
    for source in recipe.source:
        (here / source.path).symlink_to(public_data / folder / source.path)
    with open_store(tmp_path / "project") as store:
        body = store.manifest(prepare(recipe, store, token_length=None, context=0)).body
    # The figures of the examples' README.
    assert {key: body["counts"][key] for key in figures} == figures
