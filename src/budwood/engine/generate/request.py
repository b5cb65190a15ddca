"""What goes into the generator and what comes out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from budwood.errors import BudwoodError

Finish = Literal["stop", "length", "cancelled", "failed"]
"""Why an answer ended: a stop id (or a complete grammar), max_new_tokens, the caller, or logits that were not finite."""

Top = tuple[tuple[int, float], ...]
"""The likeliest tokens of one position with their log-probabilities, best first."""

MAX_LOGPROBS = 64
MAX_PENALTY = 2.0
"""Of presence and frequency, up or down: the bounds of OpenAI's API."""
MAX_REPETITION = 10.0
MAX_BIAS = 100.0
MAX_BIASES = 1024


class GenerationError(BudwoodError):
    """A request that cannot be answered as it is; nothing was computed for it."""


@dataclass(frozen=True)
class Request:
    """One prompt to continue.

    Args:
        prompt: token ids, at least one.
        adapter: slot in the generator's bank; -1 for the base alone.
        max_new_tokens: most tokens to make, a closing stop id included.
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: share of the probability mass that may be drawn from, (0, 1].
        top_k: only this many of the likeliest tokens may be drawn; 0: all.
        min_p: tokens less likely than this share of the likeliest one's probability are not drawn, [0, 1]; before top_p.
        presence_penalty: taken off the logit of every token that the answer has already, -2 to 2.
        frequency_penalty: taken off once for each time that it has it, -2 to 2.
        repetition_penalty: divides the logits of tokens of prompt and answer (multiplies negative ones), above 0; 1: none.
        logit_bias: token id → what is added to its logit, -100 to 100.
        seed: start of this request's own random numbers.
        stop_ids: tokens that end the answer; the closing one is reported as an event but is no part of `Answer.tokens`.
        logprobs: None for none, 0 for the chosen token's, k for the k likeliest as well. They are the model's own, before
            penalties, biases, temperature, top_k, min_p, top_p and grammar.
        json_schema: JSON Schema text that the answer must satisfy.
        forced: tokens to feed in the place of the chosen ones: the way to score a given answer on the serving path. The
            answer then is exactly these.
    """

    prompt: tuple[int, ...]
    adapter: int = -1
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    seed: int = 0
    stop_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    json_schema: str | None = None
    forced: tuple[int, ...] = ()

    @property
    def shapes_logits(self) -> bool:
        """Whether penalties or biases change the logits of this request."""
        penalties = self.presence_penalty, self.frequency_penalty, self.repetition_penalty - 1.0
        return any(penalties) or bool(self.logit_bias)

    def check(self, *, vocab: int, context: int) -> None:
        """Refuse what cannot be answered.

        Raises:
            GenerationError: a value out of range, a token outside the vocabulary, or more tokens than `context` in all.
        """
        faults = [text for wrong, text in (*self._faults(vocab), *self._shaping_faults(vocab)) if wrong]
        if faults:
            raise GenerationError("; ".join(faults) + ".", where="a generation request", mend="Correct the request.")
        if len(self.prompt) + self.max_new_tokens > context:
            raise GenerationError(
                f"The prompt has {len(self.prompt):,} tokens and {self.max_new_tokens:,} new ones are asked for; "
                f"the context holds {context:,}.",
                where="a generation request",
                mend=f"Shorten the prompt, or ask for at most {max(context - len(self.prompt), 0):,} new tokens.",
            )

    def _faults(self, vocab: int) -> list[tuple[bool, str]]:
        tokens = (*self.prompt, *self.forced)
        return [
            (not self.prompt, "the prompt is empty"),
            (bool(tokens) and not 0 <= min(tokens) <= max(tokens) < vocab, f"a token id lies outside 0..{vocab - 1}"),
            (self.max_new_tokens < 1, f"max_new_tokens = {self.max_new_tokens} is below 1"),
            (len(self.forced) > self.max_new_tokens, "more forced tokens than max_new_tokens"),
            (
                not (math.isfinite(self.temperature) and self.temperature >= 0),
                f"temperature = {self.temperature} is not a finite number of at least 0",
            ),
            (not 0 < self.top_p <= 1, f"top_p = {self.top_p} is not within (0, 1]"),
            (self.top_k < 0, f"top_k = {self.top_k} is below 0"),
            (not 0 <= self.min_p <= 1, f"min_p = {self.min_p} is not within [0, 1]"),
            (
                self.logprobs is not None and not 0 <= self.logprobs <= min(MAX_LOGPROBS, vocab),
                f"logprobs = {self.logprobs} is not within 0..{min(MAX_LOGPROBS, vocab)}",
            ),
        ]

    def _shaping_faults(self, vocab: int) -> list[tuple[bool, str]]:
        penalties = {"presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty}
        return [
            *(
                (
                    not -MAX_PENALTY <= value <= MAX_PENALTY,
                    f"{name} = {value} is not within [-{MAX_PENALTY:g}, {MAX_PENALTY:g}]",
                )
                for name, value in penalties.items()
            ),
            (
                not 0 < self.repetition_penalty <= MAX_REPETITION,
                f"repetition_penalty = {self.repetition_penalty} is not within (0, {MAX_REPETITION:g}]",
            ),
            (len(self.logit_bias) > MAX_BIASES, f"logit_bias names more than {MAX_BIASES:,} tokens"),
            (
                any(not 0 <= token < vocab for token in self.logit_bias),
                f"logit_bias names a token id outside 0..{vocab - 1}",
            ),
            (
                any(not -MAX_BIAS <= bias <= MAX_BIAS for bias in self.logit_bias.values()),
                f"a bias in logit_bias is not within [-{MAX_BIAS:g}, {MAX_BIAS:g}]",
            ),
        ]


@dataclass(frozen=True)
class Token:
    """One new token of one request, as `Generator.step` reports it.

    `logprob` and `top` are there when the request asked for them. `finish` is set on a request's last token; on "stop" by a
    stop id the token is that id, on "failed" it is -1.
    """

    request: int
    token: int
    logprob: float | None
    top: Top
    finish: Finish | None


@dataclass(frozen=True)
class Answer:
    """A finished request. `tokens` is without the closing stop id; `logprobs` and `top` run beside it, empty if not asked.

    `stop_id` is the stop id that closed it, if one did. Times are seconds since `generate` began, to the first token and to
    the last.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: tuple[Top, ...]
    finish: Finish
    stop_id: int | None
    first_token_s: float
    total_s: float
