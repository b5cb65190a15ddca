"""The training loop, its checkpoints (safetensors and JSON, no pickle) and its log (one JSON line an entry)."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tools.seedling import corpus as text
from tools.seedling import export
from tools.seedling.corpus import Corpus
from tools.seedling.crew import Crew
from tools.seedling.muon import Optimiser
from tools.seedling.network import Network
from tools.seedling.schedule import Schedule
from torch import Tensor

MICRO = 8192  # tokens of one forward pass; CUDA and a CPU with a large cache like the same


@dataclass
class Trainer:
    """Everything that one run holds."""

    network: Network
    tokenizer: Tokenizer
    corpus: Corpus
    schedule: Schedule
    seed: int
    work: Path  # checkpoints and log
    product: Path  # where the transformers form goes
    device: torch.device
    step: int = 0
    crew: Crew = field(default_factory=Crew)

    def __post_init__(self) -> None:
        self.optimiser = Optimiser(self.network, weight_decay=0.05, crew=self.crew)
        self.hidden = self.network.hidden

    def compile(self) -> None:
        """Compile the blocks and the loss; row lengths are few, so each gets its own code."""
        torch._dynamo.config.automatic_dynamic_shapes = False
        self.network.hidden = torch.compile(self.hidden)  # type: ignore[method-assign]
        self.network.logit_gradient = torch.compile(self.network.logit_gradient)

    def rows(self, step: int) -> Tensor:
        """The rows of one step, (B, length + 1)."""
        rng = random.Random(f"{self.seed}:{step}")
        length = self.schedule.length(step)
        documents = self.corpus.documents(rng, self.schedule.mixture(step))
        return text.batch(documents, self.tokenizer, self.schedule.tokens // length, length)

    def run(self, steps: int, *, save_every: int, export_every: int) -> None:
        """Train up to (not including) step `steps`."""
        started, since, smooth = time.perf_counter(), self.step, 0.0
        while self.step < steps:
            rows = self.rows(self.step)[self.crew.rank :: self.crew.size].to(self.device)
            loss = self.network(rows[:, :-1], rows[:, 1:])
            loss.backward()
            rate = self.schedule.rate(self.step)
            norm = self.optimiser.step(rate=rate, number=self.step + 1)
            self.step += 1
            value = float(loss.detach())
            smooth = 0.9 * smooth + 0.1 * value if smooth else value
            if self.step % 10 == 0:
                speed = (self.step - since) * self.schedule.tokens / (time.perf_counter() - started)
                self.log(
                    {
                        "step": self.step,
                        "loss": round(smooth, 4),
                        "rate": rate,
                        "norm": round(norm, 3),
                        "tokens_per_s": round(speed),
                    }
                )
            if self.step % save_every == 0:
                self.save()
            if self.step % export_every == 0:
                self.export()
        self.save()
        self.export()

    def log(self, entry: dict[str, float]) -> None:
        if self.crew.rank:
            return
        line = json.dumps(entry)
        print(line, flush=True)
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def export(self) -> None:
        if self.crew.rank:
            return
        export.write(self.product, self.optimiser.master, self.network.shape, self.tokenizer)

    def save(self) -> None:
        """Tensors first, then the step: a file that is there is whole."""
        if self.crew.rank:
            return
        part = self.work / "checkpoint.part"
        save_file(self.optimiser.tensors(), part, metadata={"step": str(self.step)})
        os.replace(part, self.work / "checkpoint.safetensors")
        (self.work / "checkpoint.json").write_text(json.dumps({"step": self.step, "seed": self.seed}) + "\n", encoding="utf-8")

    def resume(self) -> None:
        saved = json.loads((self.work / "checkpoint.json").read_text(encoding="utf-8"))
        if saved["seed"] != self.seed:
            raise ValueError(f"the checkpoint is of seed {saved['seed']}, this run of seed {self.seed}: pass the same --seed")
        self.optimiser.load(load_file(self.work / "checkpoint.safetensors").items())
        self.step = int(saved["step"])

    def check_resumed(self) -> None:
        """A decay that should have begun before the checkpoint cannot be made up for."""
        start = self.schedule.decay_from
        if start is not None and not start <= self.step <= start + self.schedule.decay_steps:
            raise ValueError(
                f"the checkpoint is at step {self.step}, "
                f"the decay goes from {start} to {start + self.schedule.decay_steps}: "
                f"pass --steps {self.step} to decay from here"
            )
