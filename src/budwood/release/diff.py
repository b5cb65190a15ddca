"""What differs between two releases: every bound part, the template's lines, the adapter's modules, the report's scores."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from budwood.engine.probes import read_probes
from budwood.identity import Digest
from budwood.release.show import adapter_settings, show
from budwood.store import Store

if TYPE_CHECKING:
    from budwood.engine.lora.compare import ModuleDistance

UNBOUND = ("name", "alias", "parent", "notes", "verdict", "result", "template")
"""Parts of a body that are compared in a way of their own, or are no part of what answers."""


@dataclass(frozen=True)
class Change:
    """One part that is not the same; None where a side has none. `group` says which kind of part it is."""

    group: str
    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """Of two releases.

    Args:
        before: digest of the first.
        after: digest of the second.
        changes: bound parts, adapter settings, verdict, scores, probes.
        template: unified diff of the chat template, a line each.
        modules: delta of the adapters by module, largest difference first; None where a side has no adapter.
    """

    before: Digest
    after: Digest
    changes: tuple[Change, ...]
    template: tuple[str, ...]
    modules: "tuple[ModuleDistance, ...] | None"

    @property
    def same_answers(self) -> bool:
        """Whether all that decides about an answer is the same: base, template, system message, decoding, adapter or model."""
        return not self.template and not any(
            change.group in ("base", "answers", "result", "adapter") for change in self.changes
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": self.before,
            "after": self.after,
            "same_answers": self.same_answers,
            "changes": [asdict(change) for change in self.changes],
            "template": list(self.template),
            "modules": None if self.modules is None else [asdict(module) for module in self.modules],
        }


def diff(store: Store, before: Digest, after: Digest) -> Difference:
    """Compare two releases of one store.

    Raises:
        ReleaseError: one of them is another kind of object.
        StoreError: an object that is compared is not here, or was altered.
    """
    bodies = show(store, before).body, show(store, after).body
    settings = adapter_settings(store, bodies[0]), adapter_settings(store, bodies[1])
    changes = [
        *_changes("base", bodies[0]["base"], bodies[1]["base"]),
        *_changes("answers", _answers(bodies[0]), _answers(bodies[1])),
        *_changes("result", bodies[0]["result"], bodies[1]["result"]),
        *_changes("adapter", _settings(settings[0]), _settings(settings[1])),
        *_changes("evidence", _evidence(bodies[0]), _evidence(bodies[1])),
        *_changes("scores", _scores(store, bodies[0]), _scores(store, bodies[1])),
        *_changes("probes", _probes(store, before), _probes(store, after)),
        *_changes("text", _text(bodies[0]), _text(bodies[1])),
    ]
    return Difference(before, after, tuple(changes), _template(store, before, after), _modules(store, *bodies))


def _changes(group: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    return [
        Change(group, key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _answers(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"system": body.get("system", ""), **body["decoding"]}


def _evidence(body: Mapping[str, Any]) -> dict[str, Any]:
    verdict = body.get("verdict") or {}
    parts = {key: body.get(key) for key in ("snapshot", "run", "report")}
    return {**parts, "verdict": verdict.get("verdict"), "policy": verdict.get("policy_digest"), "suite": verdict.get("suite")}


def _text(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: body.get(key) for key in ("name", "alias", "parent", "notes")}


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter's settings; lists of names are sets, whose order says nothing."""
    return {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in fields.items()}


def _scores(store: Store, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report's metrics; none where there is no report, or its bytes are gone."""
    report = body.get("report")
    if report is None or not store.exists(report):
        return {}
    found: Mapping[str, Any] = store.manifest(report).body.get("metrics", {})
    return found


def _probes(store: Store, digest: Digest) -> dict[str, Any]:
    probes = read_probes(store.file(digest, "probes.json"))
    prompts = [json.dumps([probe.prompt_ids, probe.token_ids]) for probe in probes.probes]
    return {"count": len(prompts), "tolerance": probes.tolerance, "prompts and answers": sorted(prompts)}


def _template(store: Store, before: Digest, after: Digest) -> tuple[str, ...]:
    one, other = (
        store.file(digest, "template.jinja").read_bytes().decode("utf-8", "replace").splitlines() for digest in (before, after)
    )
    return tuple(difflib.unified_diff(one, other, fromfile="before", tofile="after", lineterm="", n=2))


def _modules(store: Store, before: Mapping[str, Any], after: Mapping[str, Any]) -> "tuple[ModuleDistance, ...] | None":
    from budwood.engine.lora.compare import adapter_distances

    results = before["result"], after["result"]
    if any(result["kind"] != "adapter" for result in results):
        return None
    if results[0]["digest"] == results[1]["digest"]:
        return ()
    return tuple(adapter_distances(*(store.folder(result["digest"]) for result in results)))
