"""`budwood history`: who moved what, when and why; and what was live at a moment."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import print_json, print_table
from budwood.errors import StoreError
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.store import HistoryEvent, Store


def register(app: typer.Typer) -> None:
    @app.command(
        name="history",
        short_help="Print who moved what, when and why.",
        epilog='Example: budwood history support --at "2026-03-03 14:00"',
    )
    def history(
        name: Annotated[str, typer.Argument(help="name of the releases; default: all")] = "",
        at: Annotated[str, typer.Option("--at", help="say what was live then (UTC unless it has an offset)")] = "",
        alias: Annotated[str, typer.Option("--alias", help="alias that --at asks about")] = "production",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Print the append-only history, or what an alias pointed to at a moment."""
        opened = open_here(store)
        if name:
            opened.check_known(name)
        if at:
            _print_live_at(opened, name, alias, _moment(at), as_json=as_json)
            return
        events = opened.history(name or None)
        if as_json:
            print_json([event.as_dict() for event in events])
            return
        rows = [(str(event.seq), event.at[:19], event.kind, event.who, _what(event), event.reason) for event in events]
        print_table(("#", "when (UTC)", "event", "who", "what", "why"), rows)


def _what(event: "HistoryEvent") -> str:
    target = f"{event.name or ''}{'@' + event.alias if event.alias else ''}"
    move = (
        f" {short(event.from_)} → {short(event.to)}"
        if event.from_ and event.to
        else f" → {short(event.to)}"
        if event.to
        else ""
    )
    return target + move + (" (override)" if event.override else "")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise StoreError(f"{text!r} is no moment.", where="--at", mend='Write it as "2026-03-03 14:00".') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print_live_at(store: "Store", name: str, alias: str, moment: datetime, *, as_json: bool) -> None:
    if not name:
        raise StoreError("--at needs the name of the releases.", mend="Write `budwood history NAME --at MOMENT`.")
    desired = store.live_at(name, alias, moment)
    served = store.served_at(name, alias, moment)
    if as_json:
        print_json({"name": name, "alias": alias, "at": moment.isoformat(), "desired": desired, "served": served})
        return
    typer.echo(f"{name}@{alias} at {moment.isoformat()}: {short(desired) if desired else 'nothing'}")
    for server, digest in served.items():
        typer.echo(f"  server {server} answered from {short(digest)}")
