"""Options and arguments that several commands share, and what they open."""

import getpass
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.errors import DataError, StoreError

if TYPE_CHECKING:
    from budwood.store import Store

RecipeArgument = Annotated[Path, typer.Argument(help="the recipe, a .toml file", show_default=False)]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="BUDWOOD_STORE", help="folder of the store; made by the first stage that runs")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object instead of sentences")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why; kept in the history")]
WaitOption = Annotated[
    float, typer.Option("--wait", help="seconds to wait until every server has followed; exit code 1 if not all have")
]
WithoutApprovalsOption = Annotated[
    str, typer.Option("--without-approvals", help="do without the approvals that the alias asks for, for this reason")
]
WhoOption = Annotated[str, typer.Option("--who", help="who acts; kept in the history", show_default="the login name")]

TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track", help="send figures on: tensorboard, wandb, mlflow or trackio; may be given again", show_default=False
    ),
]
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, help="how many processes train together, each on its share of every step")
]

RunOption = Annotated[
    str, typer.Option("--run", help="judge this run, e.g. of `budwood compose`, instead of training", show_default=False)
]

SnapshotOption = Annotated[
    str,
    typer.Option(
        "--snapshot", help="work on this snapshot, e.g. of `budwood data select`, instead of preparing", show_default=False
    ),
]

DEFAULT_STORE = Path(".budwood")


def on_snapshot(snapshot: str) -> str:
    """The option again, for a command that goes on from this one."""
    return f" --snapshot {snapshot}" if snapshot else ""


def open_here(store: Path, *, create: bool = False) -> "Store":
    """Open the store that a command works on; `create` makes it where there is none.

    Raises:
        StoreError: there is no store there, and the command would only read it; or something else is there.
    """
    from budwood.store import open_store

    if os.path.lexists(store) and not os.path.isdir(store):
        raise StoreError(f"{str(store)!r} is no folder, so no store.", where="--store", mend="Move it away, or name another.")
    if not create and not os.path.isdir(store / "objects"):
        raise StoreError(
            f"There is no store at {str(store)!r}.",
            where="--store",
            mend="Check the path, or make one with `budwood run RECIPE`.",
        )
    return open_store(store, url=os.environ.get("BUDWOOD_CATALOG", ""))


def on_store(store: Path) -> str:
    """What a command that is advised needs besides, to work on the store that was named."""
    return "" if store == DEFAULT_STORE else f" --store {shlex.quote(str(store))}"


def check_out(path: Path | None) -> None:
    """Refuse a place where no file can be written, before the work that is to end there.

    Raises:
        DataError: its folder is missing, or it is a folder itself.
    """
    if path is None:
        return
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder.", where="--out", mend="Name a file in it.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {str(path.parent)!r}.", where="--out", mend="Make it, or name another.")


def acting(who: str) -> str:
    """Name the person for the history: as given, else the login name, else the numeric user."""
    if who:
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
