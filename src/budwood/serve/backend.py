"""What the server needs of whatever computes its answers.

Two implementations: the embedded engine (`loader`, `worker`) and vLLM servers (`vllm`). A `Backend` brings releases up and
down; each `Live` that it gives names the `Engine` that answers its requests. Everything above them (names, templates, stop
strings, limits, answers) sees token ids only and does not know which one it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from budwood.errors import BudwoodError, ServeError

if TYPE_CHECKING:
    from budwood.engine.generate import PrefixFigures, Request, Token
    from budwood.serve.directory import Live
    from budwood.store import ReleaseRow

Sink = Callable[["Token | BudwoodError"], None]
"""Takes each token of a job, or the error that ended it; called on a thread of the engine's, and must return at once."""


class UnavailableError(ServeError):
    """Nothing can compute this answer now, and the same request may well succeed later."""


class ParameterError(ServeError):
    """A sampling parameter that this engine cannot honour exactly; `param` is its name in the API."""

    def __init__(self, what: str, *, param: str, mend: str = "") -> None:
        super().__init__(what, where=param, mend=mend)
        self.param = param


@dataclass(eq=False)
class Ticket:
    """A job at an engine. `id` is the generator's, once it is there."""

    request: "Request"
    sink: Sink
    urgent: bool = False
    id: int | None = None
    gone: bool = False


class Engine(Protocol):
    """Answers requests of releases on one base. May be called from any thread."""

    @property
    def alive(self) -> bool:
        """False once it has ended for good: what stands on it has to be loaded again."""

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""

    def ready(self, slot: int) -> bool:
        """Whether a request of this release would be answered now: an alias moves only to one that is."""

    def check(self, request: "Request") -> None:
        """Refuse a request that cannot be answered, its schema aside.

        Raises:
            ParameterError: a parameter that this engine cannot honour.
            GenerationError: any other fault.
        """

    def compile_schema(self, schema: str) -> None:
        """Refuse a JSON Schema that cannot be enforced; takes a while the first time.

        Raises:
            GenerationError: what is wrong with it.
        """

    def submit(self, request: "Request", sink: Sink, *, urgent: bool = False) -> Ticket:
        """Begin a request, before all that wait if urgent; its tokens, or an error, arrive at the sink.

        Raises:
            ServeError: the engine has ended.
        """

    def cancel(self, ticket: Ticket) -> None:
        """Stop a job; soon after, its sink is called no more. Does nothing if it has ended."""


class Backend(Protocol):
    """Brings releases up and down. `load`, `unload` and `close` are called by one thread at a time."""

    @property
    def healthy(self) -> bool:
        """Whether everything that answers requests is there."""

    @property
    def active(self) -> int:
        """Requests waiting or running."""

    @property
    def tokens_made(self) -> int:
        """Tokens made so far by the engines that are up."""

    @property
    def prefixes(self) -> "PrefixFigures":
        """What is kept of prompts' beginnings by this process; nothing where servers elsewhere keep their own."""

    def load(self, row: "ReleaseRow") -> "Live":
        """Bring a release up and prove it with its golden probes; nothing of it stays behind if that fails.

        Raises:
            BudwoodError: it is damaged, does not fit, or computes something else than was judged.
        """

    def size_bytes(self, row: "ReleaseRow") -> int:
        """How much memory a release that is not loaded would take beside those that are.

        Raises:
            ServeError: its base is not being served.
        """

    def unload(self, live: "Live") -> None:
        """Give back what a release holds. No request may be using it."""

    def close(self) -> None:
        """End all engines."""
