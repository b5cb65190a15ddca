"""Making a release: everything that has to be together for the same answers again, under one digest.

Files: `release.json` (the body, for people), `probes.json` (golden probes), `template.jinja` (the chat template).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from budwood.engine.probes import ProbeSet
from budwood.errors import ReleaseError
from budwood.identity import Digest, digest_bytes, short
from budwood.recipe import Recipe
from budwood.release.verdict import Verdict
from budwood.store import Store

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ResultRef:
    """What is put on the base: an adapter, or a full model in its place."""

    kind: Literal["adapter", "model"]
    digest: Digest


@dataclass(frozen=True)
class Decoding:
    """What a request gets that does not say otherwise."""

    temperature: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class Label:
    """What a release is called, the alias that it is for, and notes for people."""

    name: str
    alias: str
    notes: str = ""


@dataclass(frozen=True)
class Parts:
    """All that a release binds.

    Args:
        base_identity: `BaseIdentity.as_body()`; id, revision and the three digests are bound.
        base_object: the base's object.
        result: adapter or model on it; None: the plain base is released.
        run: training run that made the result.
        snapshot: data that it was trained and tested on, or tested on alone where it was imported; None: imported, not judged.
        report: evaluation that the verdict is about.
        verdict: what the gate said; None: not judged, so that promotion needs an override.
        quantization: "none", "nf4" or "int8": the base under an adapter is only that base in this form.
        precision: compute dtype that it was trained in.
        template_source: the chat template; its digest must be the one in `base_identity`.
        system: message that training put before conversations that had none; serving does the same. Empty: none.
        decoding: defaults of serving.
        probes: golden probes.
        parent: release that this one replaces or goes on from.
    """

    base_identity: Mapping[str, Any]
    base_object: Digest
    result: ResultRef | None
    run: Digest | None
    snapshot: Digest | None
    report: Digest | None
    verdict: Verdict | None
    quantization: str
    precision: str
    template_source: str
    system: str
    decoding: Decoding
    probes: ProbeSet
    parent: Digest | None

    @property
    def objects(self) -> list[Digest]:
        """The objects that it is made from."""
        result = self.result.digest if self.result else None
        every = [self.base_object, result, self.snapshot, self.report, self.run, self.parent]
        return [digest for digest in every if digest is not None]


def make_release(recipe: Recipe, store: Store, parts: Parts, *, who: str, reason: str) -> tuple[Digest, int]:
    """Bind a release under the recipe's name, for its alias and with its notes; see `bind`."""
    return bind(Label(recipe.name, recipe.release.alias, recipe.release.notes), store, parts, who=who, reason=reason)


def bind(label: Label, store: Store, parts: Parts, *, who: str, reason: str) -> tuple[Digest, int]:
    """Write the release object and register it under its name; return its digest and running number.

    The same parts give the same release and the same number, also when the parent is that very release: what it is judged
    against and what it replaces are circumstances, and going live must not make a second release of it.

    Args:
        label: its name, alias and notes.
        store: where all parts lie.
        parts: what it binds.
        who: person or program that makes it.
        reason: why.

    Raises:
        ReleaseError: parts that do not belong together, or a name that is the base model's.
        StoreError: a part is not in the store.
    """
    check_name(label.name, str(parts.base_identity["id"]))
    _check_parts(store, parts)
    body = _body(label, parts)
    if parts.parent is not None and _is_same(store.manifest(parts.parent).body, body):
        return parts.parent, store.add_release(label.name, parts.parent, who=who, reason=reason)
    with store.draft("release") as draft:
        readable = json.dumps(body, indent=2, ensure_ascii=False, sort_keys=True)
        (draft.folder / "release.json").write_bytes(readable.encode("utf-8", "surrogatepass") + b"\n")
        (draft.folder / "probes.json").write_bytes(parts.probes.encode())
        (draft.folder / "template.jinja").write_bytes(_template(parts))
        digest = draft.commit(parents=parts.objects, body=body, attestation={"who": who, "reason": reason})
    return digest, store.add_release(label.name, digest, who=who, reason=reason)


