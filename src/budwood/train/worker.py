"""One process of a training that several do together; started by torchrun, see `together`.

Reads what is to be done from a file. The first process prints an event a line and at the end the run, as JSON.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from budwood.engine.base import BaseRef
from budwood.errors import BudwoodError
from budwood.events import Event, silent
from budwood.identity import Digest
from budwood.recipe import recipe_from_mapping
from budwood.store import open_store
from budwood.train.ranks import join
from budwood.train.run import train
from budwood.train.settings import TrainSettings


def main() -> int:
    task = json.loads(Path(sys.argv[1]).read_text())
    ranks = join(task["device"])
    base = BaseRef(task["base"]["id"], Path(task["base"]["folder"]), task["base"]["revision"])
    start = None if task["start"] is None else Digest(task["start"])
    with open_store(Path(task["store"])) as store:
        try:
            run = train(
                recipe_from_mapping(task["recipe"], folder=Path(task["folder"])),
                store,
                Digest(task["snapshot"]),
                base,
                settings=TrainSettings.read(task["settings"]),
                start=start,
                report=_say if ranks.first else silent,
                who=task["who"],
                device=task["device"],
                threads=task["threads"],
                trackers=task["trackers"],
                ranks=ranks,
            )
        except BudwoodError as error:
            if ranks.first:
                _print({"error": {"what": error.what, "where": error.where, "mend": error.mend, "kind": type(error).__name__}})
            return 1
    if ranks.first:
        _print({"run": run})
    return 0


def _say(event: Event) -> None:
    _print({"event": asdict(event) | {"fields": dict(event.fields)}})


def _print(message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
