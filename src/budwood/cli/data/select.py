"""`budwood data select`: the best train rows by a score, as a snapshot of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.data.scoring import (
    BaseOption,
    ByOption,
    Form,
    PrecisionOption,
    QuantizationOption,
    SeedOption,
    TargetArgument,
    print_notes,
    print_scores,
    target_of,
)
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store
from budwood.cli.output import print_json, print_next, print_pairs, print_table
from budwood.cli.stage import job_of
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.data.select import Selected
    from budwood.pipeline.selecting import Arms


def register(app: typer.Typer) -> None:
    @app.command(
        name="select",
        short_help="Make a snapshot of the best train rows by a score.",
        epilog="Example: budwood data select support.toml --top 20% --by ifd --compare-random",
    )
    def select(
        target: TargetArgument,
        top: Annotated[str, typer.Option("--top", help="how many train rows: 20% or 500", show_default=False)],
        by: ByOption = "ifd",
        base: BaseOption = "",
        quantization: QuantizationOption = "none",
        precision: PrecisionOption = "float32",
        without_mismatched: Annotated[
            bool, typer.Option("--without-mismatched", help="leave out rows whose IFD is 1 or more, whatever their rank")
        ] = False,
        compare_random: Annotated[
            bool, typer.Option("--compare-random", help="make a snapshot of as many random rows as well")
        ] = False,
        seed: SeedOption = 0,
        train: Annotated[
            Path | None,
            typer.Option(
                "--train",
                help="with --compare-random: train on all rows, the chosen and the random ones by this recipe, and compare",
                show_default=False,
            ),
        ] = None,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Make a snapshot whose train rows are the best by a score. Validation and test stay as they are.

        The rows that are not chosen are in its rejected.jsonl, with score and rank. A selection is worth what it gains over
        as many random rows: --compare-random makes those too, and --train finds out.
        """
        from budwood.data.scores import score
        from budwood.data.select import parse_top
        from budwood.data.select import select as run_select

        wanted = parse_top(top)
        if train is not None and not compare_random:
            raise typer.BadParameter("needs --compare-random: a selection is compared with random rows.", param_hint="--train")
        if by == "random" and compare_random:
            raise typer.BadParameter("the selection is random already.", param_hint="--compare-random")
        if without_mismatched and by != "ifd":
            raise typer.BadParameter(f"rows have an IFD with --by ifd, not {by}.", param_hint="--without-mismatched")
        form = Form(base, quantization, precision)
        form.check(by)
        with target_of(target, store) as found:
            judge = found.judge(by, form)
            scored = score(found.store, found.snapshot, by=by, judge=judge, seed=seed, report=found.report)
            made = {"selected": run_select(found.store, found.snapshot, scored, wanted, without_mismatched=without_mismatched)}
            if compare_random:
                drawn = score(found.store, found.snapshot, by="random", seed=seed, report=found.report)
                made["random"] = run_select(found.store, found.snapshot, drawn, parse_top(str(made["selected"].kept)))
        arms = None if train is None else _train(train, store, found.snapshot, made)
        if as_json:
            snapshots = {name: one.as_dict() for name, one in made.items()}
            print_json({"parent": found.snapshot, **snapshots, "arms": arms.as_dict() if arms else None})
            return
        _print(found.snapshot, made, by)
        print_notes(scored)
        if arms is not None:
            _print_arms(arms)
        else:
            _print_next(target if found.job else "RECIPE.toml", store, made)


def _train(recipe: Path, store: Path, parent: Digest, made: "dict[str, Selected]") -> "Arms":
    from budwood.pipeline.selecting import train_arms

    with job_of(recipe, store, snapshot=parent) as job:
        return train_arms(job, {"full": parent, **{name: one.digest for name, one in made.items()}})


def _print(parent: Digest, made: "dict[str, Selected]", by: str) -> None:
    chosen = made["selected"]
    print_pairs(
        [
            ("from", short(parent)),
            *((name, f"{short(one.digest)}, {one.kept:,} of {one.of:,} train rows") for name, one in made.items()),
        ]
    )
    typer.echo(f"\nBy {by}:")
    print_scores({"all": chosen.body["scores"], "chosen": chosen.body["scores_kept"]})


def _print_arms(arms: "Arms") -> None:
    typer.echo(f"\nOn {arms.validation_rows:,} validation rows, nats per supervised token:")
    print_table(
        ("trained on", "rows", "steps", "tokens learnt", "loss", "run"),
        [
            (arm.name, f"{arm.rows:,}", f"{arm.steps:,}", f"{arm.tokens:,}", f"{arm.loss:.4f}", short(arm.run))
            for arm in arms.arms
        ],
    )
    for one in arms.differences:
        typer.echo(
            f"{one.arm} - {one.against}: {one.delta.mean:+.4f}, interval {one.delta.low:+.4f} to {one.delta.high:+.4f}: "
            f"{one.verdict}."
        )


def _print_next(recipe: str, store: Path, made: "dict[str, Selected]") -> None:
    print_next(*(f"budwood train {recipe} --snapshot {short(one.digest)}{on_store(store)}" for one in made.values()))
