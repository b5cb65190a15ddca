"""Quality against TRL + PEFT at equal settings: support-triage and BANKING77 on the bundled base, LoRA, paired by case.

    python benchmarks/quality_vs_peers.py --data ../shared/data/banking77 [--tasks support banking] [--seeds 3] [--json FILE]

Both sides train on the same tokens with the same supervision, rank, scale, dropout, peak rate, schedule, clipping and number of
epochs, in float32, keep the last weights, and start from a draw of their own. TRL takes as many rows a step as Budwood does on
average. Both adapters answer the same suite through the same code; differences are paired by case. Asserts nothing. About an
hour a seed on one core, nearly all of it BANKING77. Install the peers with `pip install -e '.[bench]'`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import banking77_quality
import quickstart_quality
from budwood import pipeline
from budwood.recipe import Recipe
from budwood.store import open_store
from trial import changed

if TYPE_CHECKING:
    from budwood.identity import Digest
    from budwood.train.rows import TrainRow
    from budwood.train.settings import TrainSettings

TASKS = ("support", "banking")


@dataclass(frozen=True)
class Pair:
    """One seed of one task: both scores, and the difference with its interval."""

    task: str
    seed: int
    budwood: float
    trl: float
    low: float
    high: float


def main() -> None:
    options = _options()
    pairs = [Pair(**one) for one in json.loads(options.json.read_text())] if options.json and options.json.exists() else []
    for task in options.tasks:
        for seed in range(options.seeds):
            if any((pair.task, pair.seed) == (task, seed) for pair in pairs):
                continue
            pairs.append(_measure(task, seed, options.data))
            print(pairs[-1], file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps([asdict(pair) for pair in pairs]))
    print("| task | seed | Budwood | TRL + PEFT | difference, 95 % |\n|---|---:|---:|---:|---:|")
    for pair in pairs:
        gained = 100 * (pair.budwood - pair.trl)
        print(
            f"| {pair.task} | {pair.seed} | {100 * pair.budwood:.2f} | {100 * pair.trl:.2f} "
            f"| {gained:+.2f} ({100 * pair.low:+.2f} to {100 * pair.high:+.2f}) |"
        )
    for task in options.tasks:
        gains = [100 * (pair.budwood - pair.trl) for pair in pairs if pair.task == task]
        print(f"\n{task}: mean difference {fmean(gains):+.2f} points over {len(gains)} seeds.")


def _measure(task: str, seed: int, data: Path) -> Pair:
    load: dict[str, Callable[[Path], Recipe]] = {
        "support": lambda folder: quickstart_quality.load(folder, seed),
        "banking": lambda folder: banking77_quality.load(folder, data, tune=False),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = changed(load[task](folder), "lora", {"keep": "last"}, seed=seed)
        return _paired(task, seed, recipe, folder)


def _paired(task: str, seed: int, recipe: Recipe, folder: Path) -> Pair:
    from budwood.evaluate.answering import Answerers
    from budwood.evaluate.compare import compare
    from budwood.evaluate.report import load_report
    from budwood.evaluate.suite import make_suite
    from budwood.events import silent
    from budwood.pipeline.subjects import report_of, standing

    with open_store(folder / ".budwood") as store:
        job = pipeline.Job(recipe=recipe, store=store, report=silent, who="benchmark")
        ours = pipeline.evaluate(job)
        body = store.manifest(ours.run).body
        adapter = _theirs(job, ours.snapshot, int(body["steps"]), folder / "trl")
        one = standing(job, adapter, "none", body["precision"])
        suite = make_suite(recipe, store, ours.snapshot)
        theirs = load_report(store, report_of(job, ours.snapshot, suite, one, Answerers()))
        primary = recipe.evaluate.primary
        delta = compare(ours.candidate, theirs, primary=primary, alpha=0.025, resamples=2000).delta
        mine, other = (float(one.metrics[primary] or 0) for one in (ours.candidate, theirs))
        return Pair(task, seed, mine, other, delta.low, delta.high)


def _theirs(job: pipeline.Job, snapshot: "Digest", steps: int, out: Path) -> "Digest":
    """Train with TRL and store the adapter as one of ours."""
    import torch

    from budwood.engine.base import load_tokenizer, skeleton
    from budwood.engine.chat import chat_template
    from budwood.engine.lora import linear_shapes, load_adapter
    from budwood.events import silent
    from budwood.train.result import Base, store_adapter
    from budwood.train.rows import checked_rows, read_records
    from budwood.train.settings import TrainSettings

    plan = pipeline.plan(job)
    settings = TrainSettings.of(
        job.recipe.train, method="lora", learning_rate=plan.learning_rate, seed=job.recipe.seed, checkpointing="none"
    )
    template = chat_template(load_tokenizer(job.base.ref))
    records = read_records(job.store.file(snapshot, "train.jsonl"))
    context = job.base.identity.context
    rows = list(checked_rows(records, template, context=context, stop_ids=template.stop_ids, total=None, report=silent))
    before = torch.get_num_threads()
    _train(job.base.ref.folder, rows, settings, steps, out)
    torch.set_num_threads(before)
    adapter = load_adapter(out, linear_shapes(skeleton(job.base.ref)))
    return store_adapter(job.store, adapter, Base(job.base.ref, job.base.identity, job.base.object), settings)


def _train(base: Path, rows: "list[TrainRow]", settings: "TrainSettings", steps: int, out: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    load: Any = AutoModelForCausalLM
    batch = max(1, round(len(rows) * settings.epochs / steps))
    trainer: Any = SFTTrainer(
        model=load.from_pretrained(base, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(out / "work"),
            per_device_train_batch_size=batch,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=round(settings.warmup * steps),
            weight_decay=settings.weight_decay,
            adam_beta2=settings.beta2,
            max_grad_norm=settings.clip,
            seed=settings.seed,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            train_sampling_strategy="group_by_length",
            report_to="none",
            save_strategy="no",
            logging_steps=10**6,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([_labelled(row) for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=round(settings.alpha),
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    trainer.save_model(str(out))


def _labelled(row: "TrainRow") -> dict[str, list[int]]:
    marked = zip(row.encoded.ids, row.encoded.supervised, strict=True)
    return {"input_ids": list(row.encoded.ids), "labels": [token if mark else -100 for token, mark in marked]}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with BANKING77's train.csv and test.csv")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="kept after every seed, and gone on from")
    return parser.parse_args()


if __name__ == "__main__":
    main()
