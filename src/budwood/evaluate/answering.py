"""Prompts to answers on the engine. Each base is loaded once, however many subjects stand on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from budwood.errors import EvaluationError
from budwood.evaluate.score import AnswerRecord
from budwood.evaluate.suite import Case, Decoding
from budwood.identity import digest_json

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef, LoadedBase, Quantization
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.generate import Generator, Request
    from budwood.engine.lora import AdapterBank

Answer = Callable[[Sequence[Case], Decoding, Callable[[int, int], None]], Sequence[AnswerRecord]]
"""Cases and decoding → an answer for each, in order; told of progress as (done, of)."""


@dataclass
class _Loaded:
    base: "LoadedBase"
    bank: "AdapterBank"
    generator: "Generator"
    template: "ChatTemplate"


class Answerers:
    """Gives answering functions over bases that stay loaded until this is dropped."""

    def __init__(self, *, device: str = "cpu", max_batch: int = 64) -> None:
        self._device = device
        self._max_batch = max_batch
        self._loaded: dict[tuple[Path, str, str], _Loaded] = {}

    def of(self, ref: "BaseRef", *, quantization: "Quantization", precision: str, adapter: Path | None) -> Answer:
        """Give the answering function of a base, or of an adapter on it.

        Args:
            ref: base, or the folder of a full model.
            quantization: "none", "nf4" or "int8".
            precision: "float32" or "bfloat16".
            adapter: folder of the adapter; None for the base alone.

        Raises:
            BaseError, AdapterError: they cannot be loaded, or do not fit.
        """
        from budwood.engine.lora import load_adapter

        key = (ref.folder, quantization, precision)
        if key not in self._loaded:
            self._loaded[key] = self._load(ref, quantization, precision)
        loaded = self._loaded[key]
        if adapter is None:
            return _answer_with(loaded, -1)
        name = str(adapter)
        if name not in loaded.bank.keys:
            loaded.bank.add(name, load_adapter(adapter, loaded.base.model))
        return _answer_with(loaded, loaded.bank.slot(name))

    def _load(self, ref: "BaseRef", quantization: "Quantization", precision: str) -> _Loaded:
        import torch

        from budwood.engine.base import load_base
        from budwood.engine.chat import chat_template
        from budwood.engine.generate import Generator
        from budwood.engine.lora import AdapterBank

        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        base = load_base(ref, dtype=dtype, quantization=quantization, device=self._device)
        bank = AdapterBank.attach(base.model)
        return _Loaded(base, bank, Generator(base, bank, max_batch=self._max_batch), chat_template(base.tokenizer))


def _answer_with(loaded: _Loaded, slot: int) -> Answer:
    def answer(cases: Sequence[Case], decoding: Decoding, progress: Callable[[int, int], None]) -> list[AnswerRecord]:
        from budwood.engine.generate import generate

        requests = [_request(case, decoding, slot, loaded) for case in cases]
        answers = generate(loaded.generator, requests, report_progress=progress)
        return [
            AnswerRecord(
                output=loaded.template.decode(answer.tokens),
                finish=answer.finish,
                tokens=len(answer.tokens),
                first_token_s=answer.first_token_s,
                seconds=answer.total_s - answer.first_token_s,
            )
            for answer in answers
        ]

    return answer


def _request(case: Case, decoding: Decoding, slot: int, loaded: _Loaded) -> "Request":
    from budwood.engine.generate import Request

    prompt = tuple(loaded.template.encode_prompt(case.messages, case.tools))
    room = loaded.generator.context - len(prompt)
    if room < 1:
        raise EvaluationError(
            f"The prompt of case {case.case_id[:8]} has {len(prompt):,} tokens, which fill the context of "
            f"{loaded.generator.context:,}.",
            where="the test split",
            mend="Lower [prepare] max_tokens, so that such rows are rejected with a record.",
        )
    return Request(
        prompt=prompt,
        adapter=slot,
        max_new_tokens=min(decoding.max_new_tokens, room),
        temperature=decoding.temperature,
        seed=_seed(decoding, case),
        stop_ids=loaded.template.stop_ids,
    )


def _seed(decoding: Decoding, case: Case) -> int:
    """Each case draws its own numbers, the same for every subject: one seed for all would make cases lucky together."""
    return int(digest_json([decoding.seed, case.case_id])[:16], 16)
