"""A release for people: all that it binds, in groups of name and value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budwood.engine.probes import read_probes
from budwood.errors import ReleaseError
from budwood.identity import Digest, short
from budwood.store import Store


@dataclass(frozen=True)
class Shown:
    """One release.

    Args:
        digest: the object's.
        names: name@number under which it is registered here.
        aliases: name@alias that point to it now.
        body: what the digest is over.
        adapter: settings of its adapter's file; empty without an adapter.
        probes: of each golden probe: how many tokens, and the distances that tell it from wrong models.
        tolerance: largest difference of a log-probability that a server may have.
        made: who, when, why; from what lies beside it.
    """

    digest: Digest
    names: tuple[str, ...]
    aliases: tuple[str, ...]
    body: Mapping[str, Any]
    adapter: Mapping[str, Any]
    probes: tuple[Mapping[str, Any], ...]
    tolerance: float
    made: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "names": list(self.names),
            "aliases": list(self.aliases),
            "body": dict(self.body),
            "adapter": dict(self.adapter),
            "probes": [dict(probe) for probe in self.probes],
            "tolerance": self.tolerance,
            "made": dict(self.made),
        }

    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Title → names and values, for print."""
        body = self.body
        groups = [
            (
                "Release",
                [("digest", self.digest), ("name", ", ".join(self.names)), ("live as", ", ".join(self.aliases) or "–")],
            ),
            ("Base", [(key, _value(value)) for key, value in body["base"].items()]),
            ("Result", [*((key, _value(value)) for key, value in body["result"].items()), *self._adapter_lines()]),
            (
                "Answers",
                [("template", _value(body.get("template"))), ("system", _value(body.get("system"))), *self._decoding()],
            ),
            ("Evidence", self._evidence()),
            ("Golden probes", self._probe_lines()),
            ("History", [("parent", _value(body.get("parent"))), ("notes", _value(body.get("notes"))), *self._made_lines()]),
        ]
        return [(title, pairs) for title, pairs in groups if pairs]

    def _adapter_lines(self) -> list[tuple[str, str]]:
        return [(key, _value(self.adapter[key])) for key in _ADAPTER_KEYS if self.adapter.get(key) not in (None, {}, [], False)]

    def _decoding(self) -> list[tuple[str, str]]:
        return [(key, _value(value)) for key, value in self.body["decoding"].items()]

    def _evidence(self) -> list[tuple[str, str]]:
        verdict = self.body.get("verdict")
        lines = [(key, _value(self.body.get(key))) for key in ("snapshot", "run", "report")]
        lines.append(("verdict", str(verdict["verdict"]) if verdict else "not judged"))
        if verdict:
            lines += [("", str(reason)) for reason in verdict["reasons"]]
            lines += [("policy", _value(verdict["policy_digest"])), ("champion", _value(verdict["champion"]))]
        return lines

    def _probe_lines(self) -> list[tuple[str, str]]:
        far = [
            f"{name} {min(found):.3g}"
            for name in ("base", "half", "double")
            if (found := [probe[f"distance_to_{name}"] for probe in self.probes if probe[f"distance_to_{name}"] is not None])
        ]
        return [
            ("probes", f"{len(self.probes)}, {sum(probe['tokens'] for probe in self.probes)} tokens"),
            ("tolerance", f"{self.tolerance:.3g}"),
            ("nearest wrong", ", ".join(far) or "–"),
        ]

    def _made_lines(self) -> list[tuple[str, str]]:
        return [(key, _value(self.made[key])) for key in ("who", "at", "reason") if self.made.get(key)]


_ADAPTER_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_modules",
                 "trainable_token_indices")  # fmt: skip


def show(store: Store, digest: Digest) -> Shown:
    """Read all that a release binds.

    Raises:
        ReleaseError: another kind of object.
        StoreError: it, or its adapter, is not here or was altered.
    """
    manifest = store.manifest(digest)
    if manifest.kind != "release":
        raise ReleaseError(f"{short(digest)}… is a {manifest.kind}, not a release.", mend="Read `budwood history`.")
    probes = read_probes(store.file(digest, "probes.json"))
    said = store.attestations(digest)
    return Shown(
        digest=digest,
        names=tuple(f"{row.name}@{row.version}" for row in store.releases() if row.digest == digest),
        aliases=tuple(f"{row.name}@{row.alias}" for row in store.aliases() if row.digest == digest),
        body=manifest.body,
        adapter=adapter_settings(store, manifest.body),
        probes=tuple(
            {
                "tokens": len(probe.token_ids),
                "distance_to_base": probe.distance_to_base,
                "distance_to_half": probe.distance_to_half,
                "distance_to_double": probe.distance_to_double,
            }
            for probe in probes.probes
        ),
        tolerance=probes.tolerance,
        made=said[0] if said else {},
    )


def adapter_settings(store: Store, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings in an adapter's file; empty where the release has none."""
    import json

    result = body["result"]
    if result["kind"] != "adapter":
        return {}
    names = [entry.path for entry in store.manifest(result["digest"]).files]
    if "adapter_config.json" not in names:
        return {}
    found: dict[str, Any] = json.loads(store.file(result["digest"], "adapter_config.json").read_bytes())
    return found


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(held)}" for key, held in value.items()) or "–"
    return str(value)
