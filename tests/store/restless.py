"""Run by test_kill.py as a child: a store in which one process after the other works without end, and is killed.

    python restless.py STORE TIMES

Not only between our own system calls, as kill_points.py does it, but wherever chance has it, also inside the database's.
Prints, as JSON, what the store looked like after each kill.
"""

import json
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from budwood.store import HistoryEvent, open_store


def work(root: Path, told: int) -> None:
    """Move, approve, make, delete and collect; a byte into the pipe before each round."""
    with open_store(root) as store:
        releases = [row.digest for row in store.releases("support")][:3]
        for number in count():
            os.write(told, b".")
            target = releases[number % 3]
            store.add_event(HistoryEvent(0, "", "approved", "t", "support", "production", to=target))
            if number % 2:
                store.move_alias("support", "production", target, who="t", reason="", kind="rolled_back")
            else:
                store.move_alias("support", "production", target, who="t", reason="")
            with store.draft("release") as draft:
                (draft.folder / "a.txt").write_text("a")
                loose = draft.commit(body={"number": len(store.history())})
            store.add_release("support", loose, who="t", reason="")
            store.delete("support", loose, who="t", reason="not needed")
            store.collect(False, older_than_s=0)


def outcome(root: Path) -> dict[str, Any]:
    """Open the store as the next process does, look, finish what was begun, look again."""
    with open_store(root) as store:
        problems = store.verify().problems
        store.finish_removals()
        moves = [event.to for event in store.history() if event.kind in ("promoted", "rolled_back")]
        return {
            "problems": list(problems),
            "again": list(store.verify().problems),
            "production": store.aliases()[0].digest,
            "last": moves[-1],
            "moves": len(moves),
        }


def main() -> None:
    root, random = Path(sys.argv[1]), Random(5)
    found = []
    for _ in range(int(sys.argv[2])):
        hear, tell = os.pipe()
        child = os.fork()
        if child == 0:
            work(root, tell)
            os._exit(1)
        for _ in range(random.randint(1, 3)):
            os.read(hear, 1)
        # How far it has come in its round by then is left to chance; nothing depends on it.
        time.sleep(random.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(hear)
        os.close(tell)
        found.append(outcome(root) | {"killed": os.WIFSIGNALED(status)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
