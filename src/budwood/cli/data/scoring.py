"""What `budwood data score` and `budwood data select` share: whose rows, which base reads them, how scores are shown."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from budwood.cli.display import display
from budwood.cli.options import open_here
from budwood.cli.output import print_table
from budwood.cli.stage import job_of
from budwood.identity import Digest

if TYPE_CHECKING:
    from budwood.data.scores import Judge, Score, Scored
    from budwood.events import Reporter
    from budwood.pipeline import Job
    from budwood.store import Store

By = Literal["ifd", "length", "diversity", "novelty", "random"]
TargetArgument = Annotated[
    str, typer.Argument(metavar="RECIPE|SNAPSHOT", help="a recipe, or a snapshot: its name or first digits", show_default=False)
]
ByOption = Annotated[
    By,
    typer.Option(
        "--by",
        help="ifd: how little the prompt helps a base to say the answer; length: of the answer; diversity: what a row adds to "
        "those before it; novelty: how unlike earlier rows it is; random",
    ),
]
BaseOption = Annotated[str, typer.Option("--base", help="base that ifd asks", show_default="the recipe's")]
QuantizationOption = Annotated[
    Literal["none", "nf4", "int8"], typer.Option("--quantization", help="form in which that base is loaded")
]
PrecisionOption = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option("--precision", help="that base computes in; bfloat16 is faster and ranks rows nearly the same"),
]
SeedOption = Annotated[int, typer.Option("--seed", help="of the random order")]


@dataclass(frozen=True)
class Form:
    """How the base that ifd asks is loaded; an empty `base` is the recipe's."""

    base: str
    quantization: str
    precision: str

    def again(self) -> str:
        """The options again, for a command that goes on from this one: another form would ask the base anew."""
        given = {"base": self.base, "quantization": self.quantization, "precision": self.precision}
        usual = {"base": "", "quantization": "none", "precision": "float32"}
        return "".join(f" --{name} {value}" for name, value in given.items() if value != usual[name])


@dataclass(frozen=True)
class Target:
    """Whose rows: a snapshot, and the job of the recipe if one was named."""

    store: "Store"
    snapshot: Digest
    report: "Reporter"
    job: "Job | None"

    def judge(self, by: "Score", form: Form) -> "Judge | None":
        """The base that ifd asks; None for the other scores, and where none is named."""
        if by != "ifd" or not (form.base or self.job):
            return None
        from budwood.data.scores import Judge
        from budwood.engine.device import best_device

        start = self.job.recipe.folder if self.job and not form.base else Path()
        id = form.base or (self.job.recipe.base.id if self.job else "")
        how = {"quantization": form.quantization, "precision": form.precision, "device": best_device()}
        return Judge.open(id, start=start, **how)


@contextmanager
def target_of(target: str, store: Path) -> Iterator[Target]:
    """Find the snapshot that is meant; a recipe's is prepared first if it has to be."""
    if target.endswith(".toml") or Path(target).is_file():
        from budwood import pipeline

        with job_of(Path(target), store) as job:
            yield Target(job.store, pipeline.prepare(job), job.report, job)
        return
    from budwood.data.find import find_snapshot

    opened = open_here(store)
    with display() as report:
        yield Target(opened, find_snapshot(opened, target), report, None)


def print_scores(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print distributions, a line each."""
    names = list(next(iter(rows.values())))
    print_table(("rows", *names), [(rows_of, *(f"{figures[name]:.4g}" for name in names)) for rows_of, figures in rows.items()])


def print_notes(scored: "Scored") -> None:
    """Print what the distribution does not show."""
    for why, count in scored.why_unscored.items():
        typer.echo(f"Not scored: {count:,} {'row' if count == 1 else 'rows'}: {why}.")
    if scored.mismatched:
        typer.echo(f"Mismatched: {scored.mismatched:,} rows have an IFD of 1 or more (the prompt does not help).")
