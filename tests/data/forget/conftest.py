"""A store in which a person's words are everywhere that they can be: rows, reports, pages, token tables, golden probes."""

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from budwood.engine.base import BaseRef, load_tokenizer
from budwood.engine.packed import Encoded
from budwood.engine.probes import Probe, ProbeSet
from budwood.evaluate.run import Subject, evaluate
from budwood.evaluate.score import AnswerRecord
from budwood.evaluate.suite import Case, Decoding, make_suite
from budwood.identity import Digest
from budwood.pipeline.job import Job
from budwood.prepare.run import prepare
from budwood.recipe import Recipe, recipe_from_mapping
from budwood.seedling import __file__ as seedling
from budwood.store import Kind, Store, open_store
from budwood.train.rows import TrainRow
from budwood.train.table import write_table

NAME = "Zyxomorph Quillfeather"
SPLITS = ("train", "validation", "test")
WORDS = ("amber", "basil", "cedar", "dune", "ember", "fern", "grove", "heath", "iris", "kelp", "moss", "oak")


def question(number: int) -> str:
    """Words that no other question shares five of in a row."""
    draw = random.Random(number)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(90)}" for _ in range(12))


def ticket(number: int) -> dict[str, Any]:
    """Every fourth is of the person, whose words stand in the question."""
    of_person = number % 4 == 0
    said = f"My name is {NAME.upper() if number % 8 else NAME}, {question(number)}?" if of_person else f"{question(number)}?"
    customer = "C-4711" if of_person else f"C-{number}"
    return {"prompt": said, "completion": f"It is {question(number + 1000)}", "customer": customer, "channel": "mail"}


