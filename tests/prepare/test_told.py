"""Languages are told once: counted in calls of the detector, and held to what is kept and what is not."""

from typing import Any

import pytest
from tests.prepare.conftest import Bench, Snapshot

from budwood.data.forget import forget, make_wanted
from budwood.prepare.told import name
from budwood.text import languages

GERMAN = "Wo bleibt denn meine Bestellung, ich warte schon seit drei Tagen darauf"
PHONE = "please call me back about the broken kettle on +49 170 5550143 as soon as you can"
LINES = [
    "I would like to know where the parcel with my new kettle has gone",
    "the invoice that you sent does not show the discount you promised",
    "nobody has answered my letter about the garden chairs for two weeks",
    "can the delivery be left with the neighbours in the house next door",
]


def rows() -> list[dict[str, str]]:
    said = [{"prompt": line, "completion": f"Thank you for asking, here is what we know of it: {line[::2]}."} for line in LINES]
    return [
        *said,
        {"prompt": GERMAN, "completion": "Sie kommt am Montag bei Ihnen an."},
        {"prompt": PHONE, "completion": "Yes."},
    ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    tell = languages.language

    def counted(text: str) -> str:
        calls.append(text)
        return tell(text)

    monkeypatch.setattr(languages, "language", counted)
    return calls


def made(bench: Bench, lines: list[dict[str, str]], **keys: Any) -> Snapshot:
    section: dict[str, Any] = {"language": "drop", "languages": ["en"], "validation": 0.0, "test": 0.0} | keys
    return bench.prepare(bench.write("rows.jsonl", lines), **section)


def test_a_second_run_tells_new_texts_only_and_gives_the_same(bench: Bench, asked: list[str]) -> None:
    first = made(bench, rows())
    told, expected = set(asked), {row["source"]["line"] for row in first.rejected}
    assert GERMAN in told
    assert expected == {5}
    asked.clear()
    again = made(bench, rows(), near_duplicate=0.81)
    # What was redacted is not kept, so it is told again.
    assert asked == [PHONE]
    assert {row["source"]["line"] for row in again.rejected} == expected
    asked.clear()
    made(bench, [*rows(), {"prompt": "when does the shop by the old bridge open on Sundays", "completion": "Yes."}])
    assert [text for text in asked if text != PHONE] == ["when does the shop by the old bridge open on Sundays"]


def test_the_snapshot_does_not_depend_on_what_was_told_before(bench: Bench, asked: list[str]) -> None:
    first = made(bench, rows())
    asked.clear()
    assert made(bench, rows()).digest == first.digest
    assert len(asked) == 1


def test_no_text_is_kept_and_forgotten_rows_take_the_file_with_them(bench: Bench) -> None:
    snapshot = made(bench, rows())
    (path,) = bench.store.cached(name())
    data = path.read_bytes()
    assert path.parent.name == snapshot.digest
    # Not the text that was redacted, nor the answer to the German one, which nobody looked at.
    assert len(data) == 12 + 18 * (2 * len(rows()) - 2)
    assert not any(word.encode() in data for line in LINES for word in line.split() if len(word) > 3)
    assert forget(bench.store, make_wanted(texts=["garden chairs"]), who="anna", reason="asked to").is_complete
    assert not bench.store.cached(name())


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_not_read(bench: Bench, asked: list[str], damage: str) -> None:
    made(bench, rows())
    (path,) = bench.store.cached(name())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": bytes(data[:-5]), "changed": bytes(data), "emptied": b""}[damage])
    calls = len(asked)
    made(bench, rows(), near_duplicate=0.81)
    assert len(asked) == 2 * calls


def test_another_detector_begins_anew(bench: Bench, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made(bench, rows())
    calls = len(asked)
    monkeypatch.setattr(languages, "VERSION", languages.VERSION + 1)
    name.cache_clear()
    made(bench, rows(), near_duplicate=0.81)
    assert len(asked) == 2 * calls
    name.cache_clear()


def test_it_is_the_same_with_several_processes(bench: Bench, asked: list[str]) -> None:
    first = made(bench, rows(), processes=2)
    asked.clear()
    made(bench, rows(), near_duplicate=0.81)
    assert asked == [PHONE]
    assert made(bench, rows()).digest == first.digest
