"""The peers' side: TRL's SFTTrainer over PEFT's LoRA, with bitsandbytes for 4 bits, as it ships and at its best."""

import tempfile
import time
from typing import Any

from peers.shapes import Row
from peers.trial import CHECKED, Found, Trial, finished, peak_bytes

MEAN = 190
"""Tokens of a row on average: how many rows make a step."""


def run(trial: Trial, base: str, rows: list[Row]) -> Found:
    """Train for warm + steps optimiser steps; a step's time is from its begin to its end, data included."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.sft_trainer import SFTTrainer

    torch.set_num_threads(trial.threads)
    data = Dataset.from_list([_labelled(row) for row in rows])
    begun: list[float] = []
    ended: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            finished(trial.device)
            begun.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            finished(trial.device)
            ended.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer: Any = SFTTrainer(
            model=_model(trial, base),
            args=_settings(trial, folder),
            train_dataset=data,
            processing_class=_tokenizer(base),
            peft_config=_lora(),
            callbacks=[Clock()],
        )
        first_loss = _loss(trainer, data)
        counts = _count(trainer)
        trainer.train()
    kept = slice(trial.warm, trial.warm + trial.steps)
    seconds = [end - begin for begin, end in zip(begun, ended, strict=True)]
    tokens, supervised = zip(*counts[: len(seconds)], strict=True)
    return Found(seconds[kept], list(tokens[kept]), list(supervised[kept]), peak_bytes(trial.device), first_loss)


def _model(trial: Trial, base: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    make: Any = BitsAndBytesConfig  # has no annotations
    quantised = make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    load: Any = AutoModelForCausalLM
    return load.from_pretrained(
        base,
        dtype=torch.bfloat16,
        quantization_config=quantised if trial.method == "qlora" else None,
        device_map={"": 0} if trial.device == "cuda" else None,
    )


def _tokenizer(base: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _settings(trial: Trial, folder: str) -> Any:
    from trl.trainer.sft_config import SFTConfig

    rows = max(1, round(trial.tokens / MEAN))
    best: dict[str, Any] = {}
    if trial.side == "trl by length":
        best = {"train_sampling_strategy": "group_by_length"}
    elif trial.side == "trl larger batch":
        # The same tokens a step in twice the rows of a pass would be another step: twice the step, grouped.
        best = {"train_sampling_strategy": "group_by_length"}
        rows *= 2
    elif trial.side == "trl packed":
        best = {"packing": True, "max_length": trial.tokens}
        rows = 1
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=rows,
        max_steps=trial.warm + trial.steps,
        learning_rate=1e-4,
        bf16=True,
        use_cpu=trial.device == "cpu",
        gradient_checkpointing=trial.checkpointing,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **best,
    )


def _labelled(row: Row) -> dict[str, list[int]]:
    first = len(row.ids) - row.supervised
    return {"input_ids": row.ids, "labels": [-100] * first + row.ids[first:]}


def _count(trainer: Any) -> list[tuple[int, int]]:
    """Note tokens and supervised tokens of every batch, padding not counted, as the trainer takes them."""
    counts: list[tuple[int, int]] = []
    collate = trainer.data_collator

    def counting(features: Any) -> Any:
        tokens = sum(len(feature["input_ids"]) for feature in features)
        counts.append((tokens, sum(label != -100 for feature in features for label in feature["labels"])))
        return collate(features)

    trainer.data_collator = counting
    return counts


def _loss(trainer: Any, data: Any) -> float:
    import torch

    features = [{key: data[index][key] for key in ("input_ids", "labels")} for index in range(min(CHECKED, len(data)))]
    batch = trainer.data_collator(features)
    # bitsandbytes packs a CPU's weights for inference, for good and without a way back, once it sees them outside of training.
    trainer.model.train()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        return float(trainer.compute_loss(trainer.model, batch))
