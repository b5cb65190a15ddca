"""The snapshot as Croissant 1.1 (JSON-LD), for catalogues and loaders that read it.

It names the four row files by digest and describes their fields. The day of publication is left out on purpose: it is no
property of the content, and two machines that prepare the same data must make the same object.
"""

from collections.abc import Mapping
from typing import Any

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "recordSet": "cr:recordSet",
    "source": "cr:source",
}

_FIELDS = {
    "row_id": ("sc:Text", "$.row_id", "Digest of source file and line"),
    "messages": ("sc:Text", "$.messages", "The conversation: role and content of each message"),
    "source_file": ("sc:Text", "$.source.file", "Source file as the recipe names it"),
    "source_sha256": ("sc:Text", "$.source.sha256", "Digest of the source file"),
    "source_line": ("sc:Integer", "$.source.line", "Line, or number of the record, in the source file"),
    "group": ("sc:Text", "$.group", "Rows of one group lie in one split"),
    "split": ("sc:Text", "$.split", "train, validation or test"),
    "weight": ("sc:Float", "$.weight", "How often the sampler takes the row, against others"),
}
_REJECTED_FIELDS = {
    "row_id": _FIELDS["row_id"],
    "source_file": _FIELDS["source_file"],
    "source_line": _FIELDS["source_line"],
    "rule": ("sc:Text", "$.rule", "Rule that dropped the row"),
    "reason": ("sc:Text", "$.reason", "Why"),
}


def croissant(body: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Describe a snapshot; `files` is name → sha256 of the row files."""
    counts = body["counts"]
    licences = sorted({source["licence"] for source in body["sources"] if source["licence"]})
    description = (
        f"{counts['kept']} prepared rows for supervised fine-tuning: {counts['train']} train, "
        f"{counts['validation']} validation, {counts['test']} test; {counts['rejected']} of {counts['read']} rejected."
    )
    card: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": body["name"],
        "description": description,
        "isBasedOn": [{"@type": "sc:DataDownload", "name": s["path"], "sha256": s["sha256"]} for s in body["sources"]],
        "distribution": [_file(name, digest) for name, digest in files.items()],
        "recordSet": [_record_set(name) for name in files],
    }
    optional = {
        "license": licences,
        "rai:dataCollection": _said(body, "origin"),
        "rai:dataPreprocessingProtocol": _said(body, "cleaning"),
        "rai:dataAnnotationProtocol": _said(body, "labelling"),
    }
    return card | {key: value for key, value in optional.items() if value}


def _said(body: Mapping[str, Any], key: str) -> list[str]:
    return [f"{source['path']}: {source[key]}" for source in body["sources"] if source[key]]


def _file(name: str, digest: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": "application/jsonlines",
        "sha256": digest,
    }


def _record_set(name: str) -> dict[str, Any]:
    stem = name.removesuffix(".jsonl")
    fields = _REJECTED_FIELDS if stem == "rejected" else _FIELDS
    return {
        "@type": "cr:RecordSet",
        "@id": stem,
        "name": stem,
        "key": {"@id": f"{stem}/row_id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{stem}/{field}",
                "name": f"{stem}/{field}",
                "description": description,
                "dataType": kind,
                "source": {"fileObject": {"@id": name}, "extract": {"jsonPath": path}},
            }
            for field, (kind, path, description) in fields.items()
        ],
    }
