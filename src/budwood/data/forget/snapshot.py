"""A snapshot without some of its rows: what stays keeps its bytes, its split and its group; the figures are counted again.

Memory holds eight bytes a row for its group and eight for its length, whatever the snapshot's size.
"""

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any

from budwood.data.forget.elsewhere import in_file
from budwood.data.forget.found import InSnapshot
from budwood.data.forget.lines import read_lines
from budwood.data.forget.survey import ROW_FILES, goes
from budwood.data.forget.wanted import Wanted
from budwood.data.rows import REJECTED, SPLITS
from budwood.errors import DataError
from budwood.identity import Digest, digest_file, short
from budwood.prepare.card import write_card
from budwood.prepare.croissant import croissant
from budwood.prepare.lengths import summarise_lengths
from budwood.store import Store

CARD, CROISSANT = "card.md", "croissant.json"


@dataclass
class Figures:
    """What a snapshot's body says of its rows, counted from the rows as they are stored."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    touched: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: dict[str, "array[int]"] = field(default_factory=lambda: {split: array("Q") for split in SPLITS})
    tokens: dict[str, "array[int]"] = field(default_factory=lambda: {split: array("q") for split in SPLITS})

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        self.counts[split] += 1
        if split == REJECTED:
            self.dropped[row["rule"]] += 1
            return
        self.touched.update({(touch["rule"], touch["kind"]) for touch in row.get("touched", ())})
        self.groups[split].append(int(row["group"], 16))
        if row.get("tokens") is not None:
            self.tokens[split].append(row["tokens"])

    def body(self, before: Mapping[str, Any], forgets: Mapping[str, Any]) -> dict[str, Any]:
        """Give the body that had these rows been all, and say what is missing.

        Raises:
            DataError: rows and figures of the snapshot did not fit together before.
        """
        counts = dict(before["counts"])
        forgotten = int(counts.get("forgotten", 0)) + int(forgets["rows"])
        kept = sum(self.counts[split] for split in SPLITS)
        if counts["read"] != kept + self.counts[REJECTED] + forgotten:
            raise DataError(
                f"{kept:,} kept, {self.counts[REJECTED]:,} rejected and {forgotten:,} removed rows are not the "
                f"{counts['read']:,} that were read.",
                where=f"snapshot {short(forgets['of'])}",
                mend="Nothing was changed. Run `budwood verify`.",
            )
        counts |= {"kept": kept, REJECTED: self.counts[REJECTED], "forgotten": forgotten}
        return {
            **before,
            "counts": counts | {split: self.counts[split] for split in SPLITS},
            "rejected_by": dict(sorted(self.dropped.items())),
            "rules": [self._rule(rule) for rule in before["rules"]],
            "groups": {**before["groups"], **self._groups()},
            "lengths": {split: summarise_lengths(tokens) for split, tokens in self.tokens.items() if tokens},
            "forgets": dict(forgets),
        }

    def _rule(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        name = rule["name"]
        changed, flagged = self.touched[name, "changed"], self.touched[name, "flagged"]
        return {**rule, "changed": changed, "dropped": self.dropped[name], "flagged": flagged}

    def _groups(self) -> dict[str, int]:
        import numpy

        sizes = {
            split: numpy.unique(numpy.frombuffer(groups, dtype=numpy.uint64), return_counts=True)[1]
            for split, groups in self.groups.items()
            if groups
        }
        found = {split: len(sizes[split]) if split in sizes else 0 for split in SPLITS}
        largest = max((int(counts.max()) for counts in sizes.values()), default=0)
        return {"count": sum(found.values()), "largest": largest} | found


def without_rows(store: Store, hit: InSnapshot, wanted: Wanted, *, who: str) -> Digest:
    """Store the snapshot that lacks the rows; the same rows again give the same snapshot.

    Raises:
        DataError: a file that is neither rows, lists nor a card holds the text; or figures that do not fit the rows.
    """
    manifest = store.manifest(hit.digest)
    forgets = {"of": hit.digest, "rows": sum(hit.counts.values())}
    figures = Figures()
    with store.draft("snapshot") as draft:
        for entry in manifest.files:
            target = draft.folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.path in ROW_FILES:
                _copy_rows(store, hit, entry.path, target, figures)
            elif entry.path.endswith(".jsonl"):
                _copy_lines(store, hit, entry.path, target, wanted)
            elif entry.path not in (CARD, CROISSANT):
                _copy_file(store, hit, entry.path, target, wanted)
        body = figures.body(manifest.body, forgets)
        (draft.folder / CARD).write_text(write_card(body), encoding="utf-8", newline="\n")
        files = {path.name: digest_file(path) for path in sorted(draft.folder.glob("*.jsonl"))}
        (draft.folder / CROISSANT).write_text(
            json.dumps(croissant(body, files), indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
        return draft.commit(parents=[*manifest.parents, hit.digest], body=body, attestation={"who": who, **forgets})


def _copy_rows(store: Store, hit: InSnapshot, path: str, target: Path, figures: Figures) -> None:
    ids, split = hit.ids, path.removesuffix(".jsonl")
    with target.open("wb") as file:
        for line, row in read_lines(store, hit.digest, path):
            if row["row_id"] not in ids:
                file.write(line)
                figures.add(split, row)


def _copy_lines(store: Store, hit: InSnapshot, path: str, target: Path, wanted: Wanted) -> None:
    with target.open("wb") as file:
        file.writelines(line for line, value in read_lines(store, hit.digest, path) if not goes(value, wanted, hit.ids))


def _copy_file(store: Store, hit: InSnapshot, path: str, target: Path, wanted: Wanted) -> None:
    source = store.file(hit.digest, path)
    if in_file(source, wanted):
        raise DataError(
            f"{path} holds what is looked for, and nobody here knows how to take it out of such a file.",
            where=f"snapshot {short(hit.digest)}",
            mend="Nothing was changed. Prepare again without the rows, and remove that snapshot.",
        )
    copyfile(source, target)
