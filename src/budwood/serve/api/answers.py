"""The replies, field by field as OpenAI's client reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from budwood.serve.api.choice import Delta, Entry
from budwood.serve.texts import Texts

FLOOR = -9999.0
"""Log-probability that stands for "never", as JSON has no infinity."""


@dataclass(frozen=True)
class Frame:
    """What every reply and every chunk of one request says alike."""

    id: str
    created: int
    model: str
    fingerprint: str

    def of(self, kind: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": list(choices),
        }


def usage(prompt_tokens: int, new_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": new_tokens, "total_tokens": prompt_tokens + new_tokens}


@dataclass
class Whole:
    """One choice's deltas put together."""

    texts: list[str]
    entries: list[Entry]
    finish: str

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Shape(Protocol):
    """How one endpoint writes its replies."""

    whole: str
    """`object` of the reply that is not streamed."""
    chunk: str
    """`object` of a chunk."""

    def choice(self, index: int, whole: Whole, *, logprobs: bool) -> dict[str, Any]:
        """Write a finished choice."""

    def opening(self, index: int) -> dict[str, Any] | None:
        """Write the first chunk of a choice, before any token; None if there is none."""

    def delta(self, index: int, delta: Delta, *, logprobs: bool) -> dict[str, Any]:
        """Write what one token added."""


class ChatShape:
    """chat.completion and chat.completion.chunk."""

    whole = "chat.completion"
    chunk = "chat.completion.chunk"

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def choice(self, index: int, whole: Whole, *, logprobs: bool) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": whole.text, "refusal": None},
            "logprobs": self._logprobs(whole.entries) if logprobs else None,
            "finish_reason": whole.finish,
        }

    def opening(self, index: int) -> dict[str, Any]:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def delta(self, index: int, delta: Delta, *, logprobs: bool) -> dict[str, Any]:
        return {
            "index": index,
            "delta": {"content": delta.text} if delta.text else {},
            "logprobs": self._logprobs(delta.entries) if logprobs else None,
            "finish_reason": delta.finish,
        }

    def _logprobs(self, entries: Sequence[Entry]) -> dict[str, Any]:
        content = []
        for entry in entries:
            top = [self._one(token, logprob) for token, logprob in entry.top]
            content.append({**self._one(entry.token, entry.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._texts.token_text(token),
            "logprob": max(logprob, FLOOR),
            "bytes": self._texts.token_bytes(token),
        }


class CompletionShape:
    """text_completion, the same object streamed or not."""

    whole = "text_completion"
    chunk = "text_completion"

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def choice(self, index: int, whole: Whole, *, logprobs: bool) -> dict[str, Any]:
        return {
            "index": index,
            "text": whole.text,
            "logprobs": self._logprobs(whole.entries) if logprobs else None,
            "finish_reason": whole.finish,
        }

    def opening(self, index: int) -> None:
        return None

    def delta(self, index: int, delta: Delta, *, logprobs: bool) -> dict[str, Any]:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": self._logprobs(delta.entries) if logprobs else None,
            "finish_reason": delta.finish,
        }

    def _logprobs(self, entries: Sequence[Entry]) -> dict[str, Any]:
        return {
            "tokens": [self._texts.token_text(entry.token) for entry in entries],
            "token_logprobs": [max(entry.logprob, FLOOR) for entry in entries],
            "top_logprobs": [
                {self._texts.token_text(token): max(logprob, FLOOR) for token, logprob in entry.top} for entry in entries
            ],
            "text_offset": [entry.begin for entry in entries],
        }