def _body(label: Label, parts: Parts) -> dict[str, Any]:
    bound = ("id", "revision", "weights_digest", "tokenizer_digest", "template_digest")
    return {
        "name": label.name,
        "alias": label.alias,
        "base": {
            **{key: parts.base_identity[key] for key in bound},
            "quantization": parts.quantization,
            "precision": parts.precision,
            "object": parts.base_object,
        },
        "template": digest_bytes(_template(parts)),
        "system": parts.system,
        "result": {
            "kind": parts.result.kind if parts.result else "none",
            "digest": parts.result.digest if parts.result else None,
        },
        "decoding": {
            "temperature": parts.decoding.temperature,
            "max_new_tokens": parts.decoding.max_new_tokens,
            "stop_ids": list(parts.decoding.stop_ids),
        },
        "snapshot": parts.snapshot,
        "report": parts.report,
        "run": parts.run,
        "verdict": parts.verdict.as_body() if parts.verdict else None,
        "parent": parts.parent,
        "notes": label.notes,
    }


def _template(parts: Parts) -> bytes:
    return parts.template_source.encode("utf-8", "surrogatepass")


_PARTS = ("name", "alias", "base", "template", "system", "result", "decoding", "snapshot", "report", "run")


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two bodies bind the same parts, judged under the same rules."""
    rules = [(body["verdict"] or {}).get("policy_digest") for body in (one, other)]
    return rules[0] == rules[1] and all(one.get(key) == other.get(key) for key in _PARTS)


def check_name(name: str, base_id: str) -> None:
    """Refuse a release name that is the base model's own."""
    plain = base_id.partition("@")[0].rstrip("/").rpartition("/")[2].lower()
    if name == plain:
        raise ReleaseError(
            f'The release name "{name}" is the base model\'s own: nobody could tell which of them answers.',
            where="the recipe, name",
            mend=f'Choose another, e.g. "{name}-tuned".',
        )


def _check_parts(store: Store, parts: Parts) -> None:
    """Refuse parts that were not made from each other: valid pieces of two releases are no release."""
    base, result, report, verdict = parts.base_object, parts.result, parts.report, parts.verdict
    _expect(store, base, "base")
    if parts.snapshot is not None:
        _expect(store, parts.snapshot, "snapshot")
    known = store.manifest(base).body.get("weights_digest")
    if known != parts.base_identity["weights_digest"]:
        raise _mismatch(f"base object {short(base)}… has weights {short(str(known))}…", "the base identity has others")
    if result is not None:
        _expect(store, result.digest, result.kind)
        _expect_parent(store, result.digest, base, result.kind)
    if parts.run is not None:
        _expect(store, parts.run, "run")
        # What was imported was trained on rows that nobody here knows: a snapshot is what it was judged on.
        imported = store.manifest(parts.run).body.get("method") == "import"
        for digest in (result.digest if result else None, None if imported else parts.snapshot, base):
            if digest:
                _expect_parent(store, parts.run, digest, "run")
    if report is not None:
        _expect(store, report, "report")
        _expect_parent(store, report, result.digest if result else base, "report")
    if verdict is not None and verdict.candidate != report:
        raise _mismatch(f"the verdict is about report {short(verdict.candidate)}…", f"the report is {short(report or 'none')}…")


def _expect(store: Store, digest: str, kind: str) -> None:
    found = store.manifest(digest).kind
    if found != kind:
        raise _mismatch(f"{short(digest)}… is a {found}", f"a {kind} is needed")


def _expect_parent(store: Store, child: Digest, parent: Digest, what: str) -> None:
    parents: Sequence[str] = store.manifest(child).parents
    if parent not in parents:
        kind = store.manifest(parent).kind
        raise _mismatch(f"{what} {short(child)}… was not made from {kind} {short(parent)}…", "its parents are others")


def _mismatch(one: str, other: str) -> ReleaseError:
    return ReleaseError(
        f"These parts do not belong together: {one}, {other}.",
        where="the release",
        mend="Nothing was stored. Run the stages again with this recipe: `budwood run RECIPE`.",
    )
