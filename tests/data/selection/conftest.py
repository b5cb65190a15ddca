"""A snapshot of short sums, a tiny base that can read them, and the store that holds the snapshot."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.engine.tiny import GROUPED, Case, save_tiny

from budwood.data.scores import Judge
from budwood.identity import Digest
from budwood.prepare.run import prepare
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.store import Store, open_store

FILES = ("train", "validation", "test", "rejected")
Row = Mapping[str, Any]


def sums(start: int, stop: int) -> list[Row]:
    return [{"prompt": f"{i} and {i * 7 % 50}", "completion": f"it is {i + i * 7 % 50}"} for i in range(start, stop)]


@dataclass(frozen=True)
class Desk:
    """A folder with a source, a store beside it."""

    folder: Path
    store: Store

    def recipe(self, rows: Sequence[Row], **section: Any) -> Recipe:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "rows.jsonl").write_text(text, encoding="utf-8", newline="\n")
        prepared = {"near_duplicate": 1.0, "validation": 0.2, "test": 0.2} | section
        return recipe_from_mapping(
            {"name": "sums", "source": [{"path": "rows.jsonl"}], "prepare": prepared}, folder=self.folder
        )

    def snapshot(self, rows: Sequence[Row], *, onto: Digest | None = None, **section: Any) -> Digest:
        def length(messages: list[dict[str, Any]], tools: Any = ()) -> int:
            return sum(len(message["content"]) for message in messages)

        return prepare(self.recipe(rows, **section), self.store, token_length=length, context=1000, onto=onto)

    def made_by_hand(self, rows: Sequence[Row]) -> Digest:
        """A snapshot whose train rows no rule has looked at."""
        with self.store.draft("snapshot") as draft:
            for name in FILES:
                lines = [
                    json.dumps(
                        {"row_id": f"row{i:03d}", "group": f"{i:x}", "source": {"file": "f", "sha256": "0", "line": i}, **row}
                    )
                    for i, row in enumerate(rows)
                    if name == "train"
                ]
                (draft.folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
            return draft.commit(body={"name": "hand", "counts": {"train": len(rows)}})

    def read(self, digest: Digest, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.store.file(digest, f"{name}.jsonl").read_bytes().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "data"
    folder.mkdir()
    with open_store(tmp_path / "store") as store:
        yield Desk(folder, store)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Room for every token of the tokenizer, the space included.
    return save_tiny(tmp_path_factory.mktemp("base"), Case("llama", "llama", GROUPED | {"vocab_size": 112}))


@pytest.fixture
def judge(base_folder: Path) -> Judge:
    return Judge.open(str(base_folder), start=Path(), tokens_per_pass=200)
