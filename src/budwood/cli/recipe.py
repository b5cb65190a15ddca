"""`budwood recipe`: check a recipe and show every value, given or default."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import JsonOption, RecipeArgument
from budwood.cli.output import print_json

if TYPE_CHECKING:
    from pydantic import BaseModel


def register(app: typer.Typer) -> None:
    @app.command(
        name="recipe",
        short_help="Check a recipe, or print every value of it.",
        epilog="Example: budwood recipe support.toml --show",
    )
    def show_recipe(
        recipe: RecipeArgument,
        show: Annotated[bool, typer.Option("--show", help="print every value with its meaning")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Check a recipe; with --show, print every value, given or default, and what it means."""
        from budwood.recipe import load_recipe

        checked = load_recipe(recipe)
        if as_json:
            print_json(checked.model_dump(mode="json"))
            return
        if not show:
            typer.echo(f"{recipe} is a valid recipe for {checked.name!r} on base {checked.base.id!r}.")
            return
        typer.echo(f'name = "{checked.name}"\nseed = {checked.seed}')
        for name in type(checked).model_fields:
            value = getattr(checked, name)
            if name == "source":
                for source in value:
                    _print_section("[source]", source)
            elif hasattr(value, "model_fields_set"):
                _print_section(name, value)


def _print_section(title: str, section: "BaseModel") -> None:
    typer.echo(f"\n[{title}]")
    nested: list[tuple[str, BaseModel]] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if hasattr(value, "model_fields_set"):
            nested.append((f"{title}.{name}", value))
            continue
        given = "" if name in section.model_fields_set else " (default)"
        typer.echo(f"{name} = {_toml(value)}\n    # {field.description}{given}")
    for inner_title, inner in nested:
        _print_section(inner_title, inner)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if hasattr(value, "model_fields_set"):
        return _toml(value.model_dump(include=value.model_fields_set))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    return str(value)
