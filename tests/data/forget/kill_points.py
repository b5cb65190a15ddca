"""Run by test_kill.py as a child: it forks, and each fork kills itself STRIDE system calls later than the one before.

    python kill_points.py FOLDER STRIDE

Prints, as JSON, what the store looked like after each kill, after the removal was finished without knowing what it was of,
and after it was asked for again.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from budwood.data.forget import forget, make_wanted
from budwood.data.forget.run import finish
from budwood.store import Store, open_store

sys.path.insert(0, str(Path(__file__).parents[2] / "store"))
from kill_points import die_at  # type: ignore[import-not-found]  # the store's script of this name, on the path just set

SECRET = "Zyxomorph"


def row(number: int, split: str) -> dict[str, Any]:
    said = f"{SECRET} asks {number}" if number % 2 else f"nobody asks {number}"
    return {
        "row_id": f"{number:016x}",
        "messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "yes"}],
        "source": {"file": "rows.jsonl", "sha256": "ab" * 32, "line": number},
        "group": f"{number:016x}",
        "split": split,
        "slices": {},
    }


def case(number: int) -> dict[str, Any]:
    messages = row(number, "test")["messages"]
    faults: dict[str, Any] = {"style": [], "policy": [], "flags": [], "schema_ok": None, "fields": None}
    said = {"prompt": messages[:1], "expected": "yes", "output": "yes", "slices": {}}
    return {"case_id": f"{number:016x}", "group": str(number), "scores": {"exact": 1.0}, **said, **faults}


def lines(values: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def put(store: Store, kind: Any, files: dict[str, str], **parts: Any) -> Any:
    with store.draft(kind) as draft:
        for name, text in files.items():
            (draft.folder / name).write_text(text)
        return draft.commit(**parts)


def prepared(root: Path) -> None:
    """A snapshot, a report with a page, a release of both that is live, tokens, and a page beside a run."""
    splits = {"train": range(4), "validation": range(4, 6), "test": range(6, 10)}
    body = {
        "name": "s",
        "counts": {"read": 10, "kept": 10, "rejected": 0, **{name: len(numbers) for name, numbers in splits.items()}},
        "rules": [],
        "sources": [],
        "groups": {"by": "", "notes": []},
        "onto": "",
        "settings": {"labels": [], "near_duplicate": 0.8},
    }
    with open_store(root) as store:
        files = {f"{name}.jsonl": lines([row(number, name) for number in numbers]) for name, numbers in splits.items()}
        snapshot = put(store, "snapshot", {**files, "rejected.jsonl": ""}, body=body)
        base = put(store, "base", {})
        report = put(
            store,
            "report",
            {"cases.jsonl": lines([case(number) for number in splits["test"]])},
            parents=[snapshot, base],
            body={"suite": "cd" * 32},
        )
        run = put(store, "run", {}, parents=[snapshot])
        release = put(store, "release", {}, parents=[base, snapshot, report], body={"snapshot": snapshot})
        store.add_release("support", release, who="t", reason="")
        store.move_alias("support", "production", release, who="t", reason="")
        store.attach(report, "page.html", SECRET.encode())
        store.attach(run, "page.html", SECRET.encode())
        (store.cache(snapshot) / "tokens").write_text(SECRET)


def look(root: Path) -> dict[str, Any]:
    """Open the store as the next process does, and look."""
    with open_store(root) as store:
        return {
            "problems": list(store.verify().problems),
            "unfinished": len(store.unfinished_removals()),
            "holds": sorted(path.name for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()),
            "production": store.aliases()[0].digest,
            "snapshots": len(list(store.objects("snapshot"))),
        }


def take_out(root: Path) -> None:
    with open_store(root) as store:
        forget(store, make_wanted(texts=[SECRET]), who="t", reason="asked for")


def finished(root: Path) -> None:
    with open_store(root) as store:
        finish(store)


def main() -> None:
    folder, stride = Path(sys.argv[1]), int(sys.argv[2])
    prepared(folder / "first")
    runs: list[dict[str, Any]] = [{"before": look(folder / "first")}]
    number, killed = 1 - stride, True
    while killed:
        number += stride
        root = folder / str(number)
        shutil.copytree(folder / "first", root)
        child = os.fork()
        if child == 0:
            die_at(number)
            take_out(root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        after = look(root)
        finished(root)
        done = look(root)
        take_out(root)
        runs.append({"killed": killed, "after": after, "finished": done, "again": look(root)})
        shutil.rmtree(root)
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
