"""The train stage: snapshot and base in, a run with its adapter or model out.

Work that is done is found by its action key; work that was interrupted goes on from its checkpoints in the store's work
folder, which is dropped when the result is stored.
"""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from budwood.engine.base import identify_base, load_base
from budwood.engine.chat import chat_template
from budwood.engine.layers import decoder_layers
from budwood.errors import TrainingError
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest, digest_bytes, short
from budwood.recipe import Recipe
from budwood.train.base_object import ensure_base
from budwood.train.checkpoint import Checkpoints
from budwood.train.compiling import compiler_faults, compiles, settle
from budwood.train.curve import Point
from budwood.train.determinism import deterministic
from budwood.train.disk import writing
from budwood.train.live import LiveCurve
from budwood.train.loop import ALONE, Fitted, Watcher, fit, load_weights
from budwood.train.memory import forget_peak, peak_bytes
from budwood.train.ranks import Ranks, shard_layers
from budwood.train.result import Base, nothing_learnt, store_adapter, store_model, store_run
from budwood.train.rows import checked_rows, read_records
from budwood.train.settings import TrainSettings
from budwood.train.start import check_seen, check_start, head_note, starting_adapter, starting_ref, wanted_rows
from budwood.train.table import RowTable, open_table, table
from budwood.train.trackers import Tracked, Trackers, open_trackers
from budwood.train.trainable import AdapterTraining, FullTraining, Trainable

if TYPE_CHECKING:
    from budwood.engine.base import BaseIdentity, BaseRef, LoadedBase
    from budwood.store import Store

