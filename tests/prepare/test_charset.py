"""Encodings: converted where they can be told for certain, recorded at each row that they touched, and refused otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budwood.errors import DataError, RecipeError
from budwood.prepare.charset import Survey

GERMAN = ["Wo ist mein Paket, es wäre schön, wenn es käme?", "Die Größe paßt nicht – wie viel kostet der Umtausch, 5 €?"]
FRENCH = ["Où est mon colis commandé à Noël ? Ça m’a déçue.", "L’œuvre a été livrée abîmée, c’est gênant."]
SPANISH = ["¿Dónde está mi pedido? ¡Qué lástima, señor!", "El niño pidió más información."]
POLISH = ["Gdzie jest moja paczka? Chciałbym ją mieć, proszę.", "Źle się dzieje, łódź śpi."]
CZECH = ["Kde je můj balík? Příliš žluťoučký kůň úpěl.", "Děkuji, ještě čekám."]
RUSSIAN = ["Где моя посылка?", "Спасибо, я ещё жду."]
PLAIN = ["Where is my parcel with the kettle in it?", "And the invoice of it, where is that one?"]


def write(bench: Any, texts: list[str], encoding: str, *, escaped: bool = False) -> str:
    rows = [{"prompt": text, "completion": f"answer {place}"} for place, text in enumerate([*texts, *PLAIN])]
    text = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)
    (bench.folder / "rows.jsonl").write_bytes(text.encode(encoding))
    return "rows.jsonl"


@pytest.mark.parametrize("texts", [GERMAN, FRENCH, SPANISH])
def test_windows_1252_is_converted_and_recorded_at_each_row_that_it_touched(bench: Any, texts: list[str]) -> None:
    snapshot = bench.prepare(write(bench, texts, "cp1252"), validation=0.0, test=0.0, rules=["roles"])
    assert [row["messages"][0]["content"] for row in snapshot.kept] == [*texts, *PLAIN]
    changed = {"rule": "read", "kind": "changed", "reason": "decoded from cp1252"}
    assert [row["touched"] for row in snapshot.kept] == [[changed], [changed], [], []]
    assert snapshot.body["sources"][0]["encoding"] == "cp1252"
    assert next(rule for rule in snapshot.body["rules"] if rule["name"] == "read")["changed"] == 2


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8", "utf-8-sig"]
)
def test_encodings_of_unicode_are_told_by_mark_or_zeros(bench: Any, encoding: str) -> None:
    snapshot = bench.prepare(write(bench, GERMAN, encoding), validation=0.0, test=0.0, rules=["roles"])
    assert [row["messages"][0]["content"] for row in snapshot.kept] == [*GERMAN, *PLAIN]
    found = snapshot.body["sources"][0]["encoding"]
    assert found == ("utf-8" if encoding.startswith("utf-8") else encoding)
    assert bool(snapshot.kept[0]["touched"]) == (found != "utf-8")


@pytest.mark.parametrize(
    ("texts", "encoding", "said"),
    [
        (POLISH, "cp1250", "would spell no Western European language"),
        (CZECH, "cp1250", "would spell no Western European language"),
        (RUSSIAN, "cp1251", "would spell no Western European language"),
        (RUSSIAN, "koi8-r", "would spell no Western European language"),
        (["注文した商品はどこですか"], "shift_jis", "would spell no Western European language"),
        (["我的包裹在哪里"], "gb18030", "would spell no Western European language"),
        (["ÄÖÜ äöü ß" * 40], "cp1252", "too many accents"),
    ],
)
def test_what_cannot_be_told_is_refused_and_taken_when_stated(bench: Any, texts: list[str], encoding: str, said: str) -> None:
    name = write(bench, texts, encoding)
    with pytest.raises(DataError, match=said):
        bench.prepare(name)
    snapshot = bench.prepare({"path": name, "encoding": encoding}, validation=0.0, test=0.0, rules=["roles"])
    assert [row["messages"][0]["content"] for row in snapshot.kept] == [*texts, *PLAIN]


def test_a_file_of_two_encodings_is_refused(bench: Any) -> None:
    name = write(bench, GERMAN, "cp1252")
    with (bench.folder / name).open("ab") as file:
        file.write('{"prompt": "größer", "completion": "x"}\n'.encode())
    with pytest.raises(DataError, match=r"on line 1 \(offset .*\) begins no character\. Other places of it are UTF-8\."):
        bench.prepare(name)


def test_a_stated_encoding_that_the_bytes_are_not(bench: Any) -> None:
    name = write(bench, GERMAN, "cp1252")
    with pytest.raises(DataError, match=r"rows\.jsonl is not UTF-8: .* The recipe states that it is\."):
        bench.prepare({"path": name, "encoding": "utf-8"})
    with pytest.raises(RecipeError, match="There is no encoding 'cp9999'"):
        bench.prepare({"path": name, "encoding": "cp9999"})


@given(st.lists(st.text(max_size=20), max_size=8), st.integers(1, 7))
def test_utf_8_is_told_however_it_is_cut(texts: list[str], size: int) -> None:
    data = "\n".join(["x" * 8, *texts]).encode("utf-8", "replace")
    survey = Survey(data[:4096])
    for start in range(0, len(data), size):
        survey.add(data[start : start + size])
    if "\0" not in "".join(texts):
        assert survey.encoding("rows") == "utf-8"


@given(st.lists(st.sampled_from("aeiou nrst\n äöü"), min_size=200, max_size=300).map("".join), st.integers(1, 50))
def test_an_encoding_is_told_however_the_file_is_cut(text: str, size: int) -> None:
    data = ("plain words and more of them " * 20 + text + " größe").encode("cp1252")
    survey = Survey(data[:4096])
    for start in range(0, len(data), size):
        survey.add(data[start : start + size])
    assert survey.encoding("rows") == "cp1252"
