"""How every stage command opens its job: recipe, store, progress."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.cli.display import display
from budwood.cli.options import acting, open_here

if TYPE_CHECKING:
    from budwood.pipeline import Job


@contextmanager
def job_of(recipe: Path, store: Path, *, who: str = "", reason: str = "") -> Iterator["Job"]:
    """Read the recipe first, so that a mistake in it touches nothing; then open the store and draw progress."""
    from budwood.pipeline import Job
    from budwood.recipe import load_recipe

    checked = load_recipe(recipe)
    with display() as report:
        yield Job(recipe=checked, store=open_here(store), report=report, who=acting(who), reason=reason)
