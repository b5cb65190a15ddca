"""The near-duplicate search against datasketch and datatrove, and how its time and memory grow.

    python benchmarks/prepare_vs_peers.py [--rows 20000] [--pairs 200] [--sides ...] [--grow 10000 ... 5000000] [--json FILE]

Same rows for all sides: half of them short (6 to 25 words), half long (60 to 200), with planted pairs of known true Jaccard
similarity, `--pairs` for each band and length, everything else unrelated. Each side runs in a process of its own, in turn.
Reported: rows a second of processor time, peak memory beyond what the process held before, and how many planted pairs lie
in one cluster, by band. Recall: of pairs at least 0.8 alike; precision: of all pairs that were called near. Each side is
given what it takes (datasketch the shingles that Budwood compares; datatrove has word 5-grams for all). Growth: rows of 100
words made on demand, a tenth of them near an earlier one. Asserts nothing. Install the peers with `pip install -e
'.[bench]'`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from peers.near_sides import SIDES, THRESHOLD, Clusters, search
from peers.planted import BANDS, LENGTHS, Endless, Planted, plant


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(_child(json.loads(options.child))))
        return
    found: dict[str, Any] = {"sides": {}, "growth": {}}
    for side in options.sides:
        found["sides"][side] = _run({"side": side, "rows": options.rows, "pairs": options.pairs})
        print(_line(side, found["sides"][side]), flush=True)
    for rows in options.grow:
        found["growth"][rows] = _run({"grow": rows})
        print(_line(f"{rows:,} rows", found["growth"][rows]), flush=True)
    if found["sides"]:
        print("\n" + _table(found["sides"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _run(task: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _child(task: dict[str, Any]) -> dict[str, Any]:
    if "grow" in task:
        rows = Endless(seed=1)
        search(rows, 1000)  # the kernels are loaded, and compiled where they never were
        before, processor, wall = _peak_bytes(), time.process_time(), time.perf_counter()
        search(rows, task["grow"])
        return _spent(task["grow"], before, processor, wall)
    planted = plant(task["rows"], pairs_a_band=task["pairs"], seed=0)
    side = SIDES[task["side"]]
    with tempfile.TemporaryDirectory() as folder:
        side(planted.texts[:100], Path(folder, "warm"))
        before, processor, wall = _peak_bytes(), time.process_time(), time.perf_counter()
        clusters = side(planted.texts, Path(folder, "timed"))
    return _spent(task["rows"], before, processor, wall) | _judge(planted, clusters)


def _spent(rows: int, before: int, processor: float, wall: float) -> dict[str, float]:
    seconds = time.process_time() - processor
    peak = _peak_bytes() - before
    return {"rows_per_s": rows / seconds, "seconds": seconds, "wall": time.perf_counter() - wall, "bytes": peak}


def _judge(planted: Planted, clusters: Clusters) -> dict[str, Any]:
    """Count planted pairs by length and band, all and found; and rows that lie in a cluster without their partner."""
    shares: dict[str, list[int]] = {}
    hits, near, called = 0, 0, 0
    partner: dict[int, int] = {}
    for pair in planted.pairs:
        band = max(low for low in BANDS if pair.alike >= low)
        together = clusters[pair.first] == clusters[pair.second]
        count = shares.setdefault(f"{pair.length} {band}", [0, 0])
        count[0] += 1
        count[1] += together
        near += pair.alike >= THRESHOLD
        called += together
        hits += together and pair.alike >= THRESHOLD
        partner |= {pair.first: pair.second, pair.second: pair.first}
    sizes = Counter(clusters)
    strangers = sum(
        sizes[clusters[i]] - 1 - (clusters[i] == clusters[partner.get(i, i)] and i in partner) for i in range(len(clusters))
    )
    called += strangers // 2
    return {"bands": shares, "recall": hits / near, "precision": hits / max(called, 1)}


def _table(sides: dict[str, Any]) -> str:
    lines = [
        "| | rows/s | MB | recall | precision | " + " | ".join(f"{low:g}–{high:g}" for low, high in pairwise(BANDS)) + " |"
    ]
    lines.append("|---" * (len(BANDS) + 4) + "|")
    for side, found in sides.items():
        for length in LENGTHS:
            shares = [found["bands"][f"{length} {low}"] for low in BANDS[:-1]]
            cells = [f"{100 * hits / count:.1f}" for count, hits in shares]
            first = [
                f"{found['rows_per_s']:,.0f}",
                f"{found['bytes'] / 1e6:,.0f}",
                f"{found['recall']:.4f}",
                f"{found['precision']:.4f}",
            ]
            lines.append(f"| {side}, {length} | " + " | ".join([*first, *cells]) + " |")
    return "\n".join(lines)


def _line(what: str, found: dict[str, Any]) -> str:
    line = (
        f"{what}: {found['rows_per_s']:,.0f} rows/s, {found['seconds']:.2f} s of processor time, {found['bytes'] / 1e6:,.0f} MB"
    )
    return line + (f", recall {found['recall']:.4f}, precision {found['precision']:.4f}" if "recall" in found else "")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=200, help="planted for each band and length")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--grow", nargs="*", type=int, default=[10_000, 100_000, 500_000, 1_000_000, 5_000_000])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
