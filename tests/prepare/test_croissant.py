"""The Croissant file, held to what version 1.1 of the format asks for, and to the rows that it describes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from budwood.identity import digest_file
from budwood.prepare.croissant import croissant

from .conftest import Bench, Snapshot

REQUIRED = {
    "@context",
    "@type",
    "conformsTo",
    "description",
    "license",
    "name",
    "url",
    "creator",
    "datePublished",
    "distribution",
}
"""Of a dataset, by the format (sections "Required" and "Modified and Added Properties")."""
PUBLISHERS = {"url", "creator", "datePublished"}
"""No properties of the content: whoever publishes a snapshot adds them."""
SCHEMA_ORG = {
    *("name", "description", "license", "distribution", "contentUrl", "contentSize", "encodingFormat", "sha256"),
    *("isBasedOn", "version", "url", "creator", "datePublished"),
}
ONE = ("rai:dataCollection", "rai:dataCollectionRawData", "rai:dataAnnotationProtocol")
MANY = ("rai:dataPreprocessingProtocol", "rai:dataLimitations", "rai:personalSensitiveInformation", "rai:dataUseCases")
"""RAI properties by how many values the extension lets them have."""
ATOMIC = {"sc:Text", "sc:Integer", "sc:Float", "sc:Boolean"}
FREE = ("arguments", "parameters")
"""Objects whose keys are a function's own."""


def call(number: int) -> dict[str, Any]:
    function = {"name": "weather", "arguments": json.dumps({"city": f"Town {number * 7}", "days": [1, 2]})}
    return {"id": f"c{number}", "type": "function", "function": function}


TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}}


def rows() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(9):
        asked = {"role": "user", "content": f"{'abcdefghi'[number] * 9} in town {number * 7}, what is it like?"}
        calls = {"role": "assistant", "content": "", "tool_calls": [call(number)]}
        told = {"role": "tool", "tool_call_id": f"c{number}", "name": "weather", "content": '{"sun": true}'}
        said = {"role": "assistant", "content": f"Sunny {number}.", "weight": 1}
        first = {"role": "assistant", "content": "A moment.", "weight": 0}
        made.append({"messages": [asked, calls, told, said], "tools": [TOOL], "my column": number})
        made.append({"messages": [asked | {"content": asked["content"] * 3}, first, asked, said], "channel": "web"})
    return [*made, made[0], {"messages": 7}]


def described(bench: Bench, **source: Any) -> tuple[Snapshot, dict[str, Any]]:
    name = bench.write("rows.jsonl", rows())
    stated = {"origin": "our desk", "licence": "CC0-1.0", "labelling": "by hand"} | source
    snapshot = bench.prepare({"path": name, **stated}, max_malformed=0.2, token_length=lambda messages, tools=(): 7)
    return snapshot, json.loads(bench.store.file(snapshot.digest, "croissant.json").read_text(encoding="utf-8"))


