"""Run by test_aliases.py as a child: eight processes move one alias at the same moment, several times.

    python racers.py STORE

In each round all believe the alias to be where the last round left it, and want it elsewhere. Prints what each was told.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from budwood.errors import StoreError
from budwood.store import open_store

RACERS, ROUNDS = 8, 5


def race(number: int, root: Path, releases: list[str], together: Any, told: Any) -> None:
    with open_store(root, wait_s=60) as store:
        for turn in range(ROUNDS):
            start = store.aliases("support")[0].digest
            others = [digest for digest in releases if digest != start]
            together.wait()
            try:
                target = others[number % len(others)]
                store.move_alias("support", "production", target, expect=start, who=f"racer {number}", reason="race")
                said = "won"
            except StoreError as error:
                said = error.what
            together.wait()
            told.put((turn, said))


def main() -> None:
    root = Path(sys.argv[1])
    with open_store(root) as store:
        releases = [str(row.digest) for row in store.releases("support")]
    # Forked, so that the imports are paid for once.
    context = multiprocessing.get_context("fork")
    together, told = context.Barrier(RACERS, timeout=120), context.Queue()
    racers = [context.Process(target=race, args=(number, root, releases, together, told)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    said: list[list[str]] = [[] for _ in range(ROUNDS)]
    for _ in range(RACERS * ROUNDS):
        turn, text = told.get(timeout=120)
        said[turn].append(text)
    for racer in racers:
        racer.join()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
