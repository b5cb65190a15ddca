"""A job on an empty store whose base is only what the pipeline asks of it: a context, digests, and prompts as long as said."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from budwood.events import Event
from budwood.identity import Digest, digest_bytes
from budwood.pipeline.job import Job
from budwood.recipe import recipe_from_mapping
from budwood.store import Store, open_store


class Template:
    """One token for each letter of the question."""

    digest, stop_ids = digest_bytes(b"template"), (0,)

    def encode_prompt(self, messages: Sequence[dict[str, str]], tools: Sequence[Any] = ()) -> list[int]:
        return [1] * sum(len(message["content"]) for message in messages)


@dataclass
class Desk:
    """A job, and what it has said."""

    job: Job
    store: Store
    events: list[Event] = field(default_factory=list)

    @property
    def said(self) -> list[str]:
        return [event.message for event in self.events]

    def snapshot(self, validation: Sequence[int] = (), train: Sequence[int] = (), **parts: Any) -> Digest:
        """Store a snapshot of rows whose questions have these lengths."""
        with self.store.draft("snapshot") as draft:
            for split, lengths in (("validation", validation), ("train", train)):
                lines = [json.dumps({"messages": [{"content": "x" * length}, {"content": "answer"}]}) for length in lengths]
                (draft.folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines))
            return draft.commit(**parts)

    def release(self, snapshot: Digest) -> Digest:
        with self.store.draft("release") as draft:
            digest = draft.commit(parents=[snapshot], body={"snapshot": snapshot})
        self.store.add_release("support", digest, who="anna", reason="")
        return digest


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    mapping = {"name": "support", "source": [{"path": "rows.jsonl"}], "release": {"probes": 2, "probe_tokens": 4}}
    events: list[Event] = []
    with open_store(tmp_path / "store") as store:
        job = Job(recipe_from_mapping(mapping, folder=tmp_path), store, events.append)
        identity = SimpleNamespace(context=10, tokenizer_digest=digest_bytes(b"tokenizer"))
        job.__dict__["base"] = SimpleNamespace(identity=identity, template=Template(), ref=None)
        yield Desk(job, store, events)
