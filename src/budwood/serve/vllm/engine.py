"""vLLM servers as an `Engine`: what the API hands requests to, and what the golden probes are replayed on."""

from typing import TYPE_CHECKING, Any

from budwood.serve.backend import Sink, Ticket
from budwood.serve.vllm.replica import Placement, Replica
from budwood.serve.vllm.wire import check_honoured

if TYPE_CHECKING:
    from budwood.engine.generate import Request
    from budwood.engine.generate.grammar import Grammars
    from budwood.serve.vllm.pool import Pool


class VllmEngine:
    """The servers of one base; slots stand for releases, as they stand for adapters in a bank.

    Args:
        pool: the servers.
        tokenizer: the base's, to check schemas before anything is sent.
        vocab: token ids below this are valid.
        context: the base's own limit; the servers' may be lower.
    """

    def __init__(self, pool: "Pool", *, tokenizer: Any, vocab: int, context: int) -> None:
        self.pool = pool
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._context = context
        self._placements: dict[int, Placement] = {}
        self._next = 0
        self._grammars: Grammars | None = None

    @property
    def alive(self) -> bool:
        return self.pool.alive

    @property
    def context(self) -> int:
        limit = self.pool.context
        return self._context if limit is None else min(self._context, limit)

    def ready(self, slot: int) -> bool:
        placement = self._placements.get(slot)
        return placement is not None and self.pool.ready(placement.name)

    def next_slot(self) -> int:
        """A number that no release has had."""
        self._next += 1
        return self._next - 1

    def put(self, slot: int, placement: Placement) -> None:
        self._placements[slot] = placement

    def take(self, slot: int) -> Placement | None:
        return self._placements.pop(slot, None)

    def check(self, request: "Request") -> None:
        request.check(vocab=self._vocab, context=self.context)
        end = self._tokenizer.eos_token_id
        check_honoured(request, end=None if end is None else int(end))

    def compile_schema(self, schema: str) -> None:
        from budwood.engine.generate.grammar import Grammars

        if self._grammars is None:
            self._grammars = Grammars(self._tokenizer, vocab=self._vocab)
        self._grammars.compile(schema)

    def submit(self, request: "Request", sink: Sink, *, urgent: bool = False) -> Ticket:
        return self.begin(request, sink, urgent=urgent, only=None)

    def cancel(self, ticket: Ticket) -> None:
        self.pool.cancel(ticket)

    def pinned(self, replica: Replica) -> "PinnedEngine":
        return PinnedEngine(self, replica)

    def begin(self, request: "Request", sink: Sink, *, urgent: bool, only: Replica | None) -> Ticket:
        """Submit, on one server alone if `only` names it."""
        ticket = Ticket(request, sink, urgent)
        self.pool.submit(ticket, self._placements.get(request.adapter), only)
        return ticket


class PinnedEngine:
    """The same, on one server alone."""

    def __init__(self, engine: VllmEngine, replica: Replica) -> None:
        self._engine = engine
        self._replica = replica

    @property
    def alive(self) -> bool:
        return self._engine.alive

    @property
    def context(self) -> int:
        return self._engine.context

    def ready(self, slot: int) -> bool:
        return self._replica.up

    def check(self, request: "Request") -> None:
        self._engine.check(request)

    def compile_schema(self, schema: str) -> None:
        self._engine.compile_schema(schema)

    def submit(self, request: "Request", sink: Sink, *, urgent: bool = False) -> Ticket:
        return self._engine.begin(request, sink, urgent=urgent, only=self._replica)

    def cancel(self, ticket: Ticket) -> None:
        self._engine.cancel(ticket)
