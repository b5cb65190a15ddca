"""From a release's digest to a release that may go live: files hashed again, base compared, adapter read, probes replayed.

Engines are shared: one per base and quantisation, holding any number of adapters; a full model has its own. All of it
happens in the thread that loads releases, except what touches an engine's tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from budwood.events import Event, Reporter
from budwood.identity import Digest
from budwood.serve.bound import (
    EngineKey,
    ReleaseBody,
    compare,
    find_base,
    live_of,
    no_base,
    open_release,
    read_body,
    template_of,
    title,
)
from budwood.serve.directory import Live
from budwood.serve.probe import check_probes
from budwood.serve.texts import Texts
from budwood.serve.worker import Worker

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef, LoadedBase
    from budwood.engine.generate import PrefixFigures
    from budwood.engine.lora import AdapterBank
    from budwood.recipe import ServeSection
    from budwood.store import ReleaseRow, Store

CALL_TIMEOUT_S = 600.0


@dataclass
class _Held:
    """An adapter in an engine's bank: its slot, the memory that it takes, and how many releases use it."""

    slot: int
    size_bytes: int
    releases: int = 0


@dataclass
class _Engine:
    """One loaded base with its bank.

    Args:
        adapters: by key of the bank.
        proven: releases whose golden probes have passed here: nothing that they depend on can have changed since, as the
            base is the same in memory and files are hashed again at every load.
    """

    base: "LoadedBase"
    bank: "AdapterBank"
    worker: Worker
    texts: Texts
    adapters: dict[str, _Held]
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
        where = title(row)
        body = open_release(self._store, row)
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
        body = read_body(self._store.manifest(row.digest).body, where=title(row))
        engine = self._engines.get(body.engine_key)
        if engine is None:
            raise no_base(row)
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
        template = template_of(self._store, row)
        compare(engine.base.identity, engine.base.quantization, engine.texts, body, template=template, where=where)
        slot = self._enter(engine, body.adapter_key)
        try:
            if row.digest not in engine.proven:
                self._prove(row, engine, slot, where)
        except Exception:
            self._leave(engine, body.adapter_key)
            raise
        engine.releases += 1
        size = self._size_of(engine, body.adapter_key)
        return live_of(row, body, worker=engine.worker, slot=slot, texts=engine.texts, size_bytes=size)

    def _prove(self, row: "ReleaseRow", engine: _Engine, slot: int, where: str) -> None:
        from budwood.engine.probes import read_probes

        probes = read_probes(self._store.file(row.digest, "probes.json"))
        worst = check_probes(engine.worker, slot, probes, precision=self._settings.precision, where=where)
        engine.proven.add(row.digest)
        self._report(Event("serve", f"{where}: probes passed", fields={"difference": worst, "tolerance": probes.tolerance}))

    def _size_of(self, engine: _Engine, key: str) -> int:
        return engine.adapters[key].size_bytes if key else 0

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

            def put() -> _Held:
                slot = engine.bank.add(key, adapter)
                try:
                    return _Held(slot, engine.worker.generator.adapter_bytes(key))
                except Exception:
                    engine.bank.remove(key)
                    raise

            # One call: each of them waits for the step that is being computed.
            engine.adapters[key] = engine.worker.call(put).result(CALL_TIMEOUT_S)
        engine.adapters[key].releases += 1
        return engine.adapters[key].slot

    def _leave(self, engine: _Engine, key: str) -> None:
        if not key:
            return
        engine.adapters[key].releases -= 1
        if engine.adapters[key].releases == 0:
            del engine.adapters[key]
            if engine.worker.alive:
                engine.worker.call(lambda: engine.worker.generator.remove_adapter(key)).result(CALL_TIMEOUT_S)

    def _drop_unused(self) -> None:
        for key in [key for key, engine in self._engines.items() if engine.releases == 0]:
            engine = self._engines.pop(key)
            self._gone += replace(engine.worker.generator.prefixes.figures, size_bytes=0)
            engine.worker.close()
            engine.texts.close()
