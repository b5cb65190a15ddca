"""What a release binds, and whether it is what is here: all that a backend has to see before it brings a release up.

body = open_release(store, row)                       # files hashed again, signed where that is asked for
base = find_base(store, body, bases, title(row))
compare(identity, quantization, texts, body, template=template_of(store, row), where=title(row))
live = live_of(row, body, worker=worker, slot=slot, texts=texts, size_bytes=size)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import ServeError
from budwood.identity import Digest, digest_bytes, short
from budwood.serve.directory import Decoding, Live
from budwood.serve.texts import Texts
from budwood.store.signatures import check_rule

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef, Quantization
    from budwood.serve.backend import Engine
    from budwood.store import ReleaseRow, Store

EMBEDDED = "seedling"
EngineKey = tuple[str, str]
"""(weights digest of a base or digest of a full model, quantisation)."""


@dataclass(frozen=True)
class ReleaseBody:
    """What a release binds, as far as serving needs it."""

    base_id: str
    base_object: str | None
    revision: str | None
    weights_digest: str
    tokenizer_digest: str
    template_digest: str
    quantization: "Quantization"
    kind: str
    result: str | None
    decoding: Decoding
    system: str

    @property
    def engine_key(self) -> EngineKey:
        whole = self.result if self.kind == "model" and self.result else self.weights_digest
        return whole, self.quantization

    @property
    def adapter_key(self) -> str:
        """Digest of the adapter; empty where there is none."""
        return self.result if self.kind == "adapter" and self.result else ""


def title(row: "ReleaseRow") -> str:
    """How messages name a release."""
    return f"release {row.name}@{row.version}-{short(row.digest)}"


def open_release(store: "Store", row: "ReleaseRow") -> ReleaseBody:
    """Hash a release and its result again, ask for the signature that its name asks for, and read what it binds.

    Raises:
        BudwoodError: something of it is damaged, not signed as it has to be, or cannot be read.
    """
    check_files(store, row.digest)
    check_rule(store, row.name, row.digest)
    body = read_body(store.manifest(row.digest).body, where=title(row))
    if body.result is not None:
        check_files(store, Digest(body.result))
    return body


def no_base(row: "ReleaseRow") -> ServeError:
    """Why a release cannot be brought up on demand."""
    return ServeError(
        "Its base is not in memory: no alias points to a release on it.", where=title(row), mend="Point an alias to one."
    )


def template_of(store: "Store", row: "ReleaseRow") -> bytes:
    """The release's own template file."""
    return store.file(row.digest, "template.jinja").read_bytes()


def live_of(row: "ReleaseRow", body: ReleaseBody, *, worker: "Engine", slot: int, texts: Texts, size_bytes: int) -> Live:
    """Say of a release that is up and proved what requests have to know of it."""
    return Live(
        name=row.name,
        version=row.version,
        digest=row.digest,
        created_at=row.created_at,
        base_id=body.base_id,
        worker=worker,
        slot=slot,
        adapter_key=body.adapter_key,
        engine_key=body.engine_key,
        texts=texts,
        decoding=body.decoding,
        system=body.system,
        size_bytes=size_bytes,
    )


def check_files(store: "Store", digest: Digest) -> None:
    """Hash an object's files again.

    Raises:
        ServeError: they are not what they were.
    """
    faults = store.faults(digest)
    if faults:
        raise ServeError(
            f"Object {short(digest)} is damaged: {'; '.join(faults)}.",
            where="the store",
            mend="Restore it from a backup, or make it again; `budwood verify` lists all damage.",
        )


def find_base(store: "Store", body: ReleaseBody, bases: "Sequence[BaseRef]", where: str) -> "BaseRef":
    """Find the folder whose weights are the release's; which folder it is does not matter, what is in it does.

    Args:
        store: of the release.
        body: what it binds.
        bases: where to look first.
        where: the release, for messages.

    Raises:
        ServeError: it is not there, or its weights are others.
    """
    from budwood.engine.base import identify_base, resolve_base

    if body.kind == "model" and body.result:
        return resolve_base(str(store.folder(body.result)))
    for ref in bases:
        if identify_base(ref).weights_digest == body.weights_digest:
            return ref
    ref = resolve_base(_place(store, body, where))
    found = identify_base(ref).weights_digest
    if found != body.weights_digest:
        raise ServeError(
            f"The release binds base {body.base_id} with weights {short(body.weights_digest)}, but what is found under "
            f"that name has weights {short(found)}.",
            where=where,
            mend="Put the base back that the release was made on, or release again on this one.",
        )
    return ref


