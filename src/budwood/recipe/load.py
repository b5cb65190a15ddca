"""TOML file or mapping → `Recipe`, with errors that name key, place and mend."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from budwood.errors import RecipeError
from budwood.recipe.recipe import Recipe


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: the file is missing, not UTF-8, not TOML, or any key, type or value is wrong. All faults are listed.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {str(path)!r}.", mend="Check the path, or start from an example.") from None
    except IsADirectoryError:
        raise RecipeError(f"{str(path)!r} is a folder, not a recipe.", mend="Name the .toml file in it.") from None
    except PermissionError:
        raise RecipeError(f"The recipe {str(path)!r} may not be read.", mend="Check its permissions.") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"The recipe {str(path)!r} is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}.",
            mend="Save the file as UTF-8.",
        ) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The recipe is not TOML: {error}.", where=str(path), mend="Correct that line.") from None
    return recipe_from_mapping(values, folder=path.resolve().parent, where=str(path))


def recipe_from_mapping(values: Mapping[str, Any], *, folder: Path, where: str = "the recipe") -> Recipe:
    """Check a mapping as `load_recipe` does; `folder` is where its relative paths start."""
    if "folder" in values:
        raise RecipeError('"folder" is no recipe key.', where=where, mend="Paths start at the recipe's own folder.")
    try:
        return Recipe.model_validate({**values, "folder": folder})
    except ValidationError as error:
        faults = [_explain(detail) for detail in error.errors()]
        raise RecipeError("\n    ".join(faults), where=where, mend="Correct it, then run the same command again.") from None


def _explain(detail: ErrorDetails) -> str:
    loc = detail["loc"]
    key = _dotted(loc)
    if detail["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        hint = f" Nearest known key: {near[0]}." if near else f" Known keys: {', '.join(known)}."
        return f'Unknown key "{key}".{hint}'
    if detail["type"] == "missing":
        return f'"{key}" is missing.'
    message = detail["msg"].removeprefix("Value error, ")
    value = detail["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float | bool) else ""
    return f"{key or 'recipe'}{shown}: {message}."


def _dotted(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        models = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return []
        model = models[0]
    return [name for name in model.model_fields if name != "folder"]
