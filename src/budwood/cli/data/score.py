"""`budwood data score`: what a score says of a snapshot's train rows."""

import json
import shlex
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
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, check_out, on_store
from budwood.cli.output import for_terminal, print_json, print_next, print_table
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.data.scores import Scored

LISTED = 3
"""Rows of either end that are listed."""


def register(app: typer.Typer) -> None:
    @app.command(
        name="score",
        short_help="Score train rows: difficulty, length, diversity, novelty.",
        epilog="Example: budwood data score support.toml --by ifd --base seedling",
    )
    def score(
        target: TargetArgument,
        by: ByOption = "ifd",
        base: BaseOption = "",
        quantization: QuantizationOption = "none",
        precision: PrecisionOption = "float32",
        seed: SeedOption = 0,
        out: Annotated[
            Path | None, typer.Option("--out", help="write every row's score and rank to this .jsonl", show_default=False)
        ] = None,
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Score the train rows of a snapshot and show how the scores are spread. Nothing is changed or left out.

        IFD asks a base; what it said is kept in the store, so that an interrupted or repeated run pays for new rows only.
        """
        from budwood.data.scores import score as run_score

        check_out(out)
        form = Form(base, quantization, precision)
        form.check(by)
        with target_of(target, store) as found:
            judge = found.judge(by, form)
            scored = run_score(found.store, found.snapshot, by=by, judge=judge, seed=seed, report=found.report)
        if out is not None:
            _write(out, scored)
        if as_json:
            print_json({"snapshot": found.snapshot, **_as_dict(scored)})
            return
        typer.echo(f"{len(scored.order):,} train rows of snapshot {short(found.snapshot)} by {by}:\n")
        print_scores({"all": scored.quantiles()})
        typer.echo("")
        _print_ends(scored)
        print_notes(scored)
        target = shlex.quote(target)
        again, where = f"--by {by}{form.again()}", on_store(store)
        print_next(
            f"budwood data select {target} --top 20% {again} --compare-random{where}",
            *([] if out else [f"budwood data score {target} {again} --out scores.jsonl{where}"]),
        )


def _as_dict(scored: "Scored") -> dict[str, object]:
    return {
        "by": scored.by,
        "rows": len(scored.places),
        "scored": len(scored.order),
        "scores": scored.quantiles(),
        "mismatched": scored.mismatched,
        "unscored": scored.why_unscored,
        "settings": dict(scored.settings),
    }


def _print_ends(scored: "Scored") -> None:
    """List the rows at either end by where they stand; what they say stays where it is."""
    from budwood.data.scores.scored import rounded

    ranked = list(enumerate(scored.order.tolist(), start=1))
    shown = ranked if len(ranked) <= 2 * LISTED else [*ranked[:LISTED], *ranked[-LISTED:]]
    rows = []
    for rank, row in shown:
        place = scored.places[row]
        rows.append(
            (f"{rank:,}", f"{rounded(scored.values[row]):.4g}", place.row_id[:12], for_terminal(f"{place.file}:{place.line}"))
        )
    print_table(("rank", "score", "row", "source"), rows)


def _write(path: Path, scored: "Scored") -> None:
    ranks = {row: rank for rank, row in enumerate(scored.order.tolist(), start=1)}
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row, place in enumerate(scored.places):
            why = scored.unscored.get(row)
            said = {"rank": ranks.get(row), "score": None if why else float(scored.values[row])} | ({"why": why} if why else {})
            line = {"row_id": place.row_id, "file": place.file, "line": place.line, **said}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
