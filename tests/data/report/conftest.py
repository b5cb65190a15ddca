"""A small snapshot with a little of everything, and its page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from budwood.data.report.make import Facts, make_facts
from budwood.data.report.page.render import render
from budwood.identity import Digest
from budwood.prepare.run import prepare
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.store import Store, open_store


class Reader(HTMLParser):
    """Collects tags and attributes; complains of tags that are not closed in order."""

    VOID = frozenset({"meta", "link", "line", "rect", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag not in ("b", "code", "strong", "span", "mark", "small"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@dataclass(frozen=True)
class Bench:
    """A folder with sources and a store beside it."""

    folder: Path
    store: Store

    def write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="utf-8", newline="\n")
        return path

    def recipe(self, *sources: str | Mapping[str, Any], name: str = "support", **section: Any) -> Recipe:
        listed = [{"path": source} if isinstance(source, str) else dict(source) for source in sources]
        return recipe_from_mapping({"name": name, "source": listed, "prepare": section}, folder=self.folder)

    def prepare(self, recipe: Recipe, *, tokens: bool = True, context: int = 0) -> Digest:
        def words(messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> int:
            return sum(len(message["content"].split()) for message in messages)

        return prepare(recipe, self.store, token_length=words if tokens else None, context=context, processes=1)

    def page(self, digest: Digest, **given: Any) -> tuple[Facts, str]:
        facts = make_facts(self.store, digest, **given)
        return facts, render(facts)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "data"
    folder.mkdir()
    with open_store(tmp_path / "project") as store:
        yield Bench(folder, store)


TOPICS = ("card", "loan", "transfer", "account", "refund", "branch", "fee", "limit")
VERBS = ("lost", "blocked", "delayed", "opened", "charged", "closed", "missing", "frozen")


def questions(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows that are not near each other; every fourth of another topic."""
    return [
        {
            "prompt": f"{n * 7919 % 9973} {VERBS[n % 8]} {TOPICS[n * 3 % 8]} since day {n * n % 997}, what now {n * 31 % 89}?",
            "completion": ("pay", "wait", "call")[n % 3],
            "channel": ("web", "app")[n % 2],
        }
        for n in range(start, start + count)
    ]
