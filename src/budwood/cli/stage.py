"""How every stage command opens its job: recipe, store, progress."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.cli.display import display
from budwood.cli.options import acting, open_here

if TYPE_CHECKING:
    from budwood.pipeline import Job


@contextmanager
def job_of(
    recipe: Path,
    store: Path,
    *,
    who: str = "",
    reason: str = "",
    with_data: bool = True,
    track: Sequence[str] = (),
    processes: int = 1,
    run: str = "",
    snapshot: str = "",
) -> Iterator["Job"]:
    """Read the recipe and look at its sources first, so that a mistake touches nothing; then open the store, draw progress.

    `with_data`: whether the stage needs the sources; with a snapshot given, none does.
    """
    from budwood.pipeline import Job, check_sources
    from budwood.recipe import load_recipe

    checked = load_recipe(recipe)
    if with_data and not snapshot:
        check_sources(checked)
    with display() as report:
        yield Job(
            recipe=checked,
            store=open_here(store, create=True),
            report=report,
            who=acting(who),
            reason=reason,
            trackers=tuple(track),
            processes=processes,
            run=run,
            snapshot=snapshot,
        )
