"""What makes a comparison impossible is found before training is paid for; a source that cannot be read, by its own stage."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from budwood import pipeline
from budwood.errors import BaseError, BudwoodError, DataError, EvaluationError, ReleaseError
from budwood.events import silent
from budwood.identity import digest_bytes
from budwood.pipeline import Job
from budwood.recipe import recipe_from_mapping
from budwood.store import Store, open_store

ANSWER = "It is on its way."
Jobs = Callable[..., Job]


class Template:
    """One token for each word."""

    digest = digest_bytes(b"template")

    def token_length(self, messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
        return sum(len(message["content"].split()) for message in messages)

    def token_lengths(self, rows: Sequence[tuple[Any, Any]]) -> list[int]:
        return [self.token_length(messages, tools) for messages, tools in rows]

    def answer_text(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        raise AssertionError("no row of these calls a tool")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def job(tmp_path: Path, store: Store) -> Jobs:
    """Make a job whose base has no folder: to plan or to train is an AttributeError."""
    rows = [{"prompt": f"{letter * 9} wants what?", "completion": f"{ANSWER} {letter}"} for letter in "abcdefghijklmnop"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**sections: Any) -> Job:
        mapping = {"name": "support", "source": [{"path": "rows.jsonl"}], "prepare": {"test": 0.5}}
        made = Job(recipe_from_mapping({**mapping, **sections}, folder=tmp_path), store, silent)
        identity = SimpleNamespace(context=0, tokenizer_digest=digest_bytes(b"tokenizer"), weights_digest="ours")
        made.__dict__["base"] = SimpleNamespace(identity=identity, template=Template(), ref=None)
        return made

    return make


def refused(job: Job, kind: type[BudwoodError]) -> str:
    texts = set()
    for stage in (pipeline.evaluate, pipeline.release, lambda job: pipeline.run(job, promote=True)):
        with pytest.raises(kind) as caught:
            stage(job)
        texts.add(str(caught.value))
    assert len(texts) == 1
    return texts.pop()


def test_no_test_rows(job: Jobs) -> None:
    assert "The snapshot has no test rows" in refused(job(prepare={"test": 0.0}), EvaluationError)


def test_a_schema_that_is_not_there(job: Jobs) -> None:
    text = refused(job(evaluate={"answer_schema": "nowhere.json"}), EvaluationError)
    assert "The answer schema 'nowhere.json' cannot be read" in text


def test_a_schema_that_is_none(job: Jobs, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"$ref": "file:///etc/hostname"}')
    text = refused(job(evaluate={"answer_schema": "schema.json"}), EvaluationError)
    assert "This is no JSON Schema: " in text
    assert "In [evaluate] answer_schema." in text


def test_a_primary_scorer_that_does_not_apply(job: Jobs) -> None:
    assert "'json_fields' applies to 0 of" in refused(job(evaluate={"primary": "json_fields"}), EvaluationError)


def test_a_live_release_of_another_base(job: Jobs, store: Store) -> None:
    body = {
        "snapshot": pipeline.prepare(job()),
        "result": {"kind": "adapter"},
        "base": {"id": "other", "weights_digest": "theirs"},
    }
    with store.draft("release") as draft:
        digest = draft.commit(body=body)
    store.add_release("support", digest, who="anna", reason="")
    store.move_alias("support", "production", digest, expect=None, who="anna", reason="")
    assert "stands on base other" in refused(job(), ReleaseError)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "x" * 5000, "a\0b", "rows.jsonl/deeper", "loop"])
def test_a_source_that_cannot_be_read_is_the_stages_own_error(job: Jobs, tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError) as caught:
        pipeline.prepare(job(source=[{"path": path}]))
    assert caught.value.where == "[[source]] path"
    with pytest.raises(DataError) as looked:
        pipeline.check_sources(job(source=[{"path": path}]).recipe)
    assert str(looked.value) == str(caught.value)


def test_a_source_that_may_not_be_read_is_the_stages_own_error(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def locked(path: Path, *arguments: Any, **options: Any) -> Any:
        # Root may read anything, so the refusal of the system is played.
        if path.name == "rows.jsonl":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(DataError, match=r"The source 'rows.jsonl' may not be read"):
        pipeline.prepare(job())


def test_rows_that_mean_the_same_are_found_by_the_model_that_the_recipe_names(job: Jobs, store: Store, tmp_path: Path) -> None:
    told = "tell me a story about a fox and a hen in the forest"
    rows = [f"Please {told}", f"Would you {told}, please?", "What does a stamp for a letter to France cost?"]
    lines = [json.dumps({"prompt": row, "completion": "Once."}) + "\n" for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    keys = {"validation": 0.0, "test": 0.0, "near_duplicate": 1.0}
    plain = pipeline.prepare(job(prepare=keys))
    asked = job(prepare=keys | {"semantic": {"model": "seedling", "threshold": 0.75}})
    found = pipeline.prepare(asked)
    rejected = [json.loads(line) for line in store.file(found, "rejected.jsonl").read_text().splitlines()]
    assert [(row["rule"], row["source"]["line"]) for row in rejected] == [("semantic_duplicate", 2)]
    assert pipeline.prepare(job(prepare=asked.recipe.prepare.model_dump())) == found
    assert pipeline.prepare(job(prepare=keys)) == plain
    kept = next(rule["options"] for rule in store.manifest(found).body["rules"] if rule["name"] == "semantic_duplicate")
    assert kept["model"] == "seedling"
    assert len(kept["identity"]) == 64


def test_another_embedding_model_prepares_anew(job: Jobs, tmp_path: Path) -> None:
    from budwood.pipeline.known import prepare_key
    from budwood.seedling import __file__ as seedling

    other = tmp_path / "other"
    shutil.copytree(Path(seedling).parent, other)
    one = prepare_key(job(prepare={"semantic": {"model": "other"}}), None)
    assert prepare_key(job(prepare={"semantic": {"model": "other"}}), None) == one
    config = other / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 9000.0'))
    assert prepare_key(job(prepare={"semantic": {"model": "other"}}), None) != one


@pytest.mark.parametrize(("model", "said"), [("./nowhere", "no base folder './nowhere'"), ("empty", "has no config.json")])
def test_an_embedding_model_that_cannot_be_used_is_named_with_its_key(job: Jobs, tmp_path: Path, model: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseError, match=said) as caught:
        pipeline.prepare(job(prepare={"semantic": {"model": model}}))
    assert caught.value.where.startswith("[prepare.semantic] model")
    assert repr(model) in caught.value.what
