"""A release without some of its golden probes: the same base, result, template and verdict under another digest."""

import json
from dataclasses import replace
from shutil import copyfile

from budwood.data.forget.found import InRelease
from budwood.engine.probes import read_probes
from budwood.identity import Digest
from budwood.store import Store

READABLE, PROBES = "release.json", "probes.json"


def without_probes(store: Store, hit: InRelease, *, who: str, reason: str) -> Digest | None:
    """Store and register the release that lacks the probes; None where none is left, since it could prove nothing.

    The tolerance stays: it was measured over all probes, and those that are left lie within it.
    """
    if len(hit.probes) == hit.total:
        return None
    manifest = store.manifest(hit.digest)
    found = read_probes(store.file(hit.digest, PROBES))
    kept = tuple(probe for place, probe in enumerate(found.probes) if place not in hit.probes)
    body = {**manifest.body, "forgets": {"of": hit.digest, "probes": len(hit.probes)}}
    with store.draft("release") as draft:
        for entry in manifest.files:
            if entry.path not in (READABLE, PROBES):
                copyfile(store.file(hit.digest, entry.path), draft.folder / entry.path)
        readable = json.dumps(body, indent=2, ensure_ascii=False, sort_keys=True)
        (draft.folder / READABLE).write_bytes(readable.encode("utf-8", "surrogatepass") + b"\n")
        (draft.folder / PROBES).write_bytes(replace(found, probes=kept).encode())
        parents = [*manifest.parents, hit.digest]
        digest = draft.commit(parents=parents, body=body, attestation={"who": who, "reason": reason})
    for row in hit.rows:
        store.add_release(row.name, digest, who=who, reason=reason)
    return digest
