"""A release as one model: its adapter merged into its base, with the measured distance from what is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from budwood.engine.divergence import Divergence, Logits, divergence
from budwood.errors import ReleaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef, LoadedBase, Quantization
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
        out: a folder that does not exist yet, or is empty.
        onto: which merge is written.
        report: told of progress.

    Raises:
        ReleaseError: the release is no adapter, or its base is not quantised and the expanded weights were asked for.
        ServeError: its base is not found.
        AdapterError: `out` holds something, or the disk refuses.
    """
    from budwood.engine.lora import load_adapter, merged_model_files
    from budwood.engine.probes import read_probes
    from budwood.serve.loader import find_base, read_body

    where = f"release {short(release)}…"
    body = read_body(store.manifest(release).body, where=where)
    if body.kind != "adapter" or body.result is None:
        raise ReleaseError(f"There is nothing to merge: the release is a {body.kind}.", where=where, mend="Use its files.")
    if onto == "dequantized" and body.quantization == "none":
        raise ReleaseError(
            "The base is not quantised, so there are no expanded weights.", where=where, mend="Use --onto original."
        )
    ref = find_base(store, body, (), where)
    folder = store.folder(body.result)
    served = _load(ref, body.quantization)
    adapter = load_adapter(folder, served.model)
    wanted = _attached(served, adapter)
    probes = read_probes(store.file(release, "probes.json")).probes
    rows = [((*probe.prompt_ids, *probe.token_ids[:-1]), len(probe.token_ids)) for probe in probes]
    choices: tuple[Onto, ...] = ("original",) if body.quantization == "none" else ("original", "dequantized")
    found: dict[Onto, Divergence] = {}
    for choice in choices:
        report(Event("release", f"Merging onto the {choice} weights"))
        form = body.quantization if choice == "dequantized" and body.quantization != "none" else None
        with TemporaryDirectory(dir=out.parent if out.parent.is_dir() else None) as scratch:
            target = out if choice == onto else Path(scratch) / "merged"
            merged_model_files(ref.folder, adapter, target, onto=form)
            found[choice] = divergence(wanted, _plain(target, ref), rows)
    return Merged(out, release, onto, found)


def _load(ref: "BaseRef", quantization: "Quantization") -> "LoadedBase":
    import torch

    from budwood.engine.base import load_base

    return load_base(ref, dtype=torch.float32, quantization=quantization)


def _attached(base: "LoadedBase", adapter: Any) -> Logits:
    from budwood.engine.lora import AdapterBank

    bank = AdapterBank.attach(base.model)
    slot = bank.add("release", adapter)
    plain = _logits(base)

    def of(ids: Sequence[int]) -> Any:
        with bank.use(slot):
            return plain(ids)

    return of


def _plain(folder: Path, base: "BaseRef") -> Logits:
    from budwood.engine.base import BaseRef

    return _logits(_load(BaseRef(base.id, folder, None), "none"))


def _logits(base: "LoadedBase") -> Logits:
    import torch

    from budwood.engine.base import hidden_states, logits
    from budwood.engine.packed import Encoded, pack

    def of(ids: Sequence[int]) -> Any:
        with torch.no_grad():
            return logits(base.model, hidden_states(base.model, pack([Encoded(tuple(ids), (False,) * len(ids))])))

    return of
