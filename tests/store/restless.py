"""Run by test_kill.py as a child, which kills it: moves, approves, deletes and collects in one store without end.

    python restless.py STORE

Prints a line once it is about to begin.
"""

import sys
from itertools import count
from pathlib import Path

from budwood.store import HistoryEvent, open_store


def main() -> None:
    with open_store(Path(sys.argv[1])) as store:
        releases = [row.digest for row in store.releases("support")][:3]
        print("ready", flush=True)
        for number in count():
            target = releases[number % 3]
            store.add_event(HistoryEvent(0, "", "approved", "t", "support", "production", to=target))
            kind = "rolled_back" if number % 2 else "promoted"
            store.move_alias("support", "production", target, who="t", reason="", kind=kind)  # type: ignore[arg-type]
            with store.draft("release") as draft:
                (draft.folder / "a.txt").write_text("a")
                loose = draft.commit(body={"number": len(store.history())})
            store.add_release("support", loose, who="t", reason="")
            store.delete("support", loose, who="t", reason="not needed")
            store.collect(False, older_than_s=0)


if __name__ == "__main__":
    main()
