"""`budwood token`: who may ask a server for what."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import for_terminal, print_json, print_next, print_table
from budwood.errors import ServeError

if TYPE_CHECKING:
    from budwood.store import TokenRow

_SPAN = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
LONGEST = timedelta(days=5 * 365)


def register(app: typer.Typer) -> None:
    """Put the group and its commands into the tree."""
    group = typer.Typer(
        name="token",
        help="Make, list and revoke the tokens that servers ask for.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (_register_create, _register_list, _register_revoke, _register_calls):
        command(group)
    app.add_typer(group)


def _register_create(app: typer.Typer) -> None:
    @app.command(
        name="create",
        short_help="Make a token; it is shown once.",
        epilog="Example: budwood token create --name ci --scope inference --expires 30d --models support",
    )
    def create(
        name: Annotated[str, typer.Option("--name", help="who or what will use it", show_default=False)],
        scope: Annotated[str, typer.Option("--scope", help="inference, metrics, admin; several with commas")] = "inference",
        expires: Annotated[str, typer.Option("--expires", help="how long it counts: 12h, 30d, 8w")] = "90d",
        models: Annotated[str, typer.Option("--models", help="release names it may ask, with commas; default: all")] = "",
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Make an access token. It is shown once and stored nowhere: the store keeps its sha256."""
        from budwood.serve.access.secret import digest_of, new_secret, prefix_of

        scopes = _scopes(scope)
        until = datetime.now(UTC) + _span(expires)
        opened = open_here(store)
        names = _words(models)
        for model in names:
            opened.check_known(model)
        secret = new_secret()
        row = opened.access.add(
            name,
            prefix=prefix_of(secret) or "",
            digest=digest_of(secret),
            scopes=scopes,
            models=names,
            expires_at=until,
            who=acting(who),
        )
        if as_json:
            print_json({**_as_dict(row), "token": secret})
            return
        typer.echo(secret)
        typer.echo(
            f"\nThis is the only time that it is shown. It may {_may(row)}, until {row.expires_at[:16].replace('T', ' ')} UTC."
        )
        typer.echo("Clients send it as `Authorization: Bearer …`; `budwood ask` takes it from BUDWOOD_TOKEN.")
        print_next(f"budwood token list{on_store(store)}", f"budwood token revoke {row.name}{on_store(store)}")


def _register_list(app: typer.Typer) -> None:
    @app.command(name="list", short_help="List the tokens.", epilog="Example: budwood token list")
    def list_tokens(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
        """List every token that was made, with what it may do and whether it still counts."""
        rows = open_here(store).access.rows()
        if as_json:
            print_json([_as_dict(row) for row in rows])
            return
        if not rows:
            typer.echo("No tokens yet: servers on loopback ask for none, and others do not start.")
            print_next(f"budwood token create --name NAME{on_store(store)}")
            return
        cells = [
            (row.name, row.prefix, _state(row), row.expires_at[:10], " ".join(row.scopes), " ".join(row.models) or "all")
            for row in rows
        ]
        print_table(("name", "begins with", "state", "expires", "may", "models"), cells)


def _register_revoke(app: typer.Typer) -> None:
    @app.command(
        name="revoke", short_help="Refuse a token from now on.", epilog='Example: budwood token revoke ci --reason "leaked"'
    )
    def revoke(
        name: Annotated[str, typer.Argument(help="name of the token", show_default=False)],
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Refuse a token from now on; running servers know it within a second or two."""
        row = open_here(store).access.revoke(name, who=acting(who), reason=reason)
        if as_json:
            print_json(_as_dict(row))
            return
        typer.echo(f"The token {row.name} ({row.prefix}) is revoked; servers refuse it within two seconds.")
        print_next(f"budwood token list{on_store(store)}")


def _register_calls(app: typer.Typer) -> None:
    @app.command(
        name="calls", short_help="Print who called a server's admin API.", epilog="Example: budwood token calls --last 20"
    )
    def calls(
        last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="how many, newest first")] = 50,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Print the calls of servers' admin API: who by the token's name, what, when, and how it ended."""
        rows = open_here(store).access.calls(last)
        if as_json:
            print_json([dict(vars(row)) for row in rows])
            return
        if not rows:
            typer.echo("No calls yet: nobody has used a server's admin API on this store.")
            return
        cells = [
            (row.at[:19], row.token or "nobody", str(row.status or "begun"), for_terminal(f"{row.action} {row.detail}"))
            for row in rows
        ]
        print_table(("when (UTC)", "token", "status", "what"), cells)


def _scopes(text: str) -> list[str]:
    from budwood.serve.access.book import SCOPES

    words = _words(text)
    wrong = [word for word in words if word not in SCOPES]
    if wrong or not words:
        known = "; ".join(f"{word}: {meaning}" for word, meaning in SCOPES.items())
        raise ServeError(f"There is no scope {(wrong or [''])[0]!r}.", where="--scope", mend=f"There are {known}.")
    return words


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text)
    span = timedelta(hours=int(found[1]) * _HOURS[found[2]]) if found else None
    if span is None or span > LONGEST:
        raise ServeError(
            f"{text!r} is no time that a token may count.", where="--expires", mend="Write it as 12h, 30d or 8w; up to 1825d."
        )
    return span


def _state(row: "TokenRow") -> str:
    return row.state(datetime.now(UTC))


def _may(row: "TokenRow") -> str:
    from budwood.serve.access.book import SCOPES

    may = " and ".join(SCOPES[scope] for scope in row.scopes)
    return f"{may} (only {', '.join(row.models)})" if row.models else may


def _as_dict(row: "TokenRow") -> dict[str, Any]:
    values = {key: value for key, value in vars(row).items() if key != "digest"}
    return {**values, "scopes": list(row.scopes), "models": list(row.models), "state": _state(row)}
