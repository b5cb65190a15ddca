"""`budwood data list`: the snapshots of the store."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import for_terminal, print_json, print_next
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.data.find import Listed


def register(app: typer.Typer) -> None:
    @app.command(name="list", short_help="List the snapshots.", epilog="Example: budwood data list support")
    def list_snapshots(
        name: Annotated[str, typer.Argument(help="name of the snapshots; default: all")] = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """List snapshots, oldest first: rows kept and rejected, what they were built on, what was trained on them."""
        from budwood.data.find import check_name, snapshots

        opened = open_here(store)
        if name:
            check_name(opened, name)
        found = snapshots(opened, name)
        if as_json:
            listed = [_as_dict(one) | {"uses": [use.as_dict() for use in one.uses(opened)]} for one in found]
            print_json({"snapshots": listed})
            return
        if not found:
            typer.echo(f"No snapshots in {store} yet.")
            print_next(f"budwood prepare RECIPE.toml{on_store(store)}")
            return
        width = max(len(one.name) for one in found)
        for one in found:
            runs = sum(use.kind == "run" for use in one.uses(opened))
            for line in _lines(one, runs, width):
                typer.echo(for_terminal(line))
        here = [one for one in found if not one.removed]
        if here:
            newest = short(here[-1].digest)
            why = f"budwood data why FILE:LINE {newest}{on_store(store)}"
            diff = f"budwood data diff {short(here[-2].digest)} {newest}{on_store(store)}" if len(here) > 1 else ""
            print_next(*filter(None, [why, diff]))


def _lines(one: "Listed", runs: int, width: int) -> Iterator[str]:
    yield f"  {short(one.digest)}  {one.name:<{width}}  {one.at[:16].replace('T', ' ')}  " + _runs(one, runs)
    if one.removed:
        return
    counts = one.body["counts"]
    splits = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test"))
    forgotten = f", {counts['forgotten']:,} forgotten" if counts.get("forgotten") else ""
    yield f"{'':16}{counts['kept']:,} kept: {splits}; {counts['rejected']:,} rejected{forgotten}"
    if one.selection:
        yield f"{'':16}selected from {short(one.selection['parent'])}: top {one.selection['top']} by {one.selection['by']}"
    if one.body["onto"]:
        yield f"{'':16}built on {short(one.body['onto'])}"


def _runs(one: "Listed", runs: int) -> str:
    if one.removed:
        return f"removed: {one.removed}"
    return f"{runs:,} run{'s' if runs != 1 else ''}" if runs else "not trained on"


def _as_dict(one: "Listed") -> dict[str, Any]:
    return {
        "digest": one.digest,
        "name": one.name,
        "at": one.at,
        "removed": one.removed,
        "counts": one.body.get("counts", {}),
        "onto": one.body.get("onto", ""),
        "selected_from": one.selection.get("parent", ""),
    }
