"""The faults that pydantic found → a sentence each, with key, value and mend."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from budwood.recipe.recipe import Recipe

LONGEST_SHOWN = 120


def explain(details: Sequence[ErrorDetails]) -> list[str]:
    """Say what is wrong with each key."""
    inside = any(detail["loc"][:1] == ("source",) and len(detail["loc"]) > 1 for detail in details)
    # pydantic does not count a source that is wrong, and then also complains of too few.
    return [_explain(detail) for detail in details if not (inside and detail["type"] == "too_short")]


def _explain(detail: ErrorDetails) -> str:
    loc = detail["loc"]
    key = _dotted(loc)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return f'Unknown key "{key}". {_hint(loc)}'
    if kind == "missing":
        return f'"{key}" is missing.'
    if loc == ("source",) and kind == "tuple_type":
        return "source is a list of tables: write [[source]], in double brackets, above each one."
    if kind == "model_type" and len(loc) == 1:
        return f"{key} is a section: write [{key}], and its keys below it."
    message = detail["msg"].removeprefix("Value error, ")
    shown = f" = {_short(repr(value))}" if isinstance(value, str | int | float | bool) else ""
    return f"{key}{shown}: {message}." if key else f"{message}."


def _hint(loc: tuple[int | str, ...]) -> str:
    """Where an unknown key belongs: to another section, or it is misspelt."""
    name = str(loc[-1])
    known = list(_model_at(loc[:-1]).model_fields) if len(loc) > 1 else list(Recipe.model_fields)
    known = [field for field in known if field != "folder"]
    homes = [title for title, model in _sections(Recipe, "") if name in model.model_fields and name != "folder"]
    if homes:
        places = [f"[{title}]" if title else "the top, above all sections" for title in homes]
        return f"It belongs to {' or '.join(places)}."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Nearest known key: {near[0]}." if near else f"Known keys: {', '.join(known)}."


def _sections(model: type[BaseModel], title: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its title as it stands in TOML."""
    yield title, model
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None:
            path = f"{title}.{name}" if title else name
            nested = f"[{path}]" if get_origin(field.annotation) is tuple else path
            yield from _sections(inner, nested)


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = Recipe
    for part in loc:
        inner = _model_in(model.model_fields[part].annotation) if isinstance(part, str) else None
        model = inner or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, or holds a list of; None for other keys."""
    kinds = [annotation, *(getattr(kind, "__origin__", kind) for kind in get_args(annotation))]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _dotted(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        shown = f"[{part}]" if isinstance(part, int) else _short(part if part.isprintable() else repr(part))
        text += shown if isinstance(part, int) else f".{shown}" if text else shown
    return text


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({len(text):,} characters)"
