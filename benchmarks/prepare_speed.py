"""How fast rows are prepared, and how time and memory grow with their number.

    python benchmarks/prepare_speed.py [--rows 10000 100000 1000000] [--rules RULE ...] [--tokens] [--languages] [--processes N]
        [--json FILE]

Generated rows of about 100 words as JSONL, written to a temporary folder without being held: a tenth nearly repeats an earlier
row, a hundredth does exactly, a quarter name an order by its number, and some have personal data, mojibake, odd white space,
control characters, an empty or placeholder answer, or their prompt as the answer. Each number of rows is prepared by a process
of its own with the recipe's defaults; `--tokens` measures lengths with the bundled base's template and tokenizer besides.
`--languages` has the language of every row told, and prepares the same rows a second time, when all of them are known.
Memory is the peak of that process and the largest of its helpers times their number. Asserts nothing.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peers.planted import vocabulary

PROMPT_WORDS, ANSWER_WORDS = 60, 40
PARTS = 50_000
DIRT = (
    (" Write to ann.lee{n}@example.org.", ""),
    (" Call +44 20 7946 0{n:03d} after nine.", ""),
    (" Itâ€™s the third time, number {n}.", ""),
    ("\u00a0 and so on\r\nand on ", ""),
    (" the\u200b kettle\u0007 ", ""),
    ("", "n/a"),
    ("", " "),
)
"""What is put behind a prompt, and what stands in the place of its answer."""


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(_child(json.loads(options.child))))
        return
    found: dict[int, Any] = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            _write(Path(folder) / "rows.jsonl", rows)
            task = {"folder": folder, "tokens": options.tokens, "processes": options.processes, "rules": options.rules}
            task["languages"] = options.languages
            command = [sys.executable, __file__, "--child", json.dumps(task)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[rows] = json.loads(done.stdout.splitlines()[-1])
        print(_line(rows, found[rows]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _write(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(1)
    words = vocabulary(20_000, draw)
    parts = [" ".join(draw.choices(words, k=PROMPT_WORDS // 4)) for _ in range(PARTS)]
    answers = [" ".join(draw.choices(words, k=ANSWER_WORDS // 2)) for _ in range(PARTS)]
    last: list[dict[str, Any]] = []
    for number in range(count):
        # Four of 50,000 parts: no row is another's copy by chance.
        prompt = " ".join(draw.choices(parts, k=4)) + ("?" if number % 4 else f" of order {number:06d}?")
        row = {"prompt": prompt, "completion": " ".join(draw.choices(answers, k=2)) + ".", "channel": draw.choice("abc")}
        kind = draw.randrange(100)
        if kind < 10 and last:
            row = draw.choice(last) | {"channel": "copy"}
            row["prompt"] = f"{row['prompt']} again"
        elif kind == 10 and last:
            row = dict(draw.choice(last))
        elif kind < 15:
            behind, answer = draw.choice(DIRT)
            row["prompt"] += behind.format(n=number % 1000)
            row["completion"] = answer or row["completion"]
        elif kind == 15 and number % 3 == 0:
            row["completion"] = row["prompt"]
        elif number % 997 == 0:
            last = [*last[-500:], dict(row)]
        yield row


def _child(task: dict[str, Any]) -> dict[str, Any]:
    from budwood.prepare.run import prepare
    from budwood.recipe import recipe_from_mapping
    from budwood.store import open_store

    folder = Path(task["folder"])
    section: dict[str, Any] = {"rules": task["rules"]} if task["rules"] else {}
    if task["languages"]:
        section |= {"language": "flag", "languages": ["en"]}
    recipe = recipe_from_mapping({"name": "speed", "source": [{"path": "rows.jsonl"}], "prepare": section}, folder=folder)
    lengths, context = _lengths(folder) if task["tokens"] else (None, 0)
    with open_store(folder / "project") as store:
        begun = time.perf_counter()
        digest = prepare(recipe, store, token_length=lengths, context=context, processes=task["processes"])
        seconds = time.perf_counter() - begun
        here, helpers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        body, attestations = store.manifest(digest).body, store.attestations(digest)
        begun = time.perf_counter()
        if task["languages"]:
            prepare(recipe, store, token_length=lengths, context=context, processes=task["processes"])
        again = time.perf_counter() - begun
    processes = task["processes"] or len(os.sched_getaffinity(0))
    return {
        "seconds": seconds,
        "rows": body["counts"]["read"],
        "counts": body["counts"] | body["rejected_by"],
        "phases": attestations[-1]["phases"],
        "processor": here.ru_utime + here.ru_stime + helpers.ru_utime + helpers.ru_stime,
        "processor_here": here.ru_utime + here.ru_stime,
        "bytes": 1024 * (here.ru_maxrss + (helpers.ru_maxrss * processes if processes > 1 else 0)),
        "bytes_here": 1024 * here.ru_maxrss,
        "digest": digest,
    } | ({"seconds_again": again} if task["languages"] else {})


def _lengths(folder: Path) -> tuple[Any, int]:
    from budwood.engine.base import resolve_base
    from budwood.pipeline.counting import TemplateLengths

    return TemplateLengths(resolve_base("seedling", start=folder)), 2048


def _line(rows: int, found: dict[str, Any]) -> str:
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["phases"].items())
    per_row = found["processor"] / rows * 1e6
    here = found["processor_here"] / rows * 1e6
    return (
        f"{rows:,} rows: {rows / found['seconds']:,.0f} rows/s, {found['seconds']:.1f} s ({phases}), "
        f"{per_row:.0f} µs of processor time a row ({here:.0f} in the first process), "
        f"{found['bytes'] / 1e6:,.0f} MB ({found['bytes_here'] / 1e6:,.0f} in the first process), "
        f"snapshot {found['digest'][:12]}"
        + (f", again {rows / found['seconds_again']:,.0f} rows/s" if "seconds_again" in found else "")
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rules", nargs="+", default=[], metavar="RULE", help="[prepare] rules; default: all of them")
    parser.add_argument("--tokens", action="store_true", help="measure lengths in tokens, too")
    parser.add_argument("--languages", action="store_true", help="tell the language of each row, too, and prepare twice")
    parser.add_argument("--processes", type=int, default=0, help="0: one a core")
    parser.add_argument("--folder", type=Path, help="where files are made; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
