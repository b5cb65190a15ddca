"""The snapshot as Croissant 1.1 with its RAI extension (JSON-LD), for catalogues and loaders that read it.

It names the row files by digest and describes their fields as they are, nested ones included. What belongs to an act of
publishing is left out on purpose, though the format asks for it: "url", "creator" and "datePublished" are no properties of the
content, and two machines that prepare the same data must make the same object. Whoever publishes a snapshot adds the three.
Formats: http://mlcommons.org/croissant/1.1, http://mlcommons.org/croissant/RAI/1.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from budwood.prepare.row import SPLITS
from budwood.prepare.stated import limits, personal_data

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
_TERMS = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field"),
    *("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "readLines", "recordSet", "references", "regex", "sdVersion", "separator", "source", "subField"),
    *("transform", "unArchive", "value"),
)
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "http://schema.org/",
    "sc": "http://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {term: f"cr:{term}" for term in _TERMS}
_SPLIT_TYPES = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}


@dataclass(frozen=True)
class _Field:
    """A key of a row: `many` where it holds a list, `parts` what an object in it holds."""

    key: str
    kind: str
    description: str
    many: bool = False
    parts: tuple["_Field", ...] = ()


_FUNCTION = _Field("name", "sc:Text", "Name of the function")
_CALLS = _Field(
    "tool_calls",
    "",
    "Functions that an answer calls; absent where it calls none",
    many=True,
    parts=(
        _Field("id", "sc:Text", "The call's id, where one was given"),
        _Field("type", "sc:Text", "function"),
        _Field(
            "function", "", "The call itself", parts=(_FUNCTION, _Field("arguments", "sc:Text", "Arguments, a JSON object"))
        ),
    ),
)
_TOOLS = _Field(
    "tools",
    "",
    "Functions that answers may call; absent in rows that offer none",
    many=True,
    parts=(
        _Field("type", "sc:Text", "function"),
        _Field(
            "function",
            "",
            "The function's schema",
            parts=(
                _FUNCTION,
                _Field("description", "sc:Text", "What it does, where that is said"),
                _Field("parameters", "sc:Text", "JSON Schema of its arguments, a JSON object; absent where it has none"),
            ),
        ),
    ),
)
_PARTS = (
    _Field("role", "sc:Text", "Who speaks: system, user, assistant or tool"),
    _Field("content", "sc:Text", "The text; empty beside calls that say it all"),
    _CALLS,
    _Field("tool_call_id", "sc:Text", "Of a tool's result: id of the call, where one was given"),
    _Field("name", "sc:Text", "Of a tool's result: name of the function, where one was given"),
)
_TRAIN = _Field("train", "sc:Boolean", "false: an answer that is not learnt; absent: true")
_MESSAGES = _Field("messages", "", "The conversation, in order", many=True, parts=(*_PARTS, _TRAIN))
_REDACTED = _Field("messages", "", "The conversation, redacted; absent where raw is there", many=True, parts=_PARTS)
_ROW_ID = _Field("row_id", "sc:Text", "Digest of source file and line, 16 hexadecimal digits")
_SOURCE = _Field(
    "source",
    "",
    "Where the row stood",
    parts=(
        _Field("file", "sc:Text", "Source file as the recipe names it"),
        _Field("sha256", "sc:Text", "Digest of its bytes"),
        _Field("line", "sc:Integer", "Line, or in JSON and Parquet number of the record"),
    ),
)
_TOUCHED = _Field(
    "touched",
    "",
    "What rules did to the row",
    many=True,
    parts=(
        _Field("rule", "sc:Text", "The rule"),
        _Field("kind", "sc:Text", "changed or flagged"),
        _Field("reason", "sc:Text", "Why, in words that quote nothing of the row"),
    ),
)


def croissant(body: Mapping[str, Any], files: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Describe a snapshot; `files` is name → sha256 and size in bytes of the row files."""
    counts = body["counts"]
    description = (
        f"{counts['kept']} prepared rows for supervised fine-tuning: {counts['train']} train, "
        f"{counts['validation']} validation, {counts['test']} test; {counts['rejected']} of {counts['read']} rejected."
    )
    card: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": body["name"],
        "description": description,
        "isLiveDataset": False,
        "distribution": [_file(name, *facts) for name, facts in files.items()],
        "recordSet": [_splits(), *(_record_set(name, body) for name in files)],
        "prov:wasDerivedFrom": [*map(_origin, body["sources"]), *_earlier(body)],
    }
    return card | {key: value for key, value in _optional(body).items() if value}


