"""`budwood approve` and `budwood approvals`: four eyes on what goes live."""

from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, ReasonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import print_json, print_next, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from budwood.release.approvals import Standing
    from budwood.store import HistoryEvent

AliasOption = Annotated[str, typer.Option("--alias", help="alias that is to move")]


def register(app: typer.Typer) -> None:
    _register_approve(app)
    _register_approvals(app)


def _register_approve(app: typer.Typer) -> None:
    @app.command(
        name="approve",
        short_help="Approve that a release takes the place of what is live.",
        epilog='Example: budwood approve support@3 --reason "read the report and ten answers"',
    )
    def approve(
        release: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@DIGEST", show_default=False)],
        alias: AliasOption = "production",
        withdraw: Annotated[bool, typer.Option("--withdraw", help="take an approval back")] = False,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Approve a release for the place of what the alias points to now; the approval ends when the alias moves."""
        from budwood.release.approvals import approve as give

        opened = open_here(store)
        found = give(opened, release, alias, who=acting(who), reason=reason, withdraw=withdraw)
        row = opened.find_release(release)
        if as_json:
            print_json({"name": row.name, "version": row.version, "digest": row.digest, "alias": alias, **_values(found)})
            return
        done = "no longer approved" if withdraw else "approved"
        if found.rule.approvals:
            typer.echo(f"{row.name}@{row.version} {done} for {row.name}@{alias}: {found.line()}.")
        else:
            typer.echo(f"{row.name}@{row.version} {done} for {row.name}@{alias}, which asks for no approvals.")
        option = "" if alias == "production" else f" --alias {alias}"
        if found.lacking == 0:
            print_next(f"budwood promote {row.name}@{row.version}{option}{on_store(store)}")


def _register_approvals(app: typer.Typer) -> None:
    @app.command(
        name="approvals",
        short_help="Show or set how many people must approve before an alias moves.",
        epilog='Example: budwood approvals support --require 2 --reason "customers read it"',
    )
    def approvals(
        name: Annotated[str, typer.Argument(help="name of the releases", show_default=False)],
        alias: AliasOption = "production",
        require: Annotated[
            int | None, typer.Option("--require", min=0, max=16, help="so many people", show_default="as it is")
        ] = None,
        own: Annotated[bool, typer.Option("--own", help="count whoever made the release or moves the alias, too")] = False,
        override: Annotated[str, typer.Option("--override", help="make the rule weaker, for this reason")] = "",
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Show how many people must approve before an alias moves, and who has approved what; or set how many."""
        from budwood.release.approvals import pending, rule_of, set_rule

        opened = open_here(store)
        opened.check_known(name)
        if require is not None:
            words = override or None
            set_rule(opened, name, alias, approvals=require, own=own, who=acting(who), reason=reason, override=words)
        rule = rule_of(opened.history(name), name, alias)
        found = pending(opened, name, alias)
        if as_json:
            waiting = [{"version": version, **_values(one)} for version, one in found.items()]
            print_json({"name": name, "alias": alias, "asks": rule.approvals, "own": rule.own, "approved": waiting})
            return
        since = f", since event {rule.seq}" if rule.seq else ""
        typer.echo(f"{name}@{alias} asks for {rule}{since}.")
        if found:
            rows = [(f"{name}@{version}", event.at[:19], event.who, event.reason) for version, event in _given(found)]
            print_table(("release", "when (UTC)", "approved by", "why"), rows)


def _given(found: "Mapping[int, Standing]") -> "Iterator[tuple[int, HistoryEvent]]":
    for version, one in found.items():
        for event in (*one.counted, *one.own):
            yield version, event


def _values(found: "Standing") -> dict[str, object]:
    return {
        "asked": found.rule.approvals,
        "by": [event.who for event in found.counted],
        "not_counted": [event.who for event in found.own],
        "lacking": found.lacking,
    }
