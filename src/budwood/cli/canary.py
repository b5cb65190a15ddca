"""`budwood canary`: try a release on a share of an alias's traffic, or on copies of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from budwood.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    ReasonOption,
    StoreOption,
    WaitOption,
    WhoOption,
    WithoutApprovalsOption,
    acting,
    on_store,
    open_here,
)
from budwood.cli.output import print_json, print_next
from budwood.cli.promote import moved_code, print_servers
from budwood.cli.trial import print_trial
from budwood.errors import ReleaseError
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.recipe import CanarySection
    from budwood.store.trials import Trial

NameArgument = Annotated[str, typer.Argument(help="name of the releases", show_default=False)]
AliasOption = Annotated[str, typer.Option("--alias", help="alias whose traffic it is")]
ShareOption = Annotated[str, typer.Option("--share", help="share of the traffic, e.g. 10% or 0.1", show_default=False)]
ShadowOption = Annotated[
    bool, typer.Option("--shadow", help="not a canary but a shadow: it answers copies, and no client sees its answers")
]
PolicyOption = Annotated[
    Path | None, typer.Option("--recipe", help="take the limits from [canary] of this recipe", show_default=False)
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="KEY=VALUE",
        help="a key of [canary], e.g. max_error_rate=0.05; may be given again",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Put the group and its commands into the tree."""
    group = typer.Typer(
        name="canary",
        help="Try a release on a share of an alias's traffic; it is taken back by itself when it breaks a limit.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for add in (_register_start, _register_set, _register_status, _register_promote, _register_end, _register_watch):
        add(group)
    app.add_typer(group)


def _register_start(group: typer.Typer) -> None:
    @group.command(
        name="start",
        short_help="Give a release a share of an alias's traffic.",
        epilog="Example: budwood canary start support@4 --share 10% --limit max_error_rate=0.05",
    )
    def start(
        release: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@DIGEST", show_default=False)],
        share: ShareOption,
        alias: AliasOption = "production",
        shadow: ShadowOption = False,
        recipe: PolicyOption = None,
        limit: LimitOption = None,
        override: Annotated[str, typer.Option("--override", help="go against the verdict, for this reason")] = "",
        without_approvals: WithoutApprovalsOption = "",
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Give a release a share of an alias's traffic; the same senders stay with it as the share grows.

        A canary needs what a promotion needs: a verdict PROMOTE against what is live and the approvals that the alias asks
        for, or a reason to go without on record. Servers load it beside
        what is live and replay its golden probes first. Whose request goes where is decided by the header x-budwood-key, else
        by `user`, `safety_identifier` or the client's address.
        """
        from budwood.release.canary import start as begin

        trial = begin(
            open_here(store),
            release,
            alias,
            kind=_kind(shadow),
            share=parse_share(share),
            policy=_policy(recipe, limit),
            who=acting(who),
            reason=reason,
            override=override or None,
            without_approvals=without_approvals or None,
        )
        _print_trial(trial, as_json=as_json)
        if not as_json:
            print_next(
                f"budwood canary status {trial.name}{on_store(store)}",
                f"budwood canary set {trial.name} --share 50%{_options(trial, store)}",
                f"budwood canary end {trial.name}{_options(trial, store)}",
            )


def _register_set(group: typer.Typer) -> None:
    @group.command(
        name="set",
        short_help="Change the share of a canary or shadow.",
        epilog="Example: budwood canary set support --share 50%",
    )
    def set_share(
        name: NameArgument,
        share: ShareOption,
        alias: AliasOption = "production",
        shadow: ShadowOption = False,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Change the share; with a larger one, senders that are with the canary stay with it."""
        from budwood.release.canary import change

        trial = change(open_here(store), name, alias, _kind(shadow), share=parse_share(share), who=acting(who), reason=reason)
        _print_trial(trial, as_json=as_json)
        if not as_json:
            print_next(f"budwood canary status {trial.name}{on_store(store)}")


def _register_status(group: typer.Typer) -> None:
    @group.command(
        name="status", short_help="Show trials, what was counted, and what it says.", epilog="Example: budwood canary status"
    )
    def status(
        name: Annotated[str, typer.Argument(help="name of the releases; default: all")] = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Show canaries, shadows and watched promotions: which servers have them, and how they stand against their limits."""
        from budwood.release.canary import statuses

        opened = open_here(store)
        if name:
            opened.check_known(name)
        found = statuses(opened, name or None)
        if as_json:
            print_json([one.as_dict() for one in found])
            return
        if not found:
            typer.echo("No release is on trial.")
            print_next(f"budwood canary start {name or 'NAME'}@NUMBER --share 10%{on_store(store)}")
            return
        for one in found:
            print_trial(one, full=True)


def _register_promote(group: typer.Typer) -> None:
    @group.command(
        name="promote",
        short_help="Make the canary the alias, and watch it.",
        epilog="Example: budwood canary promote support --wait 30",
    )
    def promote(
        name: NameArgument,
        alias: AliasOption = "production",
        override: Annotated[str, typer.Option("--override", help="go against the verdict, for this reason")] = "",
        without_approvals: WithoutApprovalsOption = "",
        wait: WaitOption = 0.0,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Point the alias at the canary, and watch it for `watch_s` of its policy: breaking it, it is rolled back."""
        from budwood.release.canary import promote_canary

        moved = promote_canary(
            open_here(store),
            name,
            alias,
            who=acting(who),
            reason=reason,
            override=override or None,
            without_approvals=without_approvals or None,
            wait_s=wait,
        )
        if as_json:
            print_json(moved.as_dict())
            raise typer.Exit(moved_code(moved))
        typer.echo(f"{moved.name}@{moved.alias} now points to version {moved.version} ({short(moved.digest)}), its canary.")
        print_servers(moved)
        print_next(
            f"budwood canary status {name}{on_store(store)}", f"budwood rollback {name} --alias {alias}{on_store(store)}"
        )
        raise typer.Exit(moved_code(moved))


def _register_end(group: typer.Typer) -> None:
    @group.command(
        name="end",
        short_help="End a canary or shadow; all traffic is the alias's again.",
        epilog='Example: budwood canary end support --reason "answers too long"',
    )
    def end(
        name: NameArgument,
        alias: AliasOption = "production",
        shadow: ShadowOption = False,
        watch: Annotated[bool, typer.Option("--watch", help="end the watch after a promotion")] = False,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """End a trial. Requests in flight finish on the release on which they began."""
        from budwood.release.canary import end as stop

        kind = "watch" if watch else _kind(shadow)
        trial = stop(open_here(store), name, alias, kind, who=acting(who), reason=reason)
        if as_json:
            print_json(_values(trial))
            return
        typer.echo(f"The {trial.kind} of {name}@{alias}, version {trial.version} ({short(trial.digest)}), has ended.")
        print_next(f"budwood history {name}{on_store(store)}")


def _register_watch(group: typer.Typer) -> None:
    @group.command(
        name="watch",
        short_help="Take the last promotion back should it break a limit.",
        epilog="Example: budwood canary watch support --for 1800 --limit max_error_rate=0.05",
    )
    def watch(
        name: NameArgument,
        lasts_s: Annotated[float, typer.Option("--for", min=1, help="seconds; default: watch_s of [canary]")] = 0.0,
        alias: AliasOption = "production",
        recipe: PolicyOption = None,
        limit: LimitOption = None,
        store: StoreOption = DEFAULT_STORE,
        who: WhoOption = "",
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Watch what an alias points to; it goes back to the release before when counts leave no doubt of a broken limit.

        Nothing else answers at that time, so comparisons with the stable side stay open: give absolute limits.
        """
        from budwood.release.canary import watch as begin

        policy = _policy(recipe, limit)
        trial = begin(
            open_here(store), name, alias, lasts_s=lasts_s or policy.watch_s, policy=policy, who=acting(who), reason=reason
        )
        _print_trial(trial, as_json=as_json)
        if not as_json:
            print_next(f"budwood canary status {trial.name}{on_store(store)}")


def parse_share(text: str) -> float:
    """Read "10%" or "0.1".

    Raises:
        ReleaseError: it is neither, or not above 0 and at most 1.
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ReleaseError(f"{text!r} is no share of traffic.", where="--share", mend="Write it as 10% or 0.1, at most 100%.")
    return share


def _policy(recipe: Path | None, limits: list[str] | None) -> "CanarySection":
    from pydantic import ValidationError

    from budwood.recipe import CanarySection, load_recipe

    policy = load_recipe(recipe).canary if recipe else CanarySection()
    given: dict[str, Any] = {}
    for limit in limits or []:
        key, sign, value = limit.partition("=")
        if not sign or key.strip() not in CanarySection.model_fields:
            known = ", ".join(CanarySection.model_fields)
            raise ReleaseError(f"{limit!r} is no limit.", where="--limit", mend=f"Write KEY=VALUE; keys: {known}.")
        try:
            whole = CanarySection.model_fields[key.strip()].annotation is int
            given[key.strip()] = int(value) if whole else float(value)
        except ValueError:
            raise ReleaseError(f"{value!r} is no number.", where=f"--limit {key}", mend="Write it as 0.05.") from None
    try:
        return CanarySection.model_validate({**policy.model_dump(), **given})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ReleaseError(
            f"{fault['input']!r} is no value of {fault['loc'][0]}: {fault['msg']}.", where="--limit", mend="Correct it."
        ) from None


def _kind(shadow: bool) -> Literal["canary", "shadow"]:
    return "shadow" if shadow else "canary"


def _options(trial: "Trial", store: Path) -> str:
    alias = "" if trial.alias == "production" else f" --alias {trial.alias}"
    return f"{alias}{' --shadow' if trial.kind == 'shadow' else ''}{on_store(store)}"


def _values(trial: "Trial") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(trial)


def _print_trial(trial: "Trial", *, as_json: bool) -> None:
    if as_json:
        print_json(_values(trial))
        return
    title = f"version {trial.version} ({short(trial.digest)})"
    if trial.kind == "watch":
        typer.echo(f"{trial.name}@{trial.alias} is watched at {title} until {trial.until[:19]} UTC.")
    else:
        what = "copies of " if trial.kind == "shadow" else ""
        typer.echo(f"The {trial.kind} of {trial.name}@{trial.alias} is {title}: {what}{100 * trial.share:.4g}% of the traffic.")