def test_every_required_property_is_there_but_those_of_publishing(bench: Bench) -> None:
    _, card = described(bench)
    assert REQUIRED - card.keys() == PUBLISHERS
    assert card["@type"] == "sc:Dataset"
    assert card["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert card["license"] == ["CC0-1.0"]
    assert all(isinstance(card[key], str) for key in ONE)
    assert all(isinstance(value, str) for key in MANY for value in card[key])


def test_what_nobody_stated_is_not_made_up(bench: Bench) -> None:
    _, card = described(bench, origin="", licence="", labelling="")
    assert {"license", "rai:dataCollection", "rai:dataAnnotationProtocol"} & card.keys() == set()


def test_files_are_named_with_digest_and_size(bench: Bench) -> None:
    snapshot, card = described(bench)
    files = {entry["@id"]: entry for entry in card["distribution"]}
    assert set(files) == {f"{name}.jsonl" for name in ("train", "validation", "test", "rejected")}
    for name, entry in files.items():
        path = bench.store.file(snapshot.digest, name)
        assert (entry["sha256"], entry["contentSize"]) == (digest_file(path), f"{path.stat().st_size} B")
        assert entry.keys() >= {"@type", "name", "contentUrl", "encodingFormat"}


def test_every_name_has_a_meaning_and_every_reference_an_end(bench: Bench) -> None:
    _, card = described(bench)
    context = card.pop("@context")
    assert [records.pop("data") for records in card["recordSet"] if "data" in records]
    ids: list[str] = []
    references: list[str] = []
    for node in nodes(card):
        for key in node:
            assert key.startswith("@") or key in context or key in SCHEMA_ORG or key.partition(":")[0] in context, key
        if "@id" in node:
            (references if node.keys() == {"@id"} else ids).append(node["@id"])
    assert len(set(ids)) == len(ids)
    assert set(references) - set(ids) == set()
    kinds = {kind for node in nodes(card) for kind in (node.get("@type"), node.get("dataType")) if kind}
    assert {kind.partition(":")[0] for kind in kinds} <= context.keys()


def test_fields_tell_where_they_are_and_of_what_kind(bench: Bench) -> None:
    _, card = described(bench)
    for records in card["recordSet"]:
        assert {records["key"]["@id"]} <= {field["@id"] for field in records["field"]}
        for field in nodes(records["field"]):
            if field.get("@type") == "cr:Field" and records["@id"] != "splits":
                assert ("subField" in field) != (field.get("dataType") in ATOMIC)
                assert ("subField" in field) != ("source" in field)
    assert {split["splits/name"] for split in card["recordSet"][0]["data"]} == {"train", "validation", "test"}


def test_a_row_holds_what_is_described_and_nothing_else(bench: Bench) -> None:
    snapshot, card = described(bench)
    seen: set[str] = set()
    for records in card["recordSet"][1:]:
        leaves = paths(records["field"])
        held = snapshot.rejected if records["@id"] == "rejected" else snapshot.rows[records["@id"]]
        assert held
        for row in held:
            for path, value in leaves_of(row):
                assert path in leaves, path
                assert types(leaves[path], value), (path, value)
                seen.add(path)
    wanted = {"$.messages[*].tool_calls[*].function.arguments", "$.tools[*].function.parameters", "$.messages[*].train"}
    assert wanted | {"$.raw", "$.tokens", "$.slices['my column']", "$.slices.channel"} <= seen


def test_rows_that_a_selection_left_out_are_described_as_they_were_kept(bench: Bench) -> None:
    snapshot, plain = described(bench)
    files = {"rejected.jsonl": ("ab", 1)}
    selected = croissant(dict(snapshot.body) | {"selection": {"by": "length"}}, files)
    (held,) = (records for records in selected["recordSet"] if records["@id"] == "rejected")
    (before,) = (records for records in plain["recordSet"] if records["@id"] == "rejected")
    names = [{field["name"] for field in records["field"]} for records in (before, held)]
    assert names[1] - names[0] == {"group", "split", "weight", "tokens", "touched"}
    assert names[0] <= names[1]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(inner)


def paths(fields: list[dict[str, Any]]) -> Mapping[str, str]:
    """Path of each leaf → its kind."""
    leaves = [field for field in nodes(fields) if "source" in field]
    return {field["source"]["extract"]["jsonPath"]: field["dataType"] for field in leaves}


def leaves_of(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and path.rpartition(".")[2] not in FREE:
        for key, inner in value.items():
            yield from leaves_of(inner, f"{path}.{key}" if key.isidentifier() else f"{path}['{key}']")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves_of(inner, f"{path}[*]")
    else:
        yield path, value


def types(kind: str, value: Any) -> bool:
    """Whether a value is of its declared kind; JSON objects and plain columns pass for text."""
    return {"sc:Integer": isinstance(value, int), "sc:Float": isinstance(value, float), "sc:Boolean": value is False}.get(
        kind, isinstance(value, str | dict | int)
    )
