"""What the seedling can do: share of exact answers on generated tasks that training never drew, and held-out loss.

The tasks come from the same generators under seeds that training does not use; the wording patterns are the same, the
sentences are mostly not. Held-out prose is prose that training never saw.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tools.seedling import records, service_tasks, skills
from tools.seedling.chat import Chat
from tools.seedling.corpus import Corpus
from transformers import AutoModelForCausalLM, AutoTokenizer

PROBES: Mapping[str, Callable[[random.Random], Chat]] = {
    "copy a text exactly": skills.copy,
    "look up in a table": skills.lookup,
    "item of a list": skills.pick,
    "field of a text": records.question,
    "text to JSON": records.to_json,
    "fact about one of three people": records.story,
    "name the topic freely": service_tasks.name_topic,
    "pick the topic from a list": service_tasks.pick_topic,
    "same meaning?": service_tasks.same,
    "odd one out": service_tasks.odd,
    "label taught by examples": service_tasks.examples,
    "sentiment or urgency": service_tasks.tone,
    "order number out of a message": service_tasks.detail,
    "message to JSON record": service_tasks.triage,
    "obey a system rule": skills.follow,
    "arithmetic": skills.arithmetic,
}


def open_model(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """Model and tokenizer; transformers' own types do not hold under strict checking, hence Any."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")


def accuracy(folder: Path, *, count: int, device: torch.device) -> dict[str, float]:
    """Share of `count` prompts for each probe whose greedy answer is the right one."""
    model, tokenizer = open_model(folder, device)
    found: dict[str, float] = {}
    for name, make in PROBES.items():
        rng = random.Random(f"probe:{name}")
        chats = [make(rng) for _ in range(count)]
        answers = [answer for start in range(0, count, 25) for answer in generate(model, tokenizer, chats[start : start + 25])]
        right = [same_answer(given, chat[-1][1]) for given, chat in zip(answers, chats, strict=True)]
        found[name] = sum(right) / count
    return found


def same_answer(given: str, wanted: str) -> bool:
    """Equal up to the style of a label (`a_b`, `a-b`, `A b`), which a prompt without examples leaves open."""
    return given.lower().replace("_", " ").replace("-", " ") == wanted.lower().replace("_", " ").replace("-", " ")


def generate(model: Any, tokenizer: Any, chats: list[Chat]) -> list[str]:
    """Greedy answers to all turns but the last."""
    prompts = [[{"role": role, "content": content} for role, content in chat[:-1]] for chat in chats]
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    given = tokenizer(texts, return_tensors="pt", padding=True).to(model.device)
    with torch.inference_mode():
        out = model.generate(**given, do_sample=False, max_new_tokens=120)
    answers: list[str] = tokenizer.batch_decode(out[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def losses(folder: Path, prose: Path, *, count: int, device: torch.device) -> dict[str, float]:
    """Mean loss a token, by source, on documents that training did not draw."""
    model, tokenizer = open_model(folder, device)
    corpus = Corpus.open(prose, held_out=True)
    found: dict[str, float] = {}
    for name, source in corpus.sources.items():
        rng = random.Random(f"loss:{name}")
        total, tokens = 0.0, 0
        for _ in range(count):
            ids = tokenizer(source(rng), return_tensors="pt", truncation=True, max_length=512).input_ids.to(device)
            if ids.shape[1] > 1:
                with torch.inference_mode():
                    total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
                tokens += ids.shape[1] - 1
        found[name] = total / tokens
    return found


def report(folder: Path, prose: Path, *, count: int, device: torch.device) -> str:
    """Both tables as JSON."""
    return json.dumps(
        {
            "exact": accuracy(folder, count=count, device=device),
            "loss": {name: round(loss, 3) for name, loss in losses(folder, prose, count=count, device=device).items()},
        },
        indent=2,
    )
