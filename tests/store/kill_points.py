"""Run by test_kill.py as a child: it forks, and each fork kills itself at one more system call than the one before.

    python kill_points.py FOLDER commit|move|rollback|approve|tombstone|delete|collect

Prints, as JSON, what the store looked like after each kill.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from budwood.store import HistoryEvent, Store, open_store

CALLS = ("fsync", "rename", "replace", "mkdir", "link", "unlink", "rmdir", "open")


def at(second: int) -> Callable[[], datetime]:
    return lambda: datetime(2026, 9, 1, 14, 0, second, tzinfo=UTC)


def put(store: Store, kind: Any, text: str, parents: list[str]) -> str:
    with store.draft(kind) as draft:
        (draft.folder / "deep").mkdir()
        (draft.folder / "deep" / "a.txt").write_text(text)
        (draft.attachments / "page.html").write_text(text)
        return draft.commit(parents=parents, body={"text": text}, attestation={"host": "h"})


def prepared(root: Path, what: str) -> None:
    """Two releases of one base; production is at the first, or where a rollback starts from; a snapshot that nobody needs."""
    with open_store(root, clock=at(0)) as store:
        base = put(store, "base", "b", [])
        first, second = (put(store, "release", text, [base]) for text in ("1", "2"))
        store.add_release("support", first, who="t", reason="")
        store.add_release("support", second, who="t", reason="")
        store.move_alias("support", "production", first, who="t", reason="")
        put(store, "snapshot", "loose", [])
        if what == "rollback":
            store.move_alias("support", "production", second, who="t", reason="")


def act(root: Path, what: str) -> None:
    with open_store(root, clock=at(30)) as store:
        if what == "commit":
            put(store, "release", "3", [store.find_release("support").digest])
        elif what == "move":
            store.move_alias("support", "production", store.find_release("support@2").digest, who="t", reason="")
        elif what == "rollback":
            first, line = store.find_release("support@1").digest, store.aliases()[0].digest
            store.move_alias("support", "production", first, expect=line, who="t", reason="", kind="rolled_back")
        elif what == "approve":
            target = store.find_release("support@2").digest
            if not any(event.kind == "approved" for event in store.history()):
                store.add_event(HistoryEvent(0, "", "approved", "t", "support", "production", to=target))
        elif what == "delete":
            store.finish_removals()
            target = store.find_release("support@2").digest
            if store.exists(target):
                store.delete("support", target, who="t", reason="not needed")
        elif what == "tombstone":
            found = [*store.objects("snapshot"), *(stone.digest for stone in store.tombstones())]
            store.tombstone(found[0], who="t", reason="asked for")
        else:
            store.collect(False, older_than_s=0)


def die_at(number: int) -> Callable[[], None]:
    """Kill this process at its `number`th call of a function that changes files, or of what is given back."""
    left = [number]

    def tick() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **keys: Any) -> Any:
            tick()
            return real(*args, **keys)

        setattr(os, name, call)

    for name in CALLS:
        wrap(name)
    return tick


def outcome(root: Path) -> dict[str, Any]:
    """Open the store as the next process does, look, do the work again, look again."""
    with open_store(root, clock=at(40)) as store:
        found = store.verify()
        state = {
            "problems": list(found.problems),
            "objects": sorted(store.objects()),
            "production": store.aliases()[0].digest,
            "moves": sum(event.kind in ("promoted", "rolled_back") for event in store.history()),
            "kinds": [event.kind for event in store.history()],
            "left": [name for stone in store.tombstones() for name in files_of(root, stone.digest)],
            "litter": [name for name in os.listdir(root / "tmp") if name.startswith(("draft", "trash"))],
        }
    return state


def files_of(root: Path, digest: str) -> list[str]:
    """What lies in an object's folder and beside it, its tombstone and attestations left out."""
    folders = (root / "objects" / digest[:2] / digest, root / "attestations" / digest[:2] / digest / "files")
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in found if path.name != "tombstone.json")


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    runs = []
    number = 0
    killed = True
    prepared(folder / "first", what)
    while killed:
        number += 1
        root = folder / str(number)
        shutil.copytree(folder / "first", root)
        child = os.fork()
        if child == 0:
            die_at(number)
            act(root, what)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        state = outcome(root)
        act(root, what)
        runs.append({"killed": killed, "after": state, "again": outcome(root)})
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
