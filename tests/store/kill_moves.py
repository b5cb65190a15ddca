"""Run by test_kill.py as a child: a catalog is moved, and each fork is killed one step later than the one before.

    python -m tests.store.kill_moves FOLDER URL out|back

Steps are the system calls of kill_points.py and, of each database, every statement and commit. Every try has a schema of its
own in the database of URL, so that nothing of one is seen by the next. Prints, as JSON, what the store looked like after each.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.pool import NullPool
from tests.store.kill_points import at, die_at, prepared

from budwood.store import open_store


@contextmanager
def schema(url: str, name: str) -> Iterator[str]:
    """URL of the same database with a schema of its own."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield f"{url}&options={quote(f'-csearch_path={name}')}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def die_at_statements_too(number: int) -> None:
    tick = die_at(number)

    @event.listens_for(Engine, "before_cursor_execute")
    def _(*_: Any) -> None:
        tick()

    @event.listens_for(Engine, "commit")
    def _(*_: Any) -> None:
        tick()


def move(root: Path, url: str) -> None:
    with open_store(root, clock=at(30)) as store:
        store.move_catalog(url)


def outcome(root: Path) -> dict[str, Any]:
    with open_store(root, clock=at(40)) as store:
        return {
            "place": "there" if "://" in store.catalog_place() else "here",
            "problems": list(store.verify().problems),
            "production": store.aliases()[0].digest,
            "history": [event.seq for event in store.history()],
            "files": sorted(path.name for path in root.glob("*catalog*") if not path.name.endswith(("-wal", "-shm"))),
        }


def goes_on(root: Path) -> list[str]:
    """What verify says after a move of the alias, and back."""
    with open_store(root, clock=at(50)) as store:
        one, two = (store.find_release(f"support@{number}").digest for number in (1, 2))
        store.move_alias("support", "production", two, expect=one, who="t", reason="")
        store.move_alias("support", "production", one, expect=two, who="t", reason="", kind="rolled_back")
        return list(store.verify().problems)


def main() -> None:
    folder, url, way = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    prepared(folder / "first", "move")
    runs: list[dict[str, Any]] = []
    for number in count(1):
        root = folder / str(number)
        shutil.copytree(folder / "first", root)
        with schema(url, f"kill_{way}_{number}") as there:
            runs.append(tried(root, there, way, number))
        shutil.rmtree(root)
        if not runs[-1]["killed"]:
            break
    print(json.dumps(runs))


def tried(root: Path, there: str, way: str, number: int) -> dict[str, Any]:
    """Move out to `there`, or back from it; killed at step `number`. Look, work with what there is, and move again."""
    target = there
    if way == "back":
        move(root, there)
        target = ""
    child = os.fork()
    if child == 0:
        die_at_statements_too(number)
        move(root, target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    after = outcome(root)
    working = goes_on(root)
    move(root, target)
    return {"killed": killed, "after": after, "works": working, "again": outcome(root)}


if __name__ == "__main__":
    main()
