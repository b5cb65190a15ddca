"""Golden probes of a result, measured once."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from budwood.identity import Digest
from budwood.pipeline.job import Job
from budwood.pipeline.subjects import Standing

if TYPE_CHECKING:
    from budwood.engine.probes import ProbeSet

PROBE_CANDIDATES = 24
PROBES_VERSION = 1
"""Raised when the same subject would get other probes."""


def probes_of(job: Job, snapshot: Digest, result: Standing) -> "ProbeSet":
    from budwood.engine.base import skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.probes import read_probes
    from budwood.release.measure import make_probes

    section = job.recipe.release
    template = job.base.template
    settings = {"probes": section.probes, "tokens": section.probe_tokens, "subject": asdict(result.subject)}
    kept = job.store.work(job.store.action("probes", PROBES_VERSION, settings, [snapshot], 0)) / "probes.json"
    if kept.is_file():
        return read_probes(kept)
    probes = make_probes(
        result.ref,
        _prompts(job, snapshot),
        adapter=None if result.adapter is None else load_adapter(result.adapter, skeleton(result.ref)),
        original=job.base.ref if result.subject.kind == "model" else None,
        quantization=result.subject.quantization,
        count=section.probes,
        max_new_tokens=section.probe_tokens,
        stop_ids=template.stop_ids,
        report=job.report,
    )
    draft = kept.with_suffix(".tmp")
    draft.write_bytes(probes.encode())
    draft.replace(kept)
    return probes


def _prompts(job: Job, snapshot: Digest) -> list[list[int]]:
    """Take the first validation rows (training rows where there are none) as candidates: never a test row."""
    prompts: list[list[int]] = []
    for split in ("validation", "train"):
        with job.store.file(snapshot, f"{split}.jsonl").open("rb") as lines:
            for line in lines:
                if len(prompts) == PROBE_CANDIDATES:
                    return prompts
                messages = json.loads(line.decode("utf-8", "surrogatepass"))["messages"]
                prompts.append(job.base.template.encode_prompt(messages[:-1]))
    return prompts
