"""What it costs to ask a snapshot: `data why` by id and by line, and `data diff`, at growing numbers of rows.

    python benchmarks/data_questions.py [--rows 100000 1000000] [--json FILE]

Two made-up snapshots of that many rows (a tenth of them rejected, about 600 bytes each; the second has 1 % new rows, 1 %
corrected answers and 1 % in another split, and all its ids differ, as when a file grew at its head). Each question is asked
in a process of its own; reported are its seconds, its seconds of processor time, and its peak memory. Asserts nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from budwood.data.diff import compare
from budwood.data.why import only, read_wanted, tell
from budwood.identity import Digest
from budwood.store import Store, open_store

PLACES = ("train", "validation", "test", "rejected")
WORDS = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ask", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(ask(*options.ask)))
        return
    found = {rows: measure(rows) for rows in options.rows}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def measure(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        with open_store(Path(folder)) as store:
            first, second = put(store, rows, later=False), put(store, rows, later=True)
        asked = {
            "why by id": ("why", folder, first, f"{rows // 2:016x}"),
            "why by line": ("why", folder, first, f"rows.jsonl:{rows // 2}"),
            "diff": ("diff", folder, first, second),
        }
        found = {}
        for name, words in asked.items():
            command = [sys.executable, __file__, "--ask", *words]
            found[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"{rows:>10,} rows  {name:<12} {found[name]}", flush=True)
        return found


def ask(question: str, folder: str, *words: str) -> dict[str, Any]:
    started = time.perf_counter()
    with open_store(Path(folder)) as store:
        if question == "why":
            snapshot, wanted = Digest(words[0]), read_wanted(words[1])
            said: Any = tell(store, snapshot, only(store, snapshot, wanted, limit=2)[0]).row.row_id
        else:
            kinds = compare(store, Digest(words[0]), Digest(words[1])).kinds
            said = {name: kind.count for name, kind in kinds.items() if kind.count}
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = {"seconds": round(time.perf_counter() - started, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1)}
    return seconds | {"peak_mb": used.ru_maxrss // 1024, "said": said}


def put(store: Store, rows: int, *, later: bool) -> Digest:
    with store.draft("snapshot") as draft:
        files = {place: (draft.folder / f"{place}.jsonl").open("w", encoding="utf-8") for place in PLACES}
        for place, line in made(rows, later=later):
            files[place].write(json.dumps(line, separators=(",", ":")) + "\n")
        for file in files.values():
            file.close()
        source = {"path": "rows.jsonl", "sha256": "ab" * 32, "split": "auto", "rows": rows}
        body = {
            "name": "bench",
            "onto": "",
            "settings": {"split_seed": 0},
            "sources": [source],
            "rules": [],
            "groups": {"by": ""},
        }
        return draft.commit(parents=[], body=body | {"counts": {"read": rows}})


def made(rows: int, *, later: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(rows):
        fresh, corrected, moved = (later and number % 100 == turn for turn in (1, 2, 3))
        place = PLACES[(number % 10 == 9) * 3 or (number % 100 == 0) + moved]
        key = number + rows if fresh else number
        text = " ".join(WORDS[(key * 31 + word * word) % len(WORDS)] for word in range(40))
        messages = [
            {"role": "user", "content": f"{key} {text}?"},
            {"role": "assistant", "content": f"{'Corrected' if corrected else 'Answer'} {text[:60]}"},
        ]
        origin = {"file": "rows.jsonl", "sha256": "ab" * 32, "line": number + 1}
        line: dict[str, Any] = {"row_id": f"{number + later * (1 << 40):016x}", "source": origin}
        if place == "rejected":
            yield place, line | {"rule": "leak", "reason": "because", "messages": messages}
        else:
            kept = {"messages": messages, "group": f"{key // 2:016x}", "split": place, "slices": {}, "weight": 1.0}
            yield place, line | kept | {"touched": []}


if __name__ == "__main__":
    main()