def _optional(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is said only where somebody has said it, and the RAI properties."""
    return {
        "license": sorted({source["licence"] for source in body["sources"] if source["licence"]}),
        "rai:dataCollection": "; ".join(_said(body, "origin")),
        "rai:dataCollectionRawData": "; ".join(
            f"{source['path']}: {source['rows']} rows, {source['layout']}" for source in body["sources"]
        ),
        "rai:dataPreprocessingProtocol": [*_said(body, "cleaning"), *_rules(body["rules"])],
        "rai:dataAnnotationProtocol": "; ".join(_said(body, "labelling")),
        "rai:dataLimitations": list(limits(body)),
        "rai:personalSensitiveInformation": [personal_data(body["rules"])],
        "rai:dataUseCases": ["Supervised fine-tuning: train is learnt, validation is for choices, test for the gate alone."],
    }


def _said(body: Mapping[str, Any], key: str) -> list[str]:
    return [f"{source['path']}: {source[key]}" for source in body["sources"] if source[key]]


def _rules(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        did = ", ".join(f"{rule[verb]} rows {verb}" for verb in ("changed", "dropped", "flagged") if rule[verb])
        yield f"rule {rule['name']} {rule['version']}: {did or 'nothing found'}"


def _origin(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"@type": "prov:Entity", "name": source["path"], "sha256": source["sha256"]}


def _earlier(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name the snapshot whose splits were kept."""
    return [{"@type": "prov:Entity", "@id": f"urn:sha256:{body['onto']}"}] if body["onto"] else []


def _file(name: str, sha256: str, size: int) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": "application/jsonlines",
        "sha256": sha256,
    }


def _splits() -> dict[str, Any]:
    """The three splits as the format names them."""
    fields = (("name", "sc:Text"), ("url", "cr:Split"))
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "dataType": kind} for name, kind in fields],
        "data": [{"splits/name": split, "splits/url": _SPLIT_TYPES[split]} for split in SPLITS],
    }


def _record_set(file: str, body: Mapping[str, Any]) -> dict[str, Any]:
    stem = file.removesuffix(".jsonl")
    fields = _rejected_fields(body) if stem == "rejected" else _kept_fields(body)
    rows = body["counts"][stem]
    return {
        "@type": "cr:RecordSet",
        "@id": stem,
        "name": stem,
        "description": f"{rows} rows" + (", out with rule and reason" if stem == "rejected" else ""),
        "key": {"@id": f"{stem}/row_id"},
        "field": [_field(field, stem, "$", file) for field in fields],
    }


def _kept_fields(body: Mapping[str, Any]) -> Iterator[_Field]:
    yield from (_ROW_ID, _MESSAGES, _TOOLS, _SOURCE)
    yield _Field("group", "sc:Text", "Rows of one group lie in one split")
    yield _Field("split", "sc:Text", "train, validation or test")
    yield from _columns(body, "The other columns of its record")
    yield _Field("weight", "sc:Float", "How often the sampler takes the row, against others")
    if body["lengths"]:
        yield _Field("tokens", "sc:Integer", "Length after the base's chat template")
    yield _TOUCHED


def _columns(body: Mapping[str, Any], description: str) -> Iterator[_Field]:
    names = dict.fromkeys(name for source in body["sources"] for name in source["slices"])
    if names:
        # A column's values need not be of one type: rows come from several files.
        parts = tuple(_Field(name, "sc:Text", "Column of that name, a plain value") for name in names)
        yield _Field("slices", "", description, parts=parts)


def _rejected_fields(body: Mapping[str, Any]) -> Iterator[_Field]:
    yield from (_ROW_ID, _SOURCE)
    yield _Field("rule", "sc:Text", "Rule that rejected the row")
    yield _Field("reason", "sc:Text", "Why")
    yield _Field("raw", "sc:Text", "Text of a record that could not be read, redacted; absent otherwise")
    if "selection" not in body:
        yield from (_REDACTED, _TOOLS)
        yield from _columns(body, "The other columns of its record, redacted; absent where it has none or raw is there")
        return
    # Rows that a selection left out stand there as they were when they were kept.
    given = ("row_id", "source")
    yield from (field for field in _kept_fields(body) if field.key not in given)


def _field(field: _Field, above: str, path: str, file: str) -> dict[str, Any]:
    # Ids are IRIs; a column may be called anything.
    here = f"{above}/{quote(field.key, safe='')}"
    inner = f"{path}{_step(field.key)}" + ("[*]" if field.many else "")
    given: dict[str, Any] = {"@type": "cr:Field", "@id": here, "name": field.key, "description": field.description}
    if field.many:
        given["isArray"] = True
    if field.parts:
        return given | {"subField": [_field(part, here, inner, file) for part in field.parts]}
    source = {"fileObject": {"@id": file}, "extract": {"jsonPath": inner}}
    references = {"references": {"@id": "splits/name"}} if field.key == "split" else {}
    return given | {"dataType": field.kind, "source": source} | references


def _step(key: str) -> str:
    """A key in JSONPath; one that is no plain word is quoted."""
    quoted = key.replace("\\", "\\\\").replace("'", "\\'")
    return f".{key}" if key.isidentifier() and key.isascii() else f"['{quoted}']"
