"""From a release's digest to a release that may go live: files hashed again, base compared, adapter read, probes replayed.

Engines are shared: one per base and quantisation, holding any number of adapters; a full model has its own. All of it
happens in the thread that loads releases, except what touches an engine's tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import ServeError
from budwood.events import Event, Reporter
from budwood.identity import Digest, digest_bytes, short
from budwood.serve.directory import Decoding, Live
from budwood.serve.probe import check_probes
from budwood.serve.texts import Texts
from budwood.serve.worker import Worker
from budwood.store.signatures import check_rule

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef, LoadedBase, Quantization
    from budwood.engine.generate import PrefixFigures
    from budwood.engine.lora import AdapterBank
    from budwood.recipe import ServeSection
    from budwood.store import ReleaseRow, Store

CALL_TIMEOUT_S = 600.0
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


@dataclass
class _Engine:
    """One loaded base with its bank.

    Args:
        adapters: how many releases use each key of the bank.
        proven: releases whose golden probes have passed here: nothing that they depend on can have changed since, as the
            base is the same in memory and files are hashed again at every load.
    """

    base: "LoadedBase"
    bank: "AdapterBank"
    worker: Worker
    texts: Texts
    adapters: dict[str, int]
    releases: int = 0
    proven: set[Digest] = field(default_factory=set)


class Loader:
    """Loads and unloads releases into engines of this process. Used by one thread.

    Args:
        store: where releases and adapters lie.
        settings: batch size and compute dtype.
        bases: further places where a base may be found, tried before the one that the release names.
        report: told what takes time.
    """

    def __init__(self, store: "Store", settings: "ServeSection", bases: Sequence["BaseRef"], report: Reporter) -> None:
        from budwood.engine.generate import PrefixFigures

        self._store = store
        self._settings = settings
        self._bases = tuple(bases)
        self._report = report
        self._engines: dict[EngineKey, _Engine] = {}
        self._gone = PrefixFigures()

    @property
    def healthy(self) -> bool:
        return all(engine.worker.alive for engine in list(self._engines.values()))

    @property
    def active(self) -> int:
        """Requests waiting or running in the engines."""
        return sum(engine.worker.generator.active for engine in list(self._engines.values()))

    @property
    def prefixes(self) -> "PrefixFigures":
        """What the engines keep of prompts' beginnings, and how often that was asked for and found since the start."""
        return sum((engine.worker.generator.prefixes.figures for engine in list(self._engines.values())), self._gone)

    @property
    def tokens_made(self) -> int:
        """Tokens that the engines now loaded have made."""
        return sum(engine.worker.generator.tokens_made for engine in list(self._engines.values()))

    def load(self, row: "ReleaseRow") -> Live:
        """Load a release and prove it; nothing of it stays behind if it fails.

        Raises:
            BudwoodError: damaged files, another base, tokenizer, template or quantisation than the release binds, an adapter
                that does not fit, or golden probes that come out differently.
        """
        where = f"release {row.name}@{row.version}-{short(row.digest)}"
        check_files(self._store, row.digest)
        check_rule(self._store, row.name, row.digest)
        body = read_body(self._store.manifest(row.digest).body, where=where)
        if body.result is not None:
            check_files(self._store, Digest(body.result))
        engine = self._engine(body, where)
        try:
            return self._join(row, body, engine, where)
        finally:
            self._drop_unused()

    def size_bytes(self, row: "ReleaseRow") -> int:
        """How much memory a release that is not loaded would take beside those that are.

        Raises:
            ServeError: its base is not being served; or it cannot be read.
        """
        body = read_body(self._store.manifest(row.digest).body, where=f"release {row.name}@{row.version}")
        engine = self._engines.get(body.engine_key)
        if engine is None:
            raise ServeError(
                "Its base is not in memory: no alias points to a release on it.",
                where=f"release {row.name}@{row.version}-{short(row.digest)}",
                mend="Point an alias to one.",
            )
        if not body.result or body.result in engine.adapters:
            return 0
        # In the bank as the file has it, in float32, and twice in the compute dtype.
        files = self._store.manifest(body.result).files
        return 2 * sum(file.size for file in files if file.path.endswith(".safetensors"))

    def unload(self, live: Live) -> None:
        """Give back a release's adapter, and its engine if that was the last one. No request may be using it."""
        engine = self._engines.get(live.engine_key)
        if engine is None or engine.worker is not live.worker:
            # Its engine had stopped and is replaced: what was on it is gone with it.
            return
        engine.releases -= 1
        self._leave(engine, live.adapter_key)
        self._drop_unused()

    def close(self) -> None:
        for engine in self._engines.values():
            engine.releases = 0
        self._drop_unused()

    def _join(self, row: "ReleaseRow", body: ReleaseBody, engine: _Engine, where: str) -> Live:
        template = self._store.file(row.digest, "template.jinja").read_bytes()
        compare(engine.base.identity, engine.base.quantization, engine.texts, body, template=template, where=where)
        adapter_key = body.result if body.kind == "adapter" and body.result else ""
        slot = self._enter(engine, adapter_key)
        try:
            if row.digest not in engine.proven:
                self._prove(row, engine, slot, where)
        except Exception:
            self._leave(engine, adapter_key)
            raise
        engine.releases += 1
        return Live(
            name=row.name,
            version=row.version,
            digest=row.digest,
            created_at=row.created_at,
            base_id=body.base_id,
            worker=engine.worker,
            slot=slot,
            adapter_key=adapter_key,
            engine_key=body.engine_key,
            texts=engine.texts,
            decoding=body.decoding,
            system=body.system,
            size_bytes=self._size_of(engine, adapter_key),
        )

    def _prove(self, row: "ReleaseRow", engine: _Engine, slot: int, where: str) -> None:
        from budwood.engine.probes import read_probes

        probes = read_probes(self._store.file(row.digest, "probes.json"))
        worst = check_probes(engine.worker, slot, probes, precision=self._settings.precision, where=where)
        engine.proven.add(row.digest)
        self._report(Event("serve", f"{where}: probes passed", fields={"difference": worst, "tolerance": probes.tolerance}))

    def _size_of(self, engine: _Engine, key: str) -> int:
        if not key:
            return 0
        return engine.worker.call(lambda: engine.worker.generator.adapter_bytes(key)).result(CALL_TIMEOUT_S)

    def _engine(self, body: ReleaseBody, where: str) -> _Engine:
        engine = self._engines.get(body.engine_key)
        if engine is not None and not engine.worker.alive:
            del self._engines[body.engine_key]
            engine.texts.close()
            engine = None
        if engine is None:
            self._report(Event("serve", f"Loading {body.base_id} for {where}"))
            engine = self._engines[body.engine_key] = self._start_engine(body, where)
        return engine

    def _start_engine(self, body: ReleaseBody, where: str) -> _Engine:
        import torch

        from budwood.engine.base import load_base
        from budwood.engine.generate import Generator
        from budwood.engine.lora import AdapterBank

        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._settings.precision]
        ref = find_base(self._store, body, self._bases, where)
        base = load_base(ref, dtype=dtype, quantization=body.quantization)
        bank = AdapterBank.attach(base.model)
        generator = Generator(base, bank, max_batch=self._settings.max_batch, prefix_bytes=self._settings.prefix_cache_mb << 20)
        texts = Texts(base.tokenizer, vocab=base.identity.vocab)
        return _Engine(base, bank, Worker(generator, name=f"engine {body.base_id}"), texts, {})

    def _enter(self, engine: _Engine, key: str) -> int:
        """Slot of an adapter in the engine's bank, put there at first use; -1 without an adapter."""
        from budwood.engine.lora import load_adapter

        if not key:
            return -1
        if key not in engine.adapters:
            adapter = load_adapter(self._store.folder(key), engine.base.model)
            engine.worker.call(lambda: engine.bank.add(key, adapter)).result(CALL_TIMEOUT_S)
            engine.adapters[key] = 0
        engine.adapters[key] += 1
        return engine.worker.call(lambda: engine.bank.slot(key)).result(CALL_TIMEOUT_S)

    def _leave(self, engine: _Engine, key: str) -> None:
        if not key:
            return
        engine.adapters[key] -= 1
        if engine.adapters[key] == 0:
            del engine.adapters[key]
            if engine.worker.alive:
                engine.worker.call(lambda: engine.worker.generator.remove_adapter(key)).result(CALL_TIMEOUT_S)

    def _drop_unused(self) -> None:
        for key in [key for key, engine in self._engines.items() if engine.releases == 0]:
            engine = self._engines.pop(key)
            self._gone += replace(engine.worker.generator.prefixes.figures, size_bytes=0)
            engine.worker.close()
            engine.texts.close()


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
