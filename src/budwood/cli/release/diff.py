"""`budwood release diff`: what differs between two releases."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import for_terminal, print_indented, print_json, print_next, print_table
from budwood.cli.release.show import RefArgument
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.release.diff import Change, Difference

LONGEST = 60
"""Characters of a value that are shown."""
_TITLES = {
    "base": "Base",
    "answers": "Answers",
    "result": "Result",
    "adapter": "Adapter settings",
    "evidence": "Evidence",
    "scores": "Scores of the reports",
    "probes": "Golden probes",
    "text": "Names and notes",
}


def register(app: typer.Typer) -> None:
    @app.command(
        name="diff",
        short_help="Compare two releases.",
        epilog="Example: budwood release diff support@production support@4",
    )
    def diff(
        before: RefArgument,
        after: Annotated[str, typer.Argument(help="another release")],
        modules: Annotated[int, typer.Option("--modules", min=0, help="modules to list, those that differ most first")] = 8,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Say what differs: base, template, decoding, adapter and its weights by module, data, scores, verdict, probes."""
        from budwood.release.diff import diff as compare
        from budwood.release.lineage import find_object

        opened = open_here(store)
        found = compare(opened, find_object(opened, before), find_object(opened, after))
        if as_json:
            print_json(found.as_dict())
            return
        _print(found, modules)
        print_next(f"budwood release show {after}{on_store(store)}")


def _print(found: "Difference", modules: int) -> None:
    typer.echo(f"Release {short(found.before)} → {short(found.after)}")
    if found.before == found.after:
        typer.echo("They are one and the same.")
        return
    if found.same_answers:
        typer.echo("They answer alike: base, template, system message, decoding and result are the same.")
    for group, title in _TITLES.items():
        changes = [change for change in found.changes if change.group == group]
        if changes:
            typer.echo(f"\n{title}")
            for change in changes:
                print_indented(for_terminal(_line(change)))
    if found.template:
        typer.echo("\nChat template")
        for line in found.template:
            typer.echo(for_terminal(f"  {line}"))
    if found.modules:
        _print_modules(found, modules)


def _print_modules(found: "Difference", count: int) -> None:
    changed = [module for module in found.modules or () if module.difference > 0]
    typer.echo(f"\nWeights: {len(changed)} of {len(found.modules or ())} modules differ (Frobenius norms of the delta)")
    rows = [(one.path, f"{one.before:.4g}", f"{one.after:.4g}", f"{one.difference:.4g}") for one in changed[:count]]
    if rows:
        print_table(("module", "before", "after", "apart"), rows)


def _line(change: "Change") -> str:
    return f"{change.what}: {_value(change.before)} → {_value(change.after)}"


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        if len(", ".join(map(str, value))) > LONGEST:
            return f"{len(value)} entries"
        return ", ".join(map(_value, value)) or "none"
    text = str(value)
    digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return short(text) if digest else text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