TRAIN_VERSION = 2
"""Raised when the same rows and settings would give other bytes."""
TOKENS_VERSION = 2
"""Raised when the same messages and template would give other tokens, or other rows would be refused."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def train(
    recipe: Recipe,
    store: "Store",
    snapshot: Digest,
    base_ref: "BaseRef",
    *,
    settings: TrainSettings,
    start: Digest | None = None,
    report: Reporter = silent,
    who: str = "",
    identity: "BaseIdentity | None" = None,
    base_object: Digest | None = None,
    device: str = "cpu",
    threads: int | None = None,
    trackers: Sequence[str] = (),
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> Digest:
    """Train, or find that it was done.

    Args:
        recipe: its name is noted with the run; what training depends on is in `settings`.
        store: where snapshot and base object are and the run goes.
        snapshot: of prepare.
        base_ref: the base.
        settings: from the recipe and the plan.
        start: adapter (or, for full fine-tuning, model) to go on from.
        report: gets events.
        who: for the attestation.
        identity: of this very base, when it is known already; else its weights are hashed.
        base_object: the base in the store; None: it is put there.
        device: where to compute.
        threads: of torch; None: as many as it would take. An interrupted training keeps the number it began with.
        ranks: this process among several that train together; all but the first read the store and write nothing.
        trackers: names of who gets the figures besides (`trackers`); they change nothing.
        clock: seconds, for speed and time left.

    Returns:
        Digest of the run; its body's "result" is the adapter or model.

    Raises:
        TrainingError: rows that can't be trained on, a loss that is not finite or diverges, nothing learnt, a `start` that
            does not fit, or another process that trains the same. Checkpoints stay.
        BaseError, AdapterError: base or targets.
    """
    known = identity or identify_base(base_ref)
    base = Base(base_ref, known, base_object or ensure_base(store, known, base_ref.folder))
    if start is not None:
        check_start(store, start, settings, known)
    inputs = [snapshot, base.object, *([start] if start else [])]
    key = store.action("train", TRAIN_VERSION, settings.as_body(), inputs, settings.seed)
    done = store.done(key)
    if done is not None:
        report(Event("train", f"Already trained: run {short(done)}"))
        return done
    work = store.work(key)
    with _alone(work) if ranks.first else nullcontext():
        checkpoints = Checkpoints(work / "checkpoints", report)
        place = ranks.place(device)
        with deterministic(_threads(checkpoints, threads), place):
            tracked = Tracked(recipe.name, settings.as_body(), store.root)
            followers = open_trackers(trackers if ranks.first else (), tracked, report)
            stage = _Stage(store, snapshot, base, settings, start, work, checkpoints, place, report, clock, followers, ranks)
            try:
                digest = stage.run({"recipe": recipe.name, "who": who})
            finally:
                followers.close()
        if ranks.first:
            store.record(key, digest)
    ranks.wait()
    if ranks.first:
        store.drop_work(key)
    return digest


class _Stage:
    """One training from rows to run."""

    def __init__(
        self,
        store: "Store",
        snapshot: Digest,
        base: Base,
        settings: TrainSettings,
        start: Digest | None,
        work: Path,
        checkpoints: Checkpoints,
        device: torch.device,
        report: Reporter,
        clock: Callable[[], float],
        trackers: Trackers,
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._trackers = trackers
        self._about: dict[str, str] = {}
        self._store = store
        self._snapshot = snapshot
        self._base = base
        self._settings = settings
        self._start = start
        self._work = work
        self._checkpoints = checkpoints
        self._device = device
        self._report = report
        self._clock = clock

    def run(self, noted: Mapping[str, Any]) -> Digest:
        began = self._clock()
        forget_peak(self._device)
        self._about = {"recipe": noted["recipe"], "method": self._settings.method}
        loaded = self._load()
        rows, validation = self._rows(loaded, "train"), self._rows(loaded, "validation")
        if self._settings.method == "full":
            fitted, result, trained = self._full(loaded, rows, validation)
        else:
            fitted, result, trained = self._adapter(loaded, rows, validation)
        attestation = dict(noted) | {
            "seconds": self._clock() - began,
            "tokens_per_s": fitted.tokens_per_s,
            "peak_bytes": peak_bytes(self._device),
            "device": str(self._device),
            "processes": self._ranks.world,
            "threads": torch.get_num_threads(),
            "way": trained.way,
            "uncompiled": trained.uncompiled,
            "checkpointing": self._settings.checkpointing,
            "host": platform.node(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        parents = [self._snapshot, self._base.object, result, *([self._start] if self._start else [])]
        body = self._body(fitted, result)
        return self._stored(lambda: store_run(self._store, fitted.curves, parents=parents, body=body, attestation=attestation))

    def _stored(self, store: Callable[[], Digest]) -> Digest:
        """Let the first process store something, and tell the others what it became."""
        return Digest(self._ranks.told(store() if self._ranks.first else None))

    def _adapter(self, loaded: "LoadedBase", rows: RowTable, validation: RowTable) -> tuple[Fitted, Digest, Trainable]:
        tokens = wanted_rows(loaded.model, loaded.tokenizer, self._settings.token_rows)
        check_seen(tokens, rows, loaded.tokenizer)
        note = head_note(loaded.model, tokens)
        if note:
            self._report(Event("train", note))
        adapter = starting_adapter(self._store, self._start, loaded.model, self._settings, tokens)
        chosen = self._settings
        compiled = compiles(chosen.compile, self._device)
        trainable = AdapterTraining(loaded.model, adapter, checkpointing=chosen.checkpointing, compiled=compiled)
        settle(chosen.compile, trainable, self._report)
        if self._ranks.world > 1:
            shard_layers(decoder_layers(loaded.model))
        fitted = self._fit(trainable, rows, validation)
        made = trainable.adapter()
        result = self._stored(lambda: store_adapter(self._store, made, self._base, self._settings))
        return fitted, result, trainable

    def _full(self, loaded: "LoadedBase", rows: RowTable, validation: RowTable) -> tuple[Fitted, Digest, Trainable]:
        chosen = self._settings
        precision, compiled = DTYPES[chosen.precision], compiles(chosen.compile, self._device)
        trainable = FullTraining(loaded.model, precision, checkpointing=chosen.checkpointing, compiled=compiled)
        settle(chosen.compile, trainable, self._report)
        fitted = self._fit(trainable, rows, validation)
        trainable.release()
        result = self._stored(lambda: store_model(self._store, loaded.model, self._base))
        return fitted, result, trainable

    def _fit(self, trainable: Trainable, rows: RowTable, validation: RowTable) -> Fitted:
        before = _fingerprint(trainable)
        with compiler_faults():
            fitted = fit(
                trainable,
                rows,
                validation,
                self._settings,
                checkpoints=self._checkpoints,
                device=self._device,
                report=self._report,
                clock=self._clock,
                watch=_Followers(LiveCurve(self._work, self._about), self._trackers) if self._ranks.first else None,
                ranks=self._ranks,
            )
        load_weights(trainable, fitted.kept.tensors)
        if _fingerprint(trainable) == before:
            raise nothing_learnt()
        return fitted

    def _load(self) -> "LoadedBase":
        self._report(Event("train", f"Loading base {self._base.identity.id}"))
        full = self._settings.method == "full"
        return load_base(
            starting_ref(self._store, self._start, self._base.ref) if full else self._base.ref,
            dtype=torch.float32 if full else DTYPES[self._settings.precision],
            quantization=self._settings.quantization,
            device=self._device,
            identity=self._base.identity,
        )

    def _rows(self, loaded: "LoadedBase", split: str) -> RowTable:
        """Give a split's tokens from the store's cache, which the first training on them fills."""
        template, identity = chat_template(loaded.tokenizer), self._base.identity
        depends = {
            "split": split,
            "tokenizer": identity.tokenizer_digest,
            "template": template.digest,
            "context": identity.context,
            "stop_ids": list(template.stop_ids),
        }
        key = self._store.action("tokens", TOKENS_VERSION, depends, [self._snapshot], 0)
        records = read_records(self._store.file(self._snapshot, f"{split}.jsonl"))
        total = self._store.manifest(self._snapshot).body.get("counts", {}).get(split)
        made = checked_rows(
            records, template, context=identity.context, stop_ids=template.stop_ids, total=total, report=self._report
        )
        folder = self._store.cache(self._snapshot) / key
        if self._ranks.first:
            table(folder, made, self._report)
        self._ranks.wait()
        rows = open_table(folder)
        self._report(Event("train", f"{len(rows):,} {split} rows, {rows.tokens:,} tokens"))
        return rows

    def _body(self, fitted: Fitted, result: Digest) -> dict[str, Any]:
        before = fitted.curves[0].validation_loss if fitted.curves[0].step == 0 else None
        return {
            "method": self._settings.method,
            "settings": self._settings.as_body(),
            "steps": fitted.steps,
            "best_step": fitted.kept.step,
            "validation_loss": fitted.kept.validation_loss,
            "validation_loss_before": before,
            "tokens": fitted.tokens,
            "supervised_tokens": fitted.supervised,
            "result": result,
            "precision": self._settings.precision,
            "quantization": self._settings.quantization,
        }


class _Followers(Watcher):
    """The curve in the work folder, and the trackers."""

    def __init__(self, curve: LiveCurve, trackers: Trackers) -> None:
        self._curve = curve
        self._trackers = trackers

    def begin(self, points: Sequence[Point]) -> None:
        self._curve.begin(points)
        if len(points) == 1:
            self._trackers.log(points[0])

    def add(self, point: Point) -> None:
        self._curve.add(point)
        self._trackers.log(point)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the work folder; the hold ends with the process, however it ends."""
    with _lock_file(work) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                "Another process is training exactly this.", where=str(work), mend="Wait for it; its result will be found."
            ) from None
        yield


def _lock_file(work: Path) -> IO[str]:
    with writing("The lock of the work folder", work, mend="Check its owner and permissions, and the space that is free."):
        return (work / "lock").open("w")


def _threads(checkpoints: Checkpoints, wanted: int | None) -> int:
    """Keep to the number that an interrupted training began with: another one would round sums differently."""
    saved = checkpoints.newest()
    if saved is not None:
        return int(saved.facts["threads"])
    return wanted or min(torch.get_num_threads(), os.cpu_count() or 1)


def _fingerprint(trainable: Trainable) -> str:
    parts = [
        digest_bytes(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for tensor in trainable.parameters.values()
    ]
    return digest_bytes("".join(parts).encode())
