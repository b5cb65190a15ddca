"""Prompts to answers on the engine: one slot of a bank, or the base alone."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from budwood.errors import EvaluationError
from budwood.evaluate.score import AnswerRecord
from budwood.evaluate.suite import Case, Decoding

if TYPE_CHECKING:
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.generate import Generator

Answer = Callable[[Sequence[Case], Decoding, Callable[[int, int], None]], Sequence[AnswerRecord]]
"""Cases and decoding → an answer for each, in order; told of progress as (done, of)."""


def answer_with(generator: "Generator", slot: int, template: "ChatTemplate", *, context: int) -> Answer:
    """Make an answering function.

    Args:
        generator: over the base, with the bank that holds `slot`.
        slot: the adapter; -1 for the base alone.
        template: encodes the prompts.
        context: the base's longest row.
    """

    def answer(cases: Sequence[Case], decoding: Decoding, progress: Callable[[int, int], None]) -> list[AnswerRecord]:
        from budwood.engine.generate import Request, generate

        requests = []
        for case in cases:
            prompt = tuple(template.encode_prompt(case.messages))
            room = context - len(prompt)
            if room < 1:
                raise EvaluationError(
                    f"The prompt of case {case.case_id[:8]} has {len(prompt):,} tokens; the base's context holds {context:,}.",
                    where="the test split",
                    mend="Lower [prepare] max_tokens, so that such rows are rejected with a record.",
                )
            requests.append(
                Request(
                    prompt=prompt,
                    adapter=slot,
                    max_new_tokens=min(decoding.max_new_tokens, room),
                    temperature=decoding.temperature,
                    seed=decoding.seed,
                    stop_ids=template.stop_ids,
                )
            )
        answers = generate(generator, requests, report_progress=progress)
        return [
            AnswerRecord(
                output=template.tokenizer.decode(answer.tokens, skip_special_tokens=True),
                finish=answer.finish,
                tokens=len(answer.tokens),
                first_token_s=answer.first_token_s,
                seconds=answer.total_s - answer.first_token_s,
            )
            for answer in answers
        ]

    return answer
