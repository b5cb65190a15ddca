"""A recipe is right, or every fault in it is named with its place and its mend."""

from pathlib import Path
from typing import Any

import pytest

from budwood.errors import RecipeError
from budwood.recipe import load_recipe, recipe_from_mapping

SMALLEST: dict[str, Any] = {"name": "support", "source": [{"path": "tickets.jsonl"}]}


def fault(values: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_from_mapping(values, folder=Path())
    return str(caught.value)


def test_smallest_recipe_has_every_default() -> None:
    recipe = recipe_from_mapping(SMALLEST, folder=Path())
    assert recipe.base.id == "seedling"
    assert recipe.train.method == "auto"
    assert recipe.prepare.rules[0] == "unicode"
    assert recipe.source[0].format == "auto"


def test_unknown_key_is_refused_and_nearest_is_named() -> None:
    assert fault({**SMALLEST, "train": {"rnk": 8}}) == (
        'Unknown key "train.rnk". Nearest known key: rank. In the recipe.\n    Correct it, then run the same command again.'
    )


def test_unknown_key_without_a_neighbour_lists_the_known_ones() -> None:
    assert 'Unknown key "base.zzz". Known keys: id.' in fault({**SMALLEST, "base": {"zzz": 1}})


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "rank", "many", "train.rank = 'many': Input should be a valid integer."),
        ("train", "rank", 0, "train.rank = 0: Input should be greater than or equal to 1."),
        ("train", "epochs", -1.0, "train.epochs = -1.0: Input should be greater than 0."),
        ("train", "learning_rate", float("nan"), "train.learning_rate = nan: Input should be a finite number."),
        ("serve", "port", 99999, "serve.port = 99999: Input should be less than or equal to 65535."),
        ("gate", "alpha", True, "gate.alpha = True: Input should be a valid number."),
    ],
)
def test_wrong_value_is_named_with_its_place(section: str, key: str, value: object, message: str) -> None:
    assert message in fault({**SMALLEST, section: {key: value}})


def test_all_faults_are_listed_at_once() -> None:
    text = fault({"name": "Support", "source": [{"pth": "x"}], "train": {"epochs": -1}})
    for part in ("name = 'Support'", '"source[0].path" is missing', "Nearest known key: path", "train.epochs"):
        assert part in text


def test_reserved_and_misshapen_names_are_refused() -> None:
    assert "'latest' is reserved" in fault({**SMALLEST, "name": "latest"})
    assert "lower-case" in fault({**SMALLEST, "name": "../x"})


def test_validation_and_test_leave_rows_to_train_on() -> None:
    assert "must stay below 1" in fault({**SMALLEST, "prepare": {"validation": 0.5, "test": 0.5}})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"There is no recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is a folder, not a recipe"):
        load_recipe(tmp_path)


def test_bytes_that_are_not_utf8_are_located(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(RecipeError, match=r"byte 0xe9 at offset 11"):
        load_recipe(path)


def test_toml_mistake_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\nrank = = 3\n')
    with pytest.raises(RecipeError, match=r"line 2"):
        load_recipe(path)


def test_paths_start_at_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\n[[source]]\npath = "data/a.jsonl"\n')
    recipe = load_recipe(path)
    assert recipe.path(recipe.source[0].path) == tmp_path.resolve() / "data" / "a.jsonl"
    assert "folder" not in recipe.model_dump()
