"""One choice of an answer while it grows: text, log-probabilities, why it ended."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.serve.api.faults import ApiError
from budwood.serve.texts import Texts, TextStream

if TYPE_CHECKING:
    from budwood.engine.generate import Token


@dataclass(frozen=True)
class Entry:
    """One token's log-probabilities; `begin` is where its text begins in the answer, in characters."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    begin: int


@dataclass(frozen=True)
class Delta:
    """What one token added to a choice; `finish` is set by the last."""

    text: str
    entries: tuple[Entry, ...]
    finish: str | None


class Choice:
    """Takes tokens, gives text that is certain.

    Args:
        texts: decodes.
        stops: stop strings.
        stop_ids: control tokens that end the answer and are no part of it.
        piecewise: whether text or its places are wanted before the end; otherwise it is decoded once, at the end.
    """

    def __init__(self, texts: Texts, stops: Sequence[str], stop_ids: Sequence[int], *, piecewise: bool) -> None:
        self._texts = texts
        self._stream = TextStream(texts, stops)
        self._stop_ids = frozenset(stop_ids)
        self._piecewise = piecewise or bool(stops)
        self._kept: list[int] = []
        self._waiting: deque[Entry] = deque()
        self.tokens = 0
        self.finish: str | None = None

    def push(self, token: "Token") -> Delta:
        """Take one token. If `finish` is set although the engine goes on, its request has to be cancelled.

        Raises:
            ApiError: the engine could not compute this token.
        """
        self.tokens += 1
        if token.finish == "failed":
            # Trying again gives the same: the client's automatic second try is asked not to happen.
            raise ApiError(
                500,
                "The release gave no finite probabilities for this prompt.",
                code="generation_failed",
                headers={"x-should-retry": "false"},
            )
        text = "" if token.finish == "stop" and token.token in self._stop_ids else self._add(token)
        if not self._stream.stopped and token.finish is not None:
            text += self._stream.end() if self._piecewise else self._texts.decode(self._kept)
        if self._stream.stopped:
            self.finish = "stop"
        elif token.finish is not None:
            self.finish = "length" if token.finish == "length" else "stop"
        return Delta(text, self._take_entries(), self.finish)

    def _add(self, token: "Token") -> str:
        if token.logprob is not None:
            self._waiting.append(Entry(token.token, token.logprob, token.top, self._stream.length))
        if not self._piecewise:
            self._kept.append(token.token)
            return ""
        return self._stream.push(token.token)

    def _take_entries(self) -> tuple[Entry, ...]:
        """Entries whose text has been given out; at the end all but those within a stop string."""
        taken = []
        everything = self.finish is not None and not self._stream.stopped
        while self._waiting and (everything or self._waiting[0].begin < self._stream.given):
            taken.append(self._waiting.popleft())
        return tuple(taken)
