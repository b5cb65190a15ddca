"""Small recipes over small files, and what came of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from budwood.identity import Digest
from budwood.prepare.row import TokenLength
from budwood.prepare.run import prepare
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.store import Store, open_store

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Snapshot:
    """A stored snapshot, read back."""

    digest: Digest
    body: Mapping[str, Any]
    rows: Mapping[str, list[dict[str, Any]]]
    rejected: list[dict[str, Any]]

    @property
    def kept(self) -> list[dict[str, Any]]:
        return [row for split in SPLITS for row in self.rows[split]]

    def reasons(self) -> dict[int, tuple[str, str]]:
        return {row["source"]["line"]: (row["rule"], row["reason"]) for row in self.rejected}


@dataclass(frozen=True)
class Bench:
    """A folder with sources, a store beside it, and the stage."""

    folder: Path
    store: Store

    def write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (self.folder / name).write_text(text, encoding="utf-8", newline="\n")
        return name

    def recipe(self, *sources: str | Mapping[str, Any], **section: Any) -> Recipe:
        listed = [{"path": source} if isinstance(source, str) else dict(source) for source in sources]
        return recipe_from_mapping({"name": "test", "source": listed, "prepare": section}, folder=self.folder)

    def prepare(
        self,
        *sources: str | Mapping[str, Any],
        onto: Digest | None = None,
        token_length: TokenLength | None = None,
        context: int = 0,
        processes: int = 0,
        **section: Any,
    ) -> Snapshot:
        recipe = self.recipe(*sources, **section)
        digest = prepare(recipe, self.store, token_length=token_length, context=context, onto=onto, processes=processes)
        return self.read(digest)

    def read(self, digest: Digest) -> Snapshot:
        lines = {name: read_lines(self.store.file(digest, f"{name}.jsonl")) for name in (*SPLITS, "rejected")}
        return Snapshot(digest, self.store.manifest(digest).body, lines, lines.pop("rejected"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "data"
    folder.mkdir()
    with open_store(tmp_path / "project") as store:
        yield Bench(folder, store)
