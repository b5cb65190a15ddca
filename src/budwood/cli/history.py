"""`budwood history`: who moved what, when and why; and what was live at a moment."""

from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.moment import read_moment, show_moment
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, open_here
from budwood.cli.output import for_terminal, print_json, print_pairs, print_table
from budwood.errors import StoreError
from budwood.identity import short

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from budwood.identity import Digest
    from budwood.store import HistoryEvent, Store


def register(app: typer.Typer) -> None:
    @app.command(
        name="history",
        short_help="Print who moved what, when and why.",
        epilog='Example: budwood history support --at "2026-03-03 14:00 local"',
    )
    def history(
        name: Annotated[str, typer.Argument(help="name of the releases; default: all")] = "",
        at: Annotated[str, typer.Option("--at", help="say what was live then; UTC unless it says: +01:00, local, …")] = "",
        alias: Annotated[str, typer.Option("--alias", help="alias that --at asks about")] = "production",
        head: Annotated[bool, typer.Option("--head", help="print the last event's number and digest, to note")] = False,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Print the append-only history, or what an alias pointed to at a moment."""
        opened = open_here(store)
        if name:
            opened.check_known(name)
        if at:
            _print_live_at(opened, name, alias, read_moment(at), as_json=as_json)
            return
        if head:
            end = opened.head()
            print_json({"seq": end.seq, "digest": end.digest}) if as_json else typer.echo(str(end))
            return
        events = opened.history(name or None)
        if as_json:
            print_json([event.as_dict() for event in events])
            return
        rows = [(str(event.seq), event.at[:19], event.kind, event.who, _what(event), event.reason) for event in events]
        print_table(("#", "when (UTC)", "event", "who", "what", "why"), rows)


def _what(event: "HistoryEvent") -> str:
    target = f"{event.name or ''}{'@' + event.alias if event.alias else ''}" or _token(event)
    move = (
        f" {short(event.from_)} → {short(event.to)}"
        if event.from_ and event.to
        else f" → {short(event.to)}"
        if event.to
        else ""
    )
    return target + move + (" (override)" if event.override else "")


def _token(event: "HistoryEvent") -> str:
    """What an event about a token is about: its name and what it may, as `budwood token list` has them."""
    if "token" not in event.detail:
        return ""
    words = [f"token {event.detail['token']}", f"({event.detail['prefix']}…)", ", ".join(event.detail.get("scopes", ()))]
    return for_terminal(" ".join(words).rstrip())


def _print_live_at(store: "Store", name: str, alias: str, moment: "datetime", *, as_json: bool) -> None:
    from budwood.release.past import live_on

    if not name:
        raise StoreError("--at needs the name of the releases.", mend="Write `budwood history NAME --at MOMENT`.")
    past = live_on(store, name, alias, moment)
    if as_json:
        print_json(past.as_dict())
        return
    typer.echo(f"{name}@{alias} at {show_moment(moment)}:")
    move, numbers = past.move, {row.digest: row.version for row in store.releases(name)}
    if move is None:
        typer.echo("  The alias pointed to nothing yet.")
    else:
        override = ", override" if move.override else ""
        lines = [
            ("desired", _release(name, past.digest, numbers)),
            ("since", show_moment(read_moment(move.at))),
            (move.kind.replace("_", " "), f"by {move.who}" + (f": {move.reason}" if move.reason else "")),
            ("verdict", past.verdict + override),
        ]
        if past.approved_by:
            lines.append(("approved", f"by {', '.join(past.approved_by)}"))
        print_pairs([*lines, ("event", str(move.seq))])
    for server, digest in past.served.items():
        typer.echo(f"  server {server} answered from {_release(name, digest, numbers)}")
    if not past.served:
        typer.echo("  No server had acknowledged a release.")


def _release(name: str, digest: "Digest | None", numbers: "Mapping[Digest, int]") -> str:
    if digest is None:
        return "nothing"
    return f"{name}@{numbers[digest]} ({short(digest)})" if digest in numbers else short(digest)
