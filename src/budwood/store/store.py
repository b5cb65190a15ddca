"""The store: one folder with everything in it.

    .budwood/
      objects/ab/abcd…/      manifest.json and files; never changed
      attestations/ab/abcd…/ what lies beside them: times, hosts, report.html
      catalog.sqlite         names, aliases, history, observed state, index
      history.head           second witness of the history's end
      work/                  scratch of stages that survives a kill: checkpoints
      cache/ab…/             what is made from an object again at any time; goes with it
      tmp/                   drafts and leases; cleared of dead ones at every start

What can be done with it is told in four rooms (objects, work, names, care); the work itself is in the neighbouring modules.
Several processes may use one store.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from budwood.errors import StoreError
from budwood.store.care_room import CareRoom
from budwood.store.durable import storing
from budwood.store.leases import sweep
from budwood.store.parts import Settings
from budwood.store.work_room import WorkRoom


class Store(WorkRoom, CareRoom):
    """Made by `open_store`. Threads may share one."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def open_store(
    root: Path, *, url: str = "", clock: Callable[[], datetime] = utc_now, wait_s: float = 10.0, read_only: bool = False
) -> Store:
    """Open a store, making its folders on first use and clearing what dead processes left behind.

    Args:
        root: the store's own folder, usually `.budwood` beside the recipe.
        url: SQLAlchemy URL of a catalog elsewhere; empty: SQLite in `root`.
        clock: where times come from; aware datetimes.
        wait_s: how long a writer waits for another process.
        read_only: never write, whatever the permissions; a folder that may not be written is opened so anyway.

    Raises:
        StoreError: the folder cannot be made or read.
    """
    root = root.resolve()
    if not read_only:
        with storing("the store's layout", root if root.exists() else root.parent):
            read_only = root.is_dir() and not os.access(root, os.W_OK)
            if not read_only:
                for name in ("objects", "attestations", "work", "tmp"):
                    (root / name).mkdir(parents=True, exist_ok=True)
                sweep(root / "tmp")
    if not (root / "objects").is_dir():
        raise StoreError(f"There is no store at {str(root)!r}.", mend="Check the path, or make one with `budwood run`.")
    return Store(Settings(root, url, clock, wait_s, read_only))
