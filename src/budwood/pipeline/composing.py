"""Several releases' adapters made into one: a run that names the releases, to be judged and released like a trained one."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from budwood.errors import ReleaseError
from budwood.identity import Digest, short
from budwood.pipeline.job import Job

if TYPE_CHECKING:
    from budwood.engine.lora import Adapter
    from budwood.engine.lora.compose import Settings

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can be told to hold."""


@dataclass(frozen=True)
class ComposedRun:
    """What a composition came to.

    Args:
        run: that names the releases and holds the adapter as its result.
        adapter: the new one.
        rank: of it.
        lost: mean over its layers of the share of the wanted delta that the rank could not hold.
        notes: what to know before it is served elsewhere.
    """

    run: Digest
    adapter: Digest
    rank: int
    lost: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compose_releases(job: Job, releases: Sequence[Digest], settings: "Settings") -> ComposedRun:
    """Compose the adapters of releases on the recipe's base.

    The run has the snapshots that they were trained on among its parents: it can be judged on the test rows of one of them.

    Args:
        job: its recipe names the base; nothing is trained.
        releases: of adapters on that base, in one form of quantisation.
        settings: method and weights, one a release.

    Raises:
        ReleaseError: a release holds no adapter, or stands on another base or form of it.
        AdapterError: what `engine.lora.compose` refuses.
    """
    from budwood.engine.base import skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.lora.compose import compose

    bodies = [_body(job, release) for release in releases]
    forms = sorted({(str(body["base"]["quantization"]), str(body["base"]["precision"])) for body in bodies})
    if len(forms) > 1:
        raise ReleaseError(
            f"The releases stand on different forms of the base: {', '.join('/'.join(form) for form in forms)}.",
            mend="Compose releases that were trained on one form.",
        )
    model = skeleton(job.base.ref)
    adapters = [load_adapter(job.store.folder(body["result"]["digest"]), model) for body in bodies]
    composed = compose(adapters, settings)
    adapter = _store_adapter(job, composed.adapter, forms[0][0], releases)
    lost = fmean(composed.lost.values())
    data = dict.fromkeys(Digest(body["snapshot"]) for body in bodies if body["snapshot"] is not None)
    run = _store_run(job, adapter, [*data, *releases], settings, forms[0])
    rank = composed.adapter.config.rank
    return ComposedRun(run, adapter, rank, lost, tuple(_notes(composed.adapter)))


def _body(job: Job, release: Digest) -> Any:
    manifest = job.store.manifest(release)
    where = f"{manifest.kind} {short(release)}…"
    body = manifest.body
    if manifest.kind != "release" or body["result"]["kind"] != "adapter":
        raise ReleaseError("Only releases of adapters are composed.", where=where, mend="Name such releases.")
    if body["base"]["weights_digest"] != job.base.identity.weights_digest:
        raise ReleaseError(
            f"It stands on base {body['base']['id']} with weights {short(body['base']['weights_digest'])}, the recipe names "
            f"{job.recipe.base.id} with {short(job.base.identity.weights_digest)}.",
            where=where,
            mend="Adapters of different bases cannot be composed: train one on this base.",
        )
    return body


def _store_adapter(job: Job, adapter: "Adapter", form: str, releases: Sequence[Digest]) -> Digest:
    from budwood.engine.lora import save_adapter

    identity = job.base.identity
    body = {
        "base": identity.weights_digest,
        "quantization": form,
        "rank": adapter.config.rank,
        "alpha": float(adapter.config.alpha),
        "rslora": adapter.config.rslora,
        "targets": list(adapter.config.targets),
        "parameters": adapter.parameters,
        **({"token_rows": {path: list(rows.ids) for path, rows in adapter.rows.items()}} if adapter.rows else {}),
    }
    with job.store.draft("adapter") as draft:
        save_adapter(adapter, draft.folder, base_id=identity.id, revision=identity.revision)
        return draft.commit(parents=[job.base.object, *releases], body=body)


def _store_run(job: Job, adapter: Digest, sources: Sequence[Digest], settings: "Settings", form: tuple[str, str]) -> Digest:
    values = asdict(settings) | {"weights": list(settings.weights)}
    body = {
        "method": "compose",
        "settings": values,
        "sources": list(sources),
        "result": adapter,
        "quantization": form[0],
        "precision": form[1],
    }
    with job.store.draft("run") as draft:
        return draft.commit(
            parents=[job.base.object, adapter, *sources],
            body=body,
            attestation={"recipe": job.recipe.name, "who": job.who},
        )


def _notes(adapter: "Adapter") -> "Iterator[str]":
    rank, rows = adapter.config.rank, sum(len(one.ids) for one in adapter.rows.values())
    if rows:
        yield f"{rows} token row{'s' if rows > 1 else ''} taken over as trained, whatever the weights; vLLM loads none."
    if rank in VLLM_RANKS:
        return
    fitting = next((one for one in VLLM_RANKS if one >= rank), None)
    yield (
        f"Rank {rank} is none that vLLM can be told; start it with --max-lora-rank {fitting}."
        if fitting
        else f"Rank {rank} is more than vLLM takes ({VLLM_RANKS[-1]}); compose with a smaller --rank."
    )
