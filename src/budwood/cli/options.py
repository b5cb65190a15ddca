"""Options and arguments that several commands share, and what they open."""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from budwood.store import Store

RecipeArgument = Annotated[Path, typer.Argument(help="the recipe, a .toml file", show_default=False)]
StoreOption = Annotated[Path, typer.Option("--store", envvar="BUDWOOD_STORE", help="folder of the store; made on first use")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object instead of sentences")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; kept in the history")]
WaitOption = Annotated[
    float, typer.Option("--wait", help="seconds to wait until every server has followed; exit code 1 if not all have")
]
WhoOption = Annotated[str, typer.Option("--who", help="who acts; kept in the history", show_default="the login name")]

DEFAULT_STORE = Path(".budwood")


def open_here(store: Path) -> "Store":
    """Open the store that a command works on."""
    from budwood.store import open_store

    return open_store(store)


def acting(who: str) -> str:
    """Name the person for the history: as given, else the login name, else the numeric user."""
    if who:
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
