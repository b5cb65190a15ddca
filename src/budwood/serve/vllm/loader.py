"""From a release's digest to a release that vLLM serves: the `Backend` whose engines are vLLM servers.

Files, base, tokenizer and template are compared here, as for the embedded engine; the base's folder is needed for that and for
its tokenizer, its weights are not loaded. What the vLLM servers really hold can only be seen in what they compute: the golden
probes say.

Servers named by URL all serve one base. Where Budwood starts them, each base and each full model gets its own.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.errors import ServeError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.serve.backend import Engine
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
from budwood.serve.texts import Texts
from budwood.serve.vllm.adapters import check_adapter, check_servable, write_adapter
from budwood.serve.vllm.client import VllmClient
from budwood.serve.vllm.engine import VllmEngine
from budwood.serve.vllm.pool import CHECK_S, Pool
from budwood.serve.vllm.process import Launch, Process
from budwood.serve.vllm.prove import prove
from budwood.serve.vllm.replica import Placement, Replica

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef
    from budwood.engine.generate import PrefixFigures
    from budwood.recipe import ServeSection
    from budwood.store import ReleaseRow, Store

NAMED: EngineKey = ("", "")
"""Key of the one pool of servers that the recipe names."""


@dataclass
class _Seat:
    """One base: what is known of it here, and the engine that answers for it."""

    ref: "BaseRef"
    identity: "BaseIdentity"
    texts: Texts
    engine: VllmEngine
    pool_key: EngineKey
    releases: int = 0


class VllmLoader:
    """Loads and unloads releases at vLLM servers.

    Args:
        store: where releases and adapters lie.
        settings: which servers, and how they are started.
        bases: further places where a base may be found.
        report: told what takes time, and of servers that come and go.
        check_s: seconds between looks at the servers.

    Raises:
        ServeError: the API key's environment variable is not set.
    """

    def __init__(
        self,
        store: "Store",
        settings: "ServeSection",
        bases: Sequence["BaseRef"],
        report: Reporter,
        *,
        check_s: float = CHECK_S,
    ) -> None:
        self._store = store
        self._settings = settings
        self._bases = tuple(bases)
        self._report = report
        self._check_s = check_s
        self._key = _key(settings)
        self._seats: dict[EngineKey, _Seat] = {}
        self._pools: dict[EngineKey, Pool] = {}
        # Only this user may enter: a server reads here what it will compute. Short, for a socket's name has 107 bytes.
        self._private = Path(tempfile.mkdtemp(prefix="budwood-vllm-"))
        self._adapters = self._private / "adapters"
        if settings.vllm_adapters:
            shared = Path(settings.vllm_adapters).resolve()
            shared.mkdir(parents=True, exist_ok=True)
            self._adapters = Path(tempfile.mkdtemp(prefix="budwood-", dir=shared))
            self._adapters.chmod(0o755)

    @property
    def healthy(self) -> bool:
        return all(pool.healthy for pool in list(self._pools.values()))

    @property
    def active(self) -> int:
        return sum(pool.active for pool in list(self._pools.values()))

    @property
    def prefixes(self) -> "PrefixFigures":
        from budwood.engine.generate import PrefixFigures

        return PrefixFigures()

    @property
    def tokens_made(self) -> int:
        return sum(pool.tokens_made for pool in list(self._pools.values()))

    def load(self, row: "ReleaseRow") -> Live:
        """Bring a release up at every vLLM server that is up, and prove it on each; nothing stays behind if that fails.

        Raises:
            BudwoodError: damaged files, another base, tokenizer or template than the release binds, an adapter that vLLM cannot
                serve or refuses, no server, or golden probes that come out differently.
        """
        where = title(row)
        body = open_release(self._store, row)
        check_servable(body, where=where)
        try:
            seat = self._seat(body, where)
            return self._join(row, body, seat, where)
        finally:
            self._drop_unused()

    def size_bytes(self, row: "ReleaseRow") -> int:
        """Bytes of an adapter's file, as a measure of what the servers will hold of it.

        Raises:
            ServeError: its base is not being served; or it cannot be read.
        """
        body = read_body(self._store.manifest(row.digest).body, where=title(row))
        if body.engine_key not in self._seats:
            raise no_base(row)
        return self._file_bytes(body.adapter_key)

    def _file_bytes(self, adapter: str) -> int:
        files = self._store.manifest(adapter).files if adapter else ()
        return sum(file.size for file in files if file.path.endswith(".safetensors"))

    def unload(self, live: Live) -> None:
        """Unload a release at every server, and end a server of ours that has no release any more."""
        seat = self._seats.get(live.engine_key)
        if seat is None or seat.engine is not live.worker:
            return
        placement = seat.engine.take(live.slot)
        if placement is not None:
            seat.engine.pool.withdraw(placement.name)
            _remove(placement)
        seat.releases -= 1
        self._drop_unused()

    def close(self) -> None:
        for seat in self._seats.values():
            seat.releases = 0
        self._drop_unused()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        shutil.rmtree(self._adapters, ignore_errors=True)
        shutil.rmtree(self._private, ignore_errors=True)

    def _join(self, row: "ReleaseRow", body: ReleaseBody, seat: _Seat, where: str) -> Live:
        from budwood.engine.probes import read_probes

        template = template_of(self._store, row)
        compare(seat.identity, "none", seat.texts, body, template=template, where=where)
        probes = read_probes(self._store.file(row.digest, "probes.json"))
        slot, alone = seat.engine.next_slot(), not body.adapter_key
        worst: list[float] = []

        def replay(engine: Engine) -> None:
            worst.append(prove(engine, slot, probes, alone=alone, precision=self._settings.precision, where=where))

        name = f"{row.name}@{row.version}-{short(row.digest)}"
        folder = self._write(body.adapter_key, seat, slot, where)
        placement = Placement(name, folder, row.digest, lambda replica: replay(seat.engine.pinned(replica)))
        seat.engine.put(slot, placement)
        try:
            seat.engine.pool.bring(placement)
        except BaseException:
            seat.engine.take(slot)
            _remove(placement)
            raise
        seat.releases += 1
        passed = {"difference": max(worst), "tolerance": probes.tolerance}
        self._report(Event("serve", f"{where}: probes passed on {len(worst)} vLLM server(s)", fields=passed))
        size = self._file_bytes(body.adapter_key)
        return live_of(row, body, worker=seat.engine, slot=slot, texts=seat.texts, size_bytes=size)

    def _write(self, adapter_key: str, seat: _Seat, slot: int, where: str) -> Path | None:
        """Write an adapter for vLLM, into a folder that is this load's alone: what is loaded is never written again."""
        from budwood.engine.base import skeleton
        from budwood.engine.lora import load_adapter

        if not adapter_key:
            return None
        adapter = load_adapter(self._store.folder(Digest(adapter_key)), skeleton(seat.ref))
        check_adapter(adapter, max_rank=self._settings.vllm_max_lora_rank, where=where)
        folder = self._adapters / f"{slot}-{short(adapter_key)}"
        write_adapter(adapter, folder, base_id=seat.identity.id)
        return folder

    def _seat(self, body: ReleaseBody, where: str) -> _Seat:
        from budwood.engine.base import identify_base, load_tokenizer

        seat = self._seats.get(body.engine_key)
        if seat is not None:
            return seat
        ref = find_base(self._store, body, self._bases, where)
        identity, tokenizer = identify_base(ref), load_tokenizer(ref)
        key = NAMED if self._settings.vllm_urls else body.engine_key
        texts = Texts(tokenizer, vocab=identity.vocab)
        if key not in self._pools:
            self._pools[key] = Pool(self._replicas(ref), report=self._report, check_s=self._check_s)
        engine = VllmEngine(self._pools[key], tokenizer=tokenizer, vocab=identity.vocab, context=identity.context)
        seat = self._seats[body.engine_key] = _Seat(ref, identity, texts, engine, key)
        return seat

    def _replicas(self, ref: "BaseRef") -> list[Replica]:
        settings = self._settings
        if settings.vllm_urls:
            return [Replica(VllmClient(url, key=self._key), report=self._report) for url in settings.vllm_urls]
        launch = Launch(
            python=settings.vllm_python,
            model=ref.folder.resolve(),
            folder=Path(tempfile.mkdtemp(prefix="server-", dir=self._private)),
            dtype=settings.precision,
            max_rank=settings.vllm_max_lora_rank,
            max_loras=settings.vllm_max_loras,
            max_requests=settings.max_batch,
            arguments=settings.vllm_arguments,
        )
        process = Process(launch)
        return [Replica(process.client(), process=process, report=self._report)]

    def _drop_unused(self) -> None:
        for key in [key for key, seat in self._seats.items() if seat.releases == 0]:
            self._seats.pop(key).texts.close()
        used = {seat.pool_key for seat in self._seats.values()}
        for key in [key for key in self._pools if key not in used and key != NAMED]:
            self._pools.pop(key).close()


def _remove(placement: Placement) -> None:
    if placement.folder is not None:
        shutil.rmtree(placement.folder, ignore_errors=True)


def _key(settings: "ServeSection") -> str:
    if not settings.vllm_key_env:
        return ""
    key = os.environ.get(settings.vllm_key_env, "")
    if not key:
        raise ServeError(
            f"The environment variable {settings.vllm_key_env} is not set; it should hold the API key of the vLLM servers.",
            where="[serve] vllm_key_env",
            mend="Set it, or leave vllm_key_env out if they need no key.",
        )
    return key
