"""From what was found to a table, and into the page that holds it."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.shapes import SHAPES
from peers.trial import Found, Trial


@dataclass(frozen=True)
class Cell:
    """One run: `found`, or why there is nothing."""

    trial: Trial
    round: int
    found: Found | None
    fault: str

    def line(self) -> str:
        trial = self.trial
        what = f"{trial.shape} {trial.method} {trial.tokens} {trial.side}"
        if self.found is None:
            return f"{what}: {self.fault}"
        return f"{what}: {self.found.tokens_per_s:.1f} tokens/s, {self.found.peak_bytes / 1e9:.2f} GB"

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Cell":
        """Make it again from what `as_dict` gave."""
        found = None if body["found"] is None else Found(**body["found"])
        return cls(Trial(**body["trial"]), body["round"], found, body["fault"])

    def as_dict(self) -> dict[str, Any]:
        found = None if self.found is None else self.found.as_dict()
        return {"trial": self.trial.as_dict(), "round": self.round, "found": found, "fault": self.fault}


@dataclass(frozen=True)
class Line:
    """All rounds of one side at one setting."""

    trial: Trial
    tokens_per_s: float
    peak_bytes: float
    first_loss: float
    operations_per_s: float
    matrix_rate: float


def markdown(cells: list[Cell], lengths: dict[str, float], longest: int) -> str:
    """Write the tables, one a setting."""
    stated = ", ".join(f"{name} {value:g}" for name, value in lengths.items())
    parts = [f"Row lengths in tokens (lognormal, at most {longest:,}): {stated}.\n"]
    settings: dict[tuple[str, int, str, bool, str], list[Cell]] = {}
    for cell in cells:
        trial = cell.trial
        key = (trial.shape, trial.tokens, trial.method, trial.checkpointing, trial.device)
        settings.setdefault(key, []).append(cell)
    for (shape, tokens, method, checkpointing, device), group in settings.items():
        kept = "layers' inputs kept alone on both sides" if checkpointing else "no checkpointing"
        where = "" if device == "cpu" else ", on a GPU"
        parts.append(f"**{shape}, {method}, about {tokens:,} tokens a step, {kept}{where}**\n")
        parts.append(_table(group))
    return "\n".join(parts)


def put_into_page(path: Path, text: str, *, mark: str = "measured") -> None:
    """Replace what stands between the two marks of a page."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    page = path.read_text()
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path} lacks the lines {begin} and {end}.")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _table(cells: list[Cell]) -> str:
    lines = list(_lines(cells))
    ours = next((line for line in lines if line.trial.side == "budwood"), None)
    alone = next((line for line in lines if line.trial.side == "products alone"), None)
    rows = [
        "| | tokens/s | Budwood is | peak GB | of it | roofline share | first loss |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for line in lines:
        if line.trial.side == "products alone":
            rows.append(f"| products alone | {line.tokens_per_s:,.0f} | | | | 1.00 | |")
            continue
        faster = f"{ours.tokens_per_s / line.tokens_per_s:.2f} ×" if ours and line is not ours else ""
        leaner = f"{ours.peak_bytes / line.peak_bytes:.2f}" if ours and line is not ours else ""
        share = f"{line.tokens_per_s / alone.tokens_per_s:.2f}" if alone else ""
        rows.append(
            f"| {line.trial.side} | {line.tokens_per_s:,.0f} | {faster} | {line.peak_bytes / 1e9:.2f} | {leaner} | {share} "
            f"| {line.first_loss:.4f} |"
        )
    rate = alone.matrix_rate if alone and alone.trial.device == "cuda" else 0.0
    if ours and rate:
        reached = ours.operations_per_s / rate
        rows += ["", f"Budwood's products without which it cannot be done: {reached:.0%} of the {rate / 1e12:.0f} TFLOP/s"]
        rows[-1] += " that one large bfloat16 product reaches here."
    faults = {f"{cell.trial.side}: {cell.fault}" for cell in cells if cell.found is None}
    return "\n".join([*rows, "", *(f"* {fault}" for fault in sorted(faults))])


def _lines(cells: list[Cell]) -> Iterable[Line]:
    sides: dict[str, list[Cell]] = {}
    for cell in cells:
        sides.setdefault(cell.trial.side, []).append(cell)
    for group in sides.values():
        found = [cell.found for cell in group if cell.found is not None]
        if found:
            rates = statistics.median(one.tokens_per_s for one in found)
            peaks = statistics.median(one.peak_bytes for one in found)
            shape = SHAPES[group[0].trial.shape]
            done = statistics.median(
                shape.operations(tokens, supervised) / seconds
                for one in found
                for tokens, supervised, seconds in zip(one.tokens, one.supervised, one.seconds, strict=True)
            )
            yield Line(group[0].trial, rates, peaks, found[0].first_loss, done, max(one.matrix_rate for one in found))
