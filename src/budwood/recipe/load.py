"""TOML file or mapping → `Recipe`, with errors that name key, place and mend."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from budwood.errors import RecipeError
from budwood.recipe.faults import explain
from budwood.recipe.recipe import Recipe

LARGEST_BYTES = 1 << 20
BITS = 63
"""TOML's whole numbers have 64 bits with a sign; Python's parser takes larger ones, which nothing after it could use."""
LONGEST_SHOWN = 120


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: the file is missing, not UTF-8, not TOML, or any key, type or value is wrong. All faults are listed.
    """
    text = _read(path)
    where = _shown(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The recipe is not TOML: {error}.", where=where, mend="Correct that line.") from None
    except ValueError:
        raise RecipeError("The recipe has a number that is too long.", where=_long_number(text, where), mend=_SMALLER) from None
    except RecursionError:
        raise RecipeError("The recipe is nested too deeply.", where=where, mend="No key of a recipe needs that.") from None
    _check_numbers(values, where)
    return recipe_from_mapping(values, folder=path.resolve().parent, where=where)


def recipe_from_mapping(values: Mapping[str, Any], *, folder: Path, where: str = "the recipe") -> Recipe:
    """Check a mapping as `load_recipe` does; `folder` is where its relative paths start."""
    if "folder" in values:
        raise RecipeError('"folder" is no recipe key.', where=where, mend="Paths start at the recipe's own folder.")
    try:
        return Recipe.model_validate({**values, "folder": folder})
    except ValidationError as error:
        faults = explain(error.errors())
        raise RecipeError("\n    ".join(faults), where=where, mend="Correct it, then run the same command again.") from None


def _read(path: Path) -> str:
    shown = repr(_shown(path))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {shown}.", mend="Check the path, or start from an example.") from None
    except IsADirectoryError:
        raise RecipeError(f"{shown} is a folder, not a recipe.", mend="Name the .toml file in it.") from None
    except PermissionError:
        raise RecipeError(f"The recipe {shown} may not be read.", mend="Check its permissions.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(f"The recipe {shown} cannot be read: {reason}.", mend="Check the path.") from None
    if len(data) > LARGEST_BYTES:
        raise RecipeError(f"{shown} has more than {LARGEST_BYTES:,} bytes, so it is no recipe.", mend="Name the .toml file.")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"The recipe {shown} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}.",
            mend="Save the file as UTF-8.",
        ) from None


_SMALLER = "Whole numbers go up to 9,223,372,036,854,775,807."


def _long_number(text: str, where: str) -> str:
    found = re.search(r"\d[\d_]{4000}", text)
    return where if found is None else f"{where}, line {text.count(chr(10), 0, found.start()) + 1}"


def _check_numbers(values: Mapping[str, Any], where: str) -> None:
    waiting: list[tuple[str, Any]] = list(values.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{key}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        elif isinstance(value, int) and not -(1 << BITS) <= value < 1 << BITS:
            raise RecipeError(f"{key} is a number of {value.bit_length():,} bits.", where=where, mend=_SMALLER)


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({len(text):,} characters)"
