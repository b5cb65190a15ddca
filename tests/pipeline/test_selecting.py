"""Arms of a selection: each trained on its own snapshot, all compared on the same validation rows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.tiny import GROUPED, Case, save_tiny

from budwood.data.scores import score
from budwood.data.select import parse_top, select
from budwood.errors import DataError
from budwood.events import silent
from budwood.pipeline import Job, prepare
from budwood.pipeline.selecting import train_arms
from budwood.recipe import recipe_from_mapping
from budwood.store import open_store


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    rows = [{"prompt": f"{i} and {i * 7 % 50}", "completion": f"it is {i + i * 7 % 50}"} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = save_tiny(tmp_path / "base", Case("llama", "llama", GROUPED | {"vocab_size": 112}))
    mapping = {
        "name": "sums",
        "base": {"id": str(base)},
        "source": [{"path": "rows.jsonl"}],
        "prepare": {"near_duplicate": 1.0, "validation": 0.2, "test": 0.2},
        "train": {"method": "lora", "rank": 2, "alpha": 4, "epochs": 1, "learning_rate": 0.01, "tokens_per_step": 128}
        | {"tokens_per_pass": 128, "validations": 1},
    }
    with open_store(tmp_path / "store") as store:
        yield Job(recipe_from_mapping(mapping, folder=tmp_path), store, silent)


def test_arms_have_the_losses_that_their_trainings_measured(job: Job) -> None:
    parent = prepare(job)
    made = select(job.store, parent, score(job.store, parent, by="length"), parse_top("40%"))
    drawn = select(job.store, parent, score(job.store, parent, by="random"), parse_top(str(made.kept)))
    arms = train_arms(job, {"full": parent, "selected": made.digest, "random": drawn.digest})
    by_name = {arm.name: arm for arm in arms.arms}
    counts = job.store.manifest(parent).body["counts"]
    assert [by_name[name].rows for name in ("full", "selected", "random")] == [counts["train"], made.kept, made.kept]
    assert arms.validation_rows == counts["validation"]
    for arm in arms.arms:
        manifest = job.store.manifest(arm.run)
        assert arm.snapshot in manifest.parents
        assert arm.loss == pytest.approx(manifest.body["validation_loss"], rel=1e-5)
    assert len({round(arm.loss, 6) for arm in arms.arms}) == 3
    for one in arms.differences:
        assert one.arm == "selected"
        assert one.delta.mean == pytest.approx(by_name["selected"].loss - by_name[one.against].loss, abs=1e-9)
        assert one.delta.low <= one.delta.mean <= one.delta.high
        sign = "better" if one.delta.high < 0 else "worse" if one.delta.low > 0 else "no difference"
        assert sign in one.verdict
    assert {one.against for one in arms.differences} == {"full", "random"}
    again = train_arms(job, {"full": parent, "selected": made.digest})
    assert [arm.run for arm in again.arms] == [arm.run for arm in arms.arms[:2]]


def test_no_validation_rows_are_refused_before_anything_is_trained(job: Job) -> None:
    parent = prepare(job)
    with job.store.draft("snapshot") as draft:
        for name in ("train", "validation", "test", "rejected"):
            data = b"" if name == "validation" else job.store.file(parent, f"{name}.jsonl").read_bytes()
            (draft.folder / f"{name}.jsonl").write_bytes(data)
        bare = draft.commit(body={"name": "sums"})
    with pytest.raises(DataError, match="There are no validation rows"):
        train_arms(job, {"full": bare})
    assert not list(job.store.objects("run"))
