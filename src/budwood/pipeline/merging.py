"""A release as one model: its adapter merged into its base, with the measured distance from what is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from budwood.engine.divergence import Divergence, Logits, divergence, recorded
from budwood.errors import ReleaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from torch import Tensor

    from budwood.engine.base import BaseRef, LoadedBase, Quantization
    from budwood.engine.lora import Adapter
    from budwood.store import Store

Onto = Literal["original", "dequantized"]


@dataclass(frozen=True)
class Merged:
    """A merged model, and how far each possible merge is from the release as it is served."""

    folder: Path
    release: Digest
    onto: Onto
    divergences: dict[Onto, Divergence]

    def as_dict(self) -> dict[str, Any]:
        found = {name: one.as_dict() for name, one in self.divergences.items()}
        return {"folder": str(self.folder), "release": self.release, "onto": self.onto, "divergences": found}


def merge_release(store: "Store", release: Digest, out: Path, onto: Onto, *, report: Reporter) -> Merged:
    """Merge a release's adapter into its base and write the model; measure on the release's own golden prompts.

    On a base in 4 or 8 bits there are two merges: onto the original weights, which the adapter has never seen, and onto the
    expanded ones, which are what it was trained on. Both are measured, against the adapter on the quantised base, in float32.

    Args:
        store: of the release.
        release: its digest.
        out: a folder that does not exist yet, or is empty. It is there when all is measured.
        onto: which merge is written.
        report: told of progress.

    Raises:
        ReleaseError: the release is no adapter, or its base is not quantised and the expanded weights were asked for.
        ServeError: its base is not found.
        AdapterError: `out` holds something, or the disk refuses.

    Cost: merging holds one weight at a time. Measuring runs the models one after the other, each in float32 and alone in
    memory: for a base in 16 bits twice its files. On disk there are up to two merged models until the end.
    """
    from budwood.engine.base import BaseRef, skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.lora.merge_files import merged_folder, write_merged
    from budwood.serve.bound import find_base, read_body

    where = f"release {short(release)}…"
    body = read_body(store.manifest(release).body, where=where)
    if body.kind != "adapter" or body.result is None:
        raise ReleaseError(f"There is nothing to merge: the release is a {body.kind}.", where=where, mend="Use its files.")
    if onto == "dequantized" and body.quantization == "none":
        raise ReleaseError(
            "The base is not quantised, so there are no expanded weights.", where=where, mend="Use --onto original."
        )
    ref = find_base(store, body, (), where)
    adapter = load_adapter(store.folder(body.result), skeleton(ref))
    rows = probe_rows(store, release)
    choices: tuple[Onto, ...] = ("original",) if body.quantization == "none" else ("original", "dequantized")
    found: dict[Onto, Divergence] = {}
    with merged_folder(out, ref.folder) as made, TemporaryDirectory(dir=made) as scratch:
        report(Event("release", "Running the release as it is served"))
        wanted = recorded(served(ref, body.quantization, adapter), rows, Path(scratch))
        for choice in choices:
            report(Event("release", f"Merging onto the {choice} weights"))
            target = made if choice == onto else Path(scratch) / "merged"
            target.mkdir(exist_ok=True)
            form = body.quantization if choice == "dequantized" and body.quantization != "none" else None
            write_merged(ref.folder, adapter, target, onto=form)
            found[choice] = divergence(wanted, _logits(load_float32(BaseRef(ref.id, target, None), "none")), rows)
    return Merged(out, release, onto, found)


def probe_rows(store: "Store", release: Digest) -> list[tuple[tuple[int, ...], int]]:
    """The golden prompts with their answers, and how many last positions are the answers'."""
    from budwood.engine.probes import read_probes

    probes = read_probes(store.file(release, "probes.json")).probes
    return [((*probe.prompt_ids, *probe.token_ids[:-1]), len(probe.token_ids)) for probe in probes]


def load_float32(ref: "BaseRef", quantization: "Quantization") -> "LoadedBase":
    """Load a base in the precision that distances are measured in."""
    import torch

    from budwood.engine.base import load_base

    return load_base(ref, dtype=torch.float32, quantization=quantization)


def served(ref: "BaseRef", quantization: "Quantization", adapter: "Adapter") -> Logits:
    """Logits of an adapter on its base, as the embedded server computes them."""
    from budwood.engine.lora import AdapterBank

    base = load_float32(ref, quantization)
    bank = AdapterBank.attach(base.model)
    slot = bank.add("release", adapter)
    plain = _logits(base)

    def of(ids: Sequence[int], count: int) -> "Tensor":
        with bank.use(slot):
            return plain(ids, count)

    return of


def _logits(base: "LoadedBase") -> Logits:
    import torch

    from budwood.engine.base import hidden_states, logits
    from budwood.engine.packed import Encoded, pack

    def of(ids: Sequence[int], count: int) -> "Tensor":
        last = torch.arange(len(ids) - count, len(ids))
        with torch.no_grad():
            hidden = hidden_states(base.model, pack([Encoded(tuple(ids), (False,) * len(ids))]), only=last)
            return logits(base.model, hidden, last)

    return of
