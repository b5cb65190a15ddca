"""Golden probes of a result, measured once."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from budwood.errors import AdapterError, ReleaseError
from budwood.identity import Digest
from budwood.pipeline.job import Job
from budwood.pipeline.subjects import Standing

if TYPE_CHECKING:
    from budwood.engine.probes import ProbeSet

PROBE_CANDIDATES = 24
PROBES_VERSION = 1
"""Raised when the same subject would get other probes."""


def probes_of(job: Job, snapshot: Digest, result: Standing) -> "ProbeSet":
    from budwood.store.durable import replace_file, storing

    section = job.recipe.release
    settings = {"probes": section.probes, "tokens": section.probe_tokens, "subject": asdict(result.subject)}
    kept = job.store.work(job.store.action("probes", PROBES_VERSION, settings, [snapshot], 0)) / "probes.json"
    done = _read_kept(job, kept)
    if done is not None:
        return done
    probes = _measure(job, snapshot, result)
    with storing("the golden probes", kept.parent):
        replace_file(kept, probes.encode(), scratch=kept.with_name(f"{uuid4().hex}.tmp"))
    return probes


def _read_kept(job: Job, kept: Path) -> "ProbeSet | None":
    from budwood.engine.probes import read_probes

    if not kept.exists():
        return None
    try:
        return read_probes(kept)
    except AdapterError as error:
        job.say("release", f"{error.what} They are measured again ({kept})")
        return None


def _measure(job: Job, snapshot: Digest, result: Standing) -> "ProbeSet":
    from budwood.engine.base import skeleton
    from budwood.engine.lora import load_adapter
    from budwood.release.measure import make_probes

    section = job.recipe.release
    return make_probes(
        result.ref,
        probe_prompts(job, snapshot),
        adapter=None if result.adapter is None else load_adapter(result.adapter, skeleton(result.ref)),
        original=job.base.ref if result.subject.kind == "model" else None,
        quantization=result.subject.quantization,
        count=section.probes,
        max_new_tokens=section.probe_tokens,
        stop_ids=job.base.template.stop_ids,
        report=job.report,
    )


def probe_prompts(job: Job, snapshot: Digest) -> list[list[int]]:
    """Take the first validation rows (training rows where there are none) as candidates: never a test row.

    Prompts that leave no room for the answer are passed over.

    Raises:
        ReleaseError: no prompt leaves room.
    """
    context, tokens = job.base.identity.context, job.recipe.release.probe_tokens
    prompts: list[list[int]] = []
    shortest = 0
    for split in ("validation", "train"):
        with job.store.file(snapshot, f"{split}.jsonl").open("rb") as lines:
            for line in lines:
                row = json.loads(line.decode("utf-8", "surrogatepass"))
                prompt = job.base.template.encode_prompt(row["messages"][:-1], row.get("tools", ()))
                shortest = min(shortest or len(prompt), len(prompt))
                if len(prompt) + tokens <= context:
                    prompts.append(prompt)
                if len(prompts) == PROBE_CANDIDATES:
                    return prompts
    if shortest and not prompts:
        raise ReleaseError(
            f"No prompt leaves room for a golden probe: the shortest has {shortest:,} tokens, a probe has up to {tokens:,} "
            f"more, and the base sees {context:,}.",
            where="[release] probe_tokens",
            mend=f"Lower it to {context - shortest:,} or less." if shortest < context else "Add rows with shorter prompts.",
        )
    return prompts
