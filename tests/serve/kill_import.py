"""Run by test_portable.py as a child: imports an archive, killed at one more system call than the time before.

    python -m tests.serve.kill_import FOLDER ARCHIVE

Prints, as JSON, what the store looked like after each kill, and after importing again.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.store.kill_points import die_at

from budwood.events import silent
from budwood.pipeline.importing import import_from
from budwood.store import open_store


def take(root: Path, archive: Path) -> None:
    with open_store(root) as store:
        import_from(store, archive, as_name=None, who="anna", reason="moved", report=silent)


def outcome(root: Path) -> dict[str, Any]:
    with open_store(root) as store:
        return {"problems": list(store.verify().problems), "releases": [row.digest for row in store.releases()]}


def main() -> None:
    folder, archive = Path(sys.argv[1]), Path(sys.argv[2])
    runs = []
    number, killed = 1, True
    while killed:
        root = folder / str(number)
        with open_store(root) as store:
            store.history()
        child = os.fork()
        if child == 0:
            die_at(number)
            take(root, archive)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        after = outcome(root)
        take(root, archive)
        runs.append({"killed": killed, "after": after, "again": outcome(root)})
        number += 7
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
