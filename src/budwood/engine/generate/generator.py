"""The generator: requests join, every step is one packed forward pass, requests leave.

A step's tokens lie end to end without padding: one for each request that decodes, a chunk of prompt for each that has just
joined. They are ordered by adapter, so that the bank sees a few long segments. Logits are made for the last token of each
request alone.
"""

import bisect
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from budwood.engine.base import LoadedBase
from budwood.engine.generate.attend import Piece, StepAttention
from budwood.engine.generate.cache import SlotCache, tokens_within
from budwood.engine.generate.forward import context_limit, last_logits, step_hidden
from budwood.engine.generate.grammar import Grammars, Matcher
from budwood.engine.generate.request import Finish, GenerationError, Request, Token
from budwood.engine.generate.sampling import Choice, choose
from budwood.engine.generate.shaping import shape_logits
from budwood.engine.lora import AdapterBank, Segments

CACHE_BYTES = 2 << 30


@dataclass(eq=False)
class _Running:
    id: int
    request: Request
    stops: frozenset[int]
    slot: int = -1
    cached: int = 0
    made: list[int] = field(default_factory=list)
    matcher: Matcher | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.request.adapter, self.id

    @property
    def columns(self) -> int:
        return len(self.request.prompt) + self.request.max_new_tokens


@dataclass
class _Layout:
    """One step's tokens."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    speakers: list[_Running] = field(default_factory=list)
    last_tokens: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    adapters: list[int] = field(default_factory=list)


class Generator:
    """Continuous batching over one base and, if given, a bank of adapters. One thread at a time.

    Args:
        base: the loaded base; its model must have the bank attached.
        bank: adapters that requests name by slot. A slot must stay in the bank while a request uses it.
        max_batch: most requests in a step.
        max_tokens_cached: most tokens whose keys and values are held, as slots × longest; None: what 2 GiB hold.
        prefill_tokens: most prompt tokens in one step. Bounds both the step's memory and how long decoding requests wait
            for a newcomer's prompt.

    Raises:
        GenerationError: a limit is below 1.
    """

    def __init__(
        self,
        base: LoadedBase,
        bank: AdapterBank | None,
        *,
        max_batch: int = 64,
        max_tokens_cached: int | None = None,
        prefill_tokens: int = 2048,
    ) -> None:
        if max_batch < 1 or prefill_tokens < 1 or (max_tokens_cached is not None and max_tokens_cached < 1):
            raise GenerationError("A generator needs limits of at least 1.", mend="Raise max_batch and the token limits.")
        self.base = base
        self.bank = bank
        self.context = context_limit(base)
        self.max_batch = max_batch
        self.prefill_tokens = prefill_tokens
        self._vocab = base.identity.vocab
        self._cache = SlotCache(max_rows=max_batch, max_columns=self.context, budget=max_tokens_cached or _default_budget(base))
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._by_slot: list[_Running] = []
        self._grammars: Grammars | None = None
        self._next_id = 0
        self.tokens_made = 0
        """New tokens so far, of all requests, cancelled ones included."""

    @property
    def active(self) -> int:
        """Requests that are waiting or running."""
        return len(self._waiting) + len(self._running)

    @property
    def cache_bytes(self) -> int:
        return self._cache.size_bytes

    def uses(self, adapter: int) -> bool:
        """Whether a waiting or running request needs this slot of the bank."""
        return any(state.request.adapter == adapter for state in (*self._waiting, *self._running))

    def grammars(self) -> Grammars:
        """Give the schema compiler of this base, made at first use. The compiler itself may be used from any thread."""
        if self._grammars is None:
            self._grammars = Grammars(self.base.tokenizer, vocab=self._vocab)
        return self._grammars

    def check(self, request: Request) -> None:
        """Refuse a request that `submit` would refuse, its schema aside. May be called from any thread.

        Raises:
            GenerationError: the request is impossible (see `Request.check`), or would not fit the cache even alone.
        """
        request.check(vocab=self._vocab, context=self.context)
        if request.adapter >= 0 and self.bank is None:
            raise GenerationError(f"Adapter slot {request.adapter} is asked for, but there is no bank.", mend="Use -1.")
        columns = len(request.prompt) + request.max_new_tokens
        if columns > self._cache.budget:
            raise GenerationError(
                f"Prompt and answer are {columns:,} tokens; the cache holds {self._cache.budget:,}.",
                where="a generation request",
                mend="Ask for fewer new tokens, or give the generator a larger cache.",
            )

    def submit(self, request: Request, *, urgent: bool = False) -> int:
        """Queue a request and give its id. It is admitted in order, when a place and cache room are free.

        Args:
            request: what to answer.
            urgent: goes to the head of the queue; what runs already is not disturbed.

        Raises:
            GenerationError: see `check`; or its schema is refused.
        """
        self.check(request)
        state = _Running(self._next_id, request, frozenset(request.stop_ids))
        if request.json_schema is not None:
            state.matcher = self.grammars().matcher(request.json_schema, request.stop_ids)
        self._next_id += 1
        if urgent:
            self._waiting.appendleft(state)
        else:
            self._waiting.append(state)
        return state.id

    def cancel(self, request: int) -> bool:
        """Drop a request between two steps; no further token of it is reported. False if it is not known any more."""
        for state in self._waiting:
            if state.id == request:
                self._waiting.remove(state)
                return True
        for state in self._running:
            if state.id == request:
                self._leave(state)
                return True
        return False

    def step(self) -> list[Token]:
        """Run one forward pass and report the new token of each request that has one.

        Requests that are still reading their prompt report nothing. An empty list with `active` > 0 is no end.
        """
        self._admit()
        layout = self._lay_out()
        if not layout.ids:
            return []
        device = self.base.device
        with torch.inference_mode(), self._adapters(layout):
            hidden = step_hidden(
                self.base.model,
                torch.tensor(layout.ids, device=device),
                torch.tensor(layout.positions, device=device),
                StepAttention(self._cache, layout.pieces, device),
            )
            if not layout.speakers:
                return []
            logits = last_logits(self.base.model, hidden, layout.last_tokens)
            return self._advance(layout.speakers, self._choose(logits, layout.speakers))

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.max_batch:
            state = self._waiting[0]
            longest = max([state.columns, *(other.columns for other in self._running)])
            if not self._cache.reserve(len(self._running) + 1, longest):
                return
            self._waiting.popleft()
            state.slot = len(self._by_slot)
            self._by_slot.append(state)
            bisect.insort(self._running, state, key=lambda item: item.order)

    def _lay_out(self) -> _Layout:
        layout = _Layout()
        chunks = self._chunks()
        for state in self._running:
            count = chunks.get(state.id, 1)
            if count == 0:
                continue
            start, past, prompt = len(layout.ids), state.cached, state.request.prompt
            if past < len(prompt):
                layout.ids += prompt[past : past + count]
                layout.positions += range(past, past + count)
            else:
                layout.ids.append(state.made[-1])
                layout.positions.append(past)
            layout.pieces.append(Piece(start, count, state.slot, past))
            state.cached += count
            if state.cached >= len(prompt):
                layout.speakers.append(state)
                layout.last_tokens.append(start + count - 1)
            if not layout.adapters or layout.adapters[-1] != state.request.adapter:
                layout.adapters.append(state.request.adapter)
                layout.starts.append(start)
            layout.starts[-1] = start + count
        return layout

    def _chunks(self) -> dict[int, int]:
        """How many prompt tokens each newcomer reads in this step: those who came first read first."""
        left = self.prefill_tokens
        chunks: dict[int, int] = {}
        for state in sorted(self._running, key=lambda item: item.id):
            unread = len(state.request.prompt) - state.cached
            if unread > 0:
                chunks[state.id] = min(unread, left)
                left -= chunks[state.id]
        return chunks

    def _adapters(self, layout: _Layout) -> AbstractContextManager[object]:
        if self.bank is None:
            return nullcontext()
        return self.bank.use(Segments(starts=tuple(layout.starts), adapter=tuple(layout.adapters)))

    def _choose(self, logits: torch.Tensor, speakers: list[_Running]) -> Choice:
        matchers = {row: state.matcher for row, state in enumerate(speakers) if state.matcher is not None}
        requests = [state.request for state in speakers]
        shaped = shape_logits(logits, requests, [state.made for state in speakers])
        allowed = self.grammars().mask(shaped, matchers) if matchers else shaped
        return choose(logits, requests, [len(state.made) for state in speakers], allowed)

    def _advance(self, speakers: list[_Running], choice: Choice) -> list[Token]:
        events = []
        self.tokens_made += len(speakers)
        for state, token, logprob, top in zip(speakers, choice.tokens, choice.logprobs, choice.top, strict=True):
            state.made.append(token)
            finish = self._finish(state, token)
            events.append(Token(state.id, token, logprob, top, finish))
            if finish is not None:
                self._leave(state)
        return events

    @staticmethod
    def _finish(state: _Running, token: int) -> Finish | None:
        if token < 0 or (state.matcher is not None and not state.matcher.accept(token)):
            return "failed"
        if token in state.stops or (state.matcher is not None and state.matcher.complete):
            return "stop"
        if len(state.made) >= state.request.max_new_tokens or (
            state.request.forced and len(state.made) >= len(state.request.forced)
        ):
            return "length"
        return None

    def _leave(self, state: _Running) -> None:
        """Free the slot. The last one moves into it: slots in use are always 0..n-1, so that decoding is one product."""
        self._running.remove(state)
        last = self._by_slot.pop()
        with torch.inference_mode():
            self._cache.clear(state.slot, state.cached)
            if last is not state:
                self._cache.move(last.slot, state.slot, last.cached)
                self._cache.clear(last.slot, last.cached)
        if last is not state:
            last.slot = state.slot
            self._by_slot[last.slot] = last


def _default_budget(base: LoadedBase) -> int:
    config: Any = base.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = base.identity.layers
    return max(1, tokens_within(CACHE_BYTES, layers=layers, heads=heads, width=width, dtype=base.dtype))
