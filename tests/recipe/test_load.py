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
        ("gate", "resamples", 100_001, "gate.resamples = 100001: Input should be less than or equal to 100000."),
        ("train", "epochs", 1001.0, "train.epochs = 1001.0: Input should be less than or equal to 1000."),
        ("prepare", "split_seed", 1 << 63, "Input should be less than or equal to 9223372036854775807."),
        ("prepare", "rules", ["unicod"], "prepare.rules: There is no rule 'unicod'. The nearest is 'unicode'."),
        ("prepare", "rules", ["roles", "roles"], "prepare.rules: The rule 'roles' is named twice."),
        ("evaluate", "primary", "exat", "evaluate.primary = 'exat': There is no scorer 'exat'. The nearest is 'exact'."),
        ("evaluate", "scorers", ["zzz"], "evaluate.scorers: There is no scorer 'zzz'. Known: exact, normalised, label,"),
        ("release", "alias", "Prod X", "release.alias = 'Prod X': use 1 to 64 lower-case letters,"),
        ("release", "alias", "0123456", "release.alias = '0123456': it reads as a version number or a digest;"),
        ("serve", "precision", "fp16", "serve.precision = 'fp16': Input should be 'float32' or 'bfloat16'."),
        ("serve", "on_demand", "all", "serve.on_demand = 'all': Input should be 'judged', 'any' or 'none'."),
        ("serve", "on_demand", True, """it is a word by now; for what true meant, write "any", or "judged" to keep out"""),
        ("serve", "on_demand", False, """it is a word by now; for what false meant, write "none"."""),
        ("train", "target_modules", "q_proj", """train.target_modules = 'q_proj': write names as a list: target_modules"""),
        ("train", "target_modules", [], "train.target_modules: the list is empty: name at least one layer,"),
        ("train", "target_modules", [1], "train.target_modules: write a list of names,"),
        ("train", "token_rows", "<|call|>", "train.token_rows = '<|call|>': write a list of texts and ids, e.g. "),
        ("train", "token_rows", [True], "train.token_rows: write a list of texts and ids, e.g. "),
        ("train", "token_rows", {"lm_head": 3}, "train.token_rows: write a list of texts and ids, e.g. "),
        ("train", "token_rows", {"lm_head": []}, "train.token_rows: a list is empty: name at least one token,"),
    ],
)
def test_bad_68_wrong_value_is_named_with_its_place(section: str, key: str, value: object, message: str) -> None:
    text = fault({**SMALLEST, section: {key: value}})
    assert message in text
    assert text.count("\n") == 1


def test_rows_of_tokens_go_with_an_adapter() -> None:
    train = {"token_rows": {"embed_tokens": ["<|call|>", 7], "lm_head": [7]}}
    read = recipe_from_mapping({**SMALLEST, "train": train}, folder=Path()).train
    assert read.token_rows == {"embed_tokens": ("<|call|>", 7), "lm_head": (7,)}
    text = fault({**SMALLEST, "train": {"method": "full", "token_rows": [7]}})
    assert 'token_rows are for an adapter: method = "full" trains every row' in text


def test_a_seed_fits_64_bits() -> None:
    assert recipe_from_mapping({**SMALLEST, "seed": (1 << 63) - 1}, folder=Path()).seed == (1 << 63) - 1
    assert "seed = 9223372036854775808: Input should be less" in fault({**SMALLEST, "seed": 1 << 63})


@pytest.mark.parametrize("value", [{"path": "a.jsonl"}, "a.jsonl"])
def test_source_in_single_brackets(value: object) -> None:
    assert fault({"name": "x", "source": value}).startswith(
        "source is a list of tables: write [[source]], in double brackets, above each one. In the recipe."
    )


def test_a_section_that_is_none() -> None:
    assert "train is a section: write [train], and its keys below it." in fault({**SMALLEST, "train": 3})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": 1.0}, 'Unknown key "learning_rate". It belongs to [train].'),
        ({"alpha": 1.0}, 'Unknown key "alpha". It belongs to [train] or [gate] or [canary].'),
        ({"serve": {"rank": 1}}, 'Unknown key "serve.rank". It belongs to [train].'),
        ({"licence": "MIT"}, 'Unknown key "licence". It belongs to [[source]].'),
        ({"evaluate": {"forbidden": []}}, 'Unknown key "evaluate.forbidden". It belongs to [prepare] or [evaluate.policy].'),
        ({"train": {"seed": 1}}, 'Unknown key "train.seed". It belongs to the top, above all sections.'),
        ({"a\x1b[2J": 1}, """Unknown key "'a\\x1b[2J'". Known keys: name, seed,"""),
        ({"a" * 9000: 1}, f"""Unknown key "{"a" * 120}… (9,000 characters)"."""),
    ],
)
def test_an_unknown_key_is_pointed_to_where_it_belongs(values: dict[str, Any], said: str) -> None:
    assert said in fault({**SMALLEST, **values})


@pytest.mark.parametrize("base", ["seedling", "org/Seedling@abc", "models/seedling/"])
def test_a_name_that_is_the_bases(base: str) -> None:
    assert 'name = "seedling" is the base model\'s own' in fault({**SMALLEST, "name": "seedling", "base": {"id": base}})


def test_all_faults_are_listed_at_once() -> None:
    text = fault({"name": "Support", "source": [{"pth": "x"}], "train": {"epochs": -1}})
    for part in ("name = 'Support'", '"source[0].path" is missing', "Nearest known key: path", "train.epochs"):
        assert part in text
    assert "at least 1 item" not in text


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nrank = " + "9" * 5000, "The recipe has a number that is too long. In {path}, line 5."),
        ("[train]\nrank = 0x" + "9" * 5000, "train.rank is a number of 20,000 bits. In {path}."),
        ("[train]\nrank = [[{ a = -9223372036854775809 }]]", "train.rank.a is a number of 64 bits. In {path}."),
        ("[train]\nrank = " + "[" * 3000 + "]" * 3000, "The recipe is nested too deeply. In {path}."),
        ("#" * (1 << 20), "'{path}' has more than 1,048,576 bytes, so it is no recipe."),
    ],
)
def test_bad_68_a_file_that_is_too_much(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\n[[source]]\npath = "a"\n' + text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(said.format(path=path))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "x"\n[[source]]\npath = "a"\n')
    assert load_recipe(path).name == "x"


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path / "file" / "r.toml", "Not a directory."),
        (tmp_path / "loop", "Too many levels of symbolic links."),
        (tmp_path / ("x" * 5000), "File name too long."),
        (tmp_path / "a\0b", "embedded null byte."),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert f"cannot be read: {reason}\n    Check the path." in str(caught.value)
        assert len(str(caught.value)) < 300