def _place(store: "Store", body: ReleaseBody, where: str) -> str:
    """Where the base of a release is to be found: by the name it is known under everywhere, or in a folder of its own."""
    said = store.attestations(body.base_object) if body.base_object else []
    brought = next((str(one["folder"]) for one in reversed(said) if one.get("imported") and "folder" in one), None)
    if brought is not None and Path(brought).is_dir():
        return brought
    if body.revision:
        return f"{body.base_id.partition('@')[0]}@{body.revision}"
    if body.base_id == EMBEDDED:
        return body.base_id
    # A folder's name may start at a recipe that is elsewhere: where it was found is beside the base's object.
    places = [str(one["folder"]) for one in reversed(said) if "folder" in one] + [body.base_id]
    found = next((place for place in places if Path(place).is_dir()), None)
    if found is None:
        raise ServeError(
            f"The base {body.base_id!r} is a folder that is not there any more; looked in {', '.join(places)}.",
            where=where,
            mend="Put it back, or start the server with --recipe of a recipe that names where it is now.",
        )
    return found


def read_body(body: Mapping[str, Any], *, where: str) -> ReleaseBody:
    """Read what a release binds.

    Raises:
        ServeError: a part is missing or of another type.
    """
    try:
        base, result, decoding = body["base"], body["result"], body["decoding"]
        found = ReleaseBody(
            base_id=str(base["id"]),
            base_object=None if base.get("object") is None else str(base["object"]),
            revision=None if base.get("revision") is None else str(base["revision"]),
            weights_digest=str(base["weights_digest"]),
            tokenizer_digest=str(base["tokenizer_digest"]),
            template_digest=str(base["template_digest"]),
            quantization=_quantization(base["quantization"]),
            kind=str(result["kind"]),
            result=None if result.get("digest") is None else str(result["digest"]),
            decoding=Decoding(
                temperature=float(decoding["temperature"]),
                max_new_tokens=int(decoding["max_new_tokens"]),
                stop_ids=tuple(int(token) for token in decoding["stop_ids"]),
            ),
            system=str(body.get("system", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServeError(f"The release cannot be read: {error!r}.", where=where, mend="Make the release again.") from None
    if found.kind not in ("adapter", "model", "none") or (found.kind == "none") != (found.result is None):
        raise ServeError(f"The release has a result of kind {found.kind!r}.", where=where, mend="Use a newer Budwood.")
    return found


def _quantization(word: object) -> "Quantization":
    if word == "none" or word == "nf4" or word == "int8":
        return word
    raise ValueError(f"quantization {word!r} is not known")


def compare(
    identity: "BaseIdentity",
    quantization: "Quantization",
    texts: Texts,
    body: ReleaseBody,
    *,
    template: bytes,
    where: str,
) -> None:
    """Refuse a base whose tokenizer, template or quantisation is another than the release binds; list all that differ.

    Args:
        identity: of the base that is here.
        quantization: in which it is held.
        texts: its tokenizer and template.
        body: what the release binds.
        template: the release's own template file.
        where: which release, for messages.

    Raises:
        ServeError: what differs.
    """
    pairs = [
        ("tokenizer", body.tokenizer_digest, identity.tokenizer_digest),
        ("chat template", body.template_digest, identity.template_digest),
        ("template file", digest_bytes(template), digest_bytes(texts.template.source.encode("utf-8", "surrogatepass"))),
        ("quantisation", body.quantization, quantization),
    ]
    if body.kind != "model":
        pairs.append(("weights", body.weights_digest, identity.weights_digest))
    wrong = [f"{name} {short(bound)} (found {short(found)})" for name, bound, found in pairs if bound != found]
    if wrong:
        raise ServeError(
            f"The release binds another base than the one that is here: {', '.join(wrong)}.",
            where=where,
            mend="Put the base back that the release was made on, or release again on this one.",
        )