@dataclass
class House:
    """A folder with sources, a store, and what was made of them."""

    folder: Path
    store: Store
    made: dict[str, Digest] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        mapping = {
            "name": "support",
            "source": [{"path": "rows.jsonl"}],
            "prepare": {"validation": 0.2, "test": 0.3, "near_duplicate": 0.9, "max_malformed": 0.5},
            "evaluate": {"primary": "exact", "scorers": ["exact"], "slice_by": ["channel"]},
        }
        return recipe_from_mapping(mapping, folder=self.folder)

    def put(self, kind: Kind, files: Mapping[str, bytes] | None = None, **parts: Any) -> Digest:
        with self.store.draft(kind) as draft:
            for name, data in (files or {}).items():
                (draft.folder / name).write_bytes(data)
            return draft.commit(**parts)

    def prepare(self, *, onto: Digest | None = None) -> Digest:
        def length(messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> int:
            return sum(len(str(message["content"]).split()) for message in messages)

        return prepare(self.recipe, self.store, token_length=length, context=500, onto=onto)

    def rows(self, snapshot: Digest, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(snapshot, name)]

    def lines(self, snapshot: Digest, name: str) -> list[bytes]:
        return self.store.file(snapshot, f"{name}.jsonl").read_bytes().splitlines(keepends=True)

    def report(self, snapshot: Digest, kind: Any, subject: Digest, output: Callable[[Case], str]) -> Digest:
        def answer(cases: Sequence[Case], decoding: Decoding, progress: Callable[[int, int], None]) -> list[AnswerRecord]:
            return [AnswerRecord(output(case), "stop", 5, 0.1, 0.4) for case in cases]

        suite = make_suite(self.recipe, self.store, snapshot)
        return evaluate(self.recipe, self.store, snapshot, suite, Subject(kind, subject, "none", "float32"), answer=answer)

    def release(self, probes: ProbeSet, **body: Any) -> Digest:
        made = self.made
        values = {
            "name": "support",
            "base": {"id": "seedling", "object": made["base"], "weights_digest": "ab" * 32},
            "result": {"kind": "adapter", "digest": made["adapter"]},
            "snapshot": made["snapshot"],
            "report": made["report"],
            "run": made["run"],
            "verdict": {"verdict": "PROMOTE", "candidate": made["report"], "champion_subject": None, "reasons": []},
            **body,
        }
        files = {
            "release.json": json.dumps(values).encode(),
            "probes.json": probes.encode(),
            "template.jinja": b"{{ messages }}",
        }
        parents = [made[key] for key in ("base", "adapter", "snapshot", "report", "run")]
        digest = self.put("release", files, parents=parents, body=values)
        self.store.add_release("support", digest, who="anna", reason="")
        return digest

    def job(self) -> Job:
        return Job(self.recipe, self.store, lambda event: None)

    def everything(self) -> dict[str, bytes]:
        """Every byte of the store's folder."""
        return {
            path.relative_to(self.store.root).as_posix(): path.read_bytes()
            for path in sorted(self.store.root.rglob("*"))
            if path.is_file() and self.store.root / "tmp" not in path.parents
        }


def tokens_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


TOKENIZER = load_tokenizer(BaseRef("seedling", Path(seedling).parent, None))


def probe(text: str) -> Probe:
    return Probe(tokens_of(text), (5, 6), (-0.1, -0.2), 1.0, 0.5, 0.4)


def build(folder: Path) -> House:
    """Make the house: 80 tickets, duplicates, an empty answer, a broken line; a run, two reports, a page, a release."""
    data = folder / "data"
    data.mkdir(parents=True)
    tickets = [ticket(number) for number in range(80)]
    tickets += [ticket(0), {**ticket(4), "completion": ""}, {**ticket(5), "completion": ""}]
    lines = [json.dumps(row) for row in tickets] + ['{"prompt": "broken ' + NAME]
    (data / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    house = House(data, open_store(folder / "store"))
    store, made = house.store, house.made
    made["base"] = house.put("base", body={"id": "seedling", "weights_digest": "ab" * 32})
    store.attest(made["base"], {"folder": str(Path(seedling).parent)})
    made["snapshot"] = snapshot = house.prepare()
    store.record(store.action("prepare", 1, {}, [], 0), snapshot)
    _train(house)
    made["adapter"] = house.put("adapter", {"adapter_model.safetensors": b"\x00\x01"}, parents=[made["base"]])
    made["run"] = house.put(
        "run",
        {"curves.jsonl": b'{"step": 1, "loss": 1.5}\n'},
        parents=[snapshot, made["base"], made["adapter"]],
        body={"method": "lora", "steps": 1, "result": made["adapter"]},
    )
    made["report"] = house.report(snapshot, "adapter", made["adapter"], lambda case: case.expected)
    made["baseline"] = house.report(snapshot, "base", made["base"], lambda case: f"{case.messages[-1]['content']}, you said")
    store.attach(made["report"], "report.html", f"<p>{NAME} &amp; others</p>".encode())
    validation = [row["messages"][-2]["content"] for row in house.rows(snapshot, "validation")]
    mine = [text for text in validation if NAME.lower() in text.lower()]
    others = [text for text in validation if NAME.lower() not in text.lower()]
    probes = ProbeSet(0.01, 0.003, tuple(probe(text) for text in (mine[0], others[0], others[1])), {"bfloat16": 0.003})
    (store.work("ab" * 32) / "probes.json").write_bytes(probes.encode())
    made["release"] = house.release(probes)
    return house


def _train(house: House) -> None:
    """Leave the tokens that a training leaves."""
    snapshot = house.made["snapshot"]
    for split in ("train", "validation"):
        rows = []
        for row in house.rows(snapshot, split):
            ids = tokens_of(row["messages"][-2]["content"])
            rows.append(TrainRow(Encoded(ids, (True,) * len(ids)), row["row_id"], "rows.jsonl", row["source"]["line"], 1.0))
        write_table(house.store.cache(snapshot) / split, rows)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Digest]]:
    """A house as it is made, to be copied."""
    folder = tmp_path_factory.mktemp("house")
    made = build(folder)
    made.store.close()
    return folder, made.made


@pytest.fixture
def house(built: tuple[Path, dict[str, Digest]], tmp_path: Path) -> Iterator[House]:
    folder, made = built
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with open_store(tmp_path / "store") as store:
        yield House(tmp_path / "data", store, dict(made))
