"""`budwood data list`: the snapshots of the store."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import print_json, print_next, print_table
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
        from budwood.data.find import snapshots

        opened = open_here(store)
        found = snapshots(opened, name)
        if as_json:
            print_json([_as_dict(one) | {"uses": [use.as_dict() for use in one.uses(opened)]} for one in found])
            return
        if not found:
            typer.echo(f"No snapshots{f' of {name}' if name else ''} in {store} yet.")
            print_next(f"budwood prepare RECIPE.toml{on_store(store)}")
            return
        head = ("digest", "name", "made (UTC)", "kept", "rejected", "splits", "runs", "onto")
        print_table(head, [_row(one, sum(use.kind == "run" for use in one.uses(opened))) for one in found])
        here = [one for one in found if not one.removed]
        if here:
            newest = short(here[-1].digest)
            why = f"budwood data why FILE:LINE {newest}{on_store(store)}"
            diff = f"budwood data diff {short(here[-2].digest)} {newest}{on_store(store)}" if len(here) > 1 else ""
            print_next(*filter(None, [why, diff]))


def _row(one: "Listed", runs: int) -> tuple[str, ...]:
    at = one.at[:16].replace("T", " ")
    if one.removed:
        return (short(one.digest), "(removed)", at, "", "", "", "", one.removed)
    counts = one.body["counts"]
    splits = " / ".join(f"{counts[split]:,}" for split in ("train", "validation", "test"))
    onto = short(one.body["onto"])[:8] if one.body["onto"] else ""
    return (short(one.digest), one.name, at, f"{counts['kept']:,}", f"{counts['rejected']:,}", splits, str(runs), onto)


def _as_dict(one: "Listed") -> dict[str, Any]:
    return {
        "digest": one.digest,
        "name": one.name,
        "at": one.at,
        "removed": one.removed,
        "counts": one.body.get("counts", {}),
        "onto": one.body.get("onto", ""),
    }
