"""IFD is what transformers' own model gives, one row at a time; what was computed once is never computed again."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.selection.conftest import Desk, sums

from budwood.data.rows import kept_rows
from budwood.data.scores import Judge, score
from budwood.data.scores import ifd as module
from budwood.data.scores.ifd import ifd
from budwood.data.scores.kept import _RECORD
from budwood.engine import row_losses as losses_module
from budwood.errors import DataError
from budwood.events import silent
from budwood.store import Store


def plain_ifd(folder: Path, messages: list[dict[str, Any]]) -> float:
    """By the model's own forward pass in float32: no packing, no cache, a row of one answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    loader: Any = AutoModelForCausalLM
    model = loader.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def mean_loss(before: list[int], answer: list[int]) -> float:
        with torch.no_grad():
            logits = model(torch.tensor([before + answer])).logits[0, len(before) - 1 : -1]
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer)))

    answer = ids(messages[-1]["content"] + "<|im_end|>")
    asked = "".join(f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages[:-1])
    opening = "<|im_start|>assistant\n"
    return mean_loss(ids(asked + opening), answer) / mean_loss(ids(f"<|im_start|>user\n<|im_end|>\n{opening}"), answer)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each pass took."""
    passes: list[int] = []
    real = losses_module.row_losses

    def counting(model: Any, rows: Any, device: Any = "cpu") -> list[float]:
        passes.append(len(rows))
        return real(model, rows, device)

    monkeypatch.setattr(losses_module, "row_losses", counting)
    return passes


def scores(store: Store, snapshot: Any, judge: Judge) -> Iterator[float | str]:
    return ifd(store, snapshot, kept_rows(store, snapshot, ("train",)), judge, total=0, report=silent)


def test_ifd_is_what_transformers_gives(desk: Desk, judge: Judge, base_folder: Path) -> None:
    snapshot = desk.snapshot(sums(1, 16))
    found = score(desk.store, snapshot, by="ifd", judge=judge)
    wanted = [plain_ifd(base_folder, row["messages"]) for row in desk.read(snapshot, "train")]
    assert found.values == pytest.approx(wanted, rel=1e-5)
    assert len({round(value, 3) for value in wanted}) > 3, "the rows must not all score alike"
    assert found.values[found.order].tolist() == sorted(found.values, reverse=True)


def test_several_answers_each_stand_alone_and_count_together(desk: Desk, judge: Judge) -> None:
    turns = [("user", "4 and 4"), ("assistant", "8"), ("user", "9 and 1"), ("assistant", "it is 10")]
    messages = [{"role": role, "content": content} for role, content in turns]
    snapshot = desk.made_by_hand([{"messages": messages}])
    entry = module._entry(next(kept_rows(desk.store, snapshot, ("train",))), _Nothing(), judge)  # type: ignore[arg-type]
    prefix = judge.template.encode_prompt([{"role": "user", "content": ""}])
    assert [text.ids[: len(prefix)] == tuple(prefix) for text in entry.alone] == [True, True]
    assert [judge.template.decode(text.ids[len(prefix) :]) for text in entry.alone] == ["8", "it is 10"]
    assert entry.given is not None
    assert sum(entry.given.supervised) == sum(sum(text.supervised) for text in entry.alone)


class _Nothing:
    def find(self, key: bytes) -> None:
        return None


def test_a_second_run_does_not_load_the_base(desk: Desk, judge: Judge, counted: list[int]) -> None:
    snapshot = desk.snapshot(sums(1, 16))
    first = list(scores(desk.store, snapshot, judge))
    assert sum(counted) == 2 * len(first)
    counted.clear()
    again = replace(judge)
    assert list(scores(desk.store, snapshot, again)) == first
    assert not counted
    assert "read" not in again.__dict__


def test_another_snapshot_pays_for_its_new_rows_only(desk: Desk, judge: Judge, counted: list[int]) -> None:
    old = desk.snapshot(sums(1, 16))
    list(scores(desk.store, old, judge))
    counted.clear()
    new = desk.snapshot(sums(1, 20), onto=old)
    known = {row["row_id"] for row in desk.read(old, "train")}
    texts = [str(row["messages"]) for row in desk.read(old, "train")]
    fresh = [row for row in desk.read(new, "train") if str(row["messages"]) not in texts]
    list(scores(desk.store, new, judge))
    assert 0 < len(fresh) < len(known)
    assert sum(counted) == 2 * len(fresh)


def test_other_settings_are_other_scores(desk: Desk, judge: Judge, counted: list[int]) -> None:
    snapshot = desk.snapshot(sums(1, 10))
    first = list(scores(desk.store, snapshot, judge))
    counted.clear()
    list(scores(desk.store, snapshot, replace(judge, precision="bfloat16")))
    assert sum(counted) == 2 * len(first)


def test_an_interrupted_run_goes_on(desk: Desk, judge: Judge, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 1)
    snapshot = desk.snapshot(sums(1, 30))
    rows = len(desk.read(snapshot, "train"))
    cut = scores(desk.store, snapshot, judge)
    begun = list(islice(cut, 1))
    cut.close()  # type: ignore[attr-defined]  # a generator
    paid = sum(counted)
    assert 0 < paid < 2 * rows
    [file] = desk.store.cached(next(path.name for path in desk.store.cache(snapshot).iterdir()))
    with file.open("ab") as damaged:
        damaged.write(file.read_bytes()[: _RECORD.size - 5])
    counted.clear()
    whole = list(scores(desk.store, snapshot, judge))
    assert whole[:1] == begun
    assert sum(counted) == 2 * rows - paid
    assert file.stat().st_size == rows * _RECORD.size, "what a kill left half-written is gone"


def test_a_changed_record_is_computed_again(desk: Desk, judge: Judge, counted: list[int]) -> None:
    snapshot = desk.snapshot(sums(1, 10))
    first = list(scores(desk.store, snapshot, judge))
    [file] = desk.store.cache(snapshot).iterdir()
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    counted.clear()
    assert list(scores(desk.store, snapshot, judge)) == first
    assert sum(counted) == 2 * len(first)


def test_two_at_once_are_refused(desk: Desk, judge: Judge) -> None:
    snapshot = desk.snapshot(sums(1, 10))
    running = scores(desk.store, snapshot, judge)
    next(running)
    with pytest.raises(DataError, match="Another process is computing exactly these scores"):
        next(scores(desk.store, snapshot, judge))
    running.close()  # type: ignore[attr-defined]  # a generator


def test_rows_that_cannot_be_scored_are_counted_by_reason(desk: Desk, judge: Judge) -> None:
    def row(question: str | None, answer: str) -> dict[str, Any]:
        asked = [] if question is None else [{"role": "user", "content": question}]
        return {"messages": [*asked, {"role": "assistant", "content": answer}]}

    snapshot = desk.made_by_hand(
        [row("1 and 1", "it is 2"), row(None, "it is 2"), row("  ", "so"), row("2 and 2", " "), row("3", "x" * 60)]
    )
    found = score(desk.store, snapshot, by="ifd", judge=judge)
    assert found.order.tolist() == [0]
    assert found.why_unscored == {
        "Message 1 (assistant) is empty: the model would learn to say nothing": 1,
        "it has no prompt": 2,
        "it is longer than the base's context of 64 tokens": 1,
    }


def test_nothing_to_score_is_an_error(desk: Desk, judge: Judge) -> None:
    snapshot = desk.made_by_hand([{"messages": [{"role": "assistant", "content": "so"}]}])
    with pytest.raises(DataError) as error:
        score(desk.store, snapshot, by="ifd", judge=judge)
    assert error.value.what == "No row could be scored by ifd (1: it has no prompt)."


def test_no_base_is_an_error(desk: Desk) -> None:
    with pytest.raises(DataError) as error:
        score(desk.store, desk.snapshot(sums(1, 10)), by="ifd")
    assert str(error.value) == ("IFD needs a base that reads the rows. In --base.\n    Give one, e.g. --base seedling.")


def test_losses_go_with_their_snapshot(desk: Desk, judge: Judge) -> None:
    snapshot = desk.snapshot(sums(1, 10))
    list(scores(desk.store, snapshot, judge))
    folder = desk.store.cache(snapshot)
    assert list(folder.iterdir())
    desk.store.tombstone(snapshot, who="ben", reason="request 17")
    assert not folder.exists()
