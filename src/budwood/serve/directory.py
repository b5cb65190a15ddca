"""Which name means which release at this moment.

    name                     the release that alias production of that name points to
    name@alias               the release of that alias
    name@3                   version 3
    name@9d02ab…             the release with that digest prefix (6 digits or more)
    name@3-9d02ab41c977      version and digest: the name under which /v1/models lists it

What is registered and not loaded here is brought up by `demand`, and is then known like the others.
Lookup and counting the request in happen under one lock, and so does the flip of an alias: a request sees the old release or
the new one, and the release that it saw is not unloaded before it has finished.
"""

import difflib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import ServeError
from budwood.identity import Digest, short
from budwood.serve.routing import PRODUCTION, Route, RouteKind, alias_of, in_share

if TYPE_CHECKING:
    from budwood.serve.backend import Engine
    from budwood.serve.texts import Texts

_CONCRETE = re.compile(r"(\d+)-([0-9a-f]{6,64})")


class UnknownModelError(ServeError):
    """No release of this server answers to that name."""


class NotUpError(ServeError):
    """The catalog has that name, but its release is being loaded, or did not come up."""


@dataclass(frozen=True)
class Decoding:
    """What a request gets that does not say otherwise."""

    temperature: float
    max_new_tokens: int
    stop_ids: tuple[int, ...]


@dataclass(eq=False)
class Live:
    """A release that is loaded and has passed its probes.

    Args:
        slot: what its requests name in the engine, as its adapter's place in a bank; -1: base alone.
        size_bytes: memory of its adapter.
        last_used: a count that rises with every request of the server.
        system: put before conversations that begin without a system message, as training did; empty: nothing.
    """

    name: str
    version: int
    digest: Digest
    created_at: str
    base_id: str
    worker: "Engine"
    slot: int
    adapter_key: str
    engine_key: tuple[str, str]
    texts: "Texts"
    decoding: Decoding
    system: str = ""
    size_bytes: int = 0
    in_flight: int = 0
    last_used: int = 0

    @property
    def concrete(self) -> str:
        return f"{self.name}@{self.version}-{short(self.digest)}"


class Directory:
    """The names of one server. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aliases: dict[tuple[str, str], Live] = {}
        self._loaded: dict[Digest, Live] = {}
        self._problems: dict[tuple[str, str], str] = {}
        self._routes: dict[tuple[str, str, RouteKind], Route] = {}
        self._requests = 0

    @contextmanager
    def acquire(self, model: str, key: str | None = None) -> Iterator[Live]:
        """Find the release of a model name and hold it.

        Args:
            model: the name.
            key: of whoever asks; an alias may answer some of them from its canary. None: never from that.

        Raises:
            UnknownModelError: nothing loaded here answers to it.
            NotUpError: its release is not up.
        """
        with self._lock:
            live = self._find(model)
            canary = self._routes.get((*alias_of(model), "canary"))
            if canary is not None and key is not None and in_share(canary, key):
                live = canary.live
            live.in_flight += 1
            self._requests += 1
            live.last_used = self._requests
        try:
            yield live
        finally:
            with self._lock:
                live.in_flight -= 1

    def has_shadow(self, model: str, key: str) -> bool:
        """Whether a copy of this request is to be answered by a shadow."""
        route = self._routes.get((*alias_of(model), "shadow"))
        return route is not None and in_share(route, key)

    @contextmanager
    def acquire_shadow(self, model: str, key: str) -> Iterator[Live | None]:
        """Hold the release that is to answer a copy of this request, if there is one."""
        with self._lock:
            route = self._routes.get((*alias_of(model), "shadow"))
            live = route.live if route is not None and in_share(route, key) else None
            if live is not None:
                live.in_flight += 1
        try:
            yield live
        finally:
            if live is not None:
                with self._lock:
                    live.in_flight -= 1

    def set_routes(self, wanted: Mapping[tuple[str, str, RouteKind], tuple[Digest, float]]) -> set[Digest]:
        """Send shares of aliases' traffic to releases that are loaded, and no others; return those that are not loaded."""
        with self._lock:
            self._routes = {
                key: Route(*key, self._loaded[digest], share)
                for key, (digest, share) in wanted.items()
                if digest in self._loaded
            }
            return {digest for digest, _ in wanted.values()} - self._loaded.keys()

    def routes(self) -> list[Route]:
        with self._lock:
            return [self._routes[key] for key in sorted(self._routes)]

    def find(self, model: str) -> Live:
        """Find the release of a model name without holding it.

        Raises:
            UnknownModelError: nothing loaded here answers to it.
            NotUpError: its release is not up.
        """
        with self._lock:
            return self._find(model)

    def put(self, live: Live) -> None:
        """Make a release known by version and digest; it counts as used just now, or it would be the first to go."""
        with self._lock:
            self._requests += 1
            live.last_used = self._requests
            self._loaded[live.digest] = live

    def flip(self, name: str, alias: str, digest: Digest) -> Live | None:
        """Point an alias to a release, from the next request on; None, and nothing done, when that is not loaded."""
        with self._lock:
            live = self._loaded.get(digest)
            if live is not None:
                self._aliases[name, alias] = live
            return live

    def drop(self, live: Live) -> None:
        """Take out a release that cannot answer any more, with every alias that points to it."""
        with self._lock:
            self._loaded.pop(live.digest, None)
            self._aliases = {alias: held for alias, held in self._aliases.items() if held is not live}
            self._routes = {key: route for key, route in self._routes.items() if route.live is not live}

    def remove_alias(self, name: str, alias: str) -> None:
        with self._lock:
            self._aliases.pop((name, alias), None)
            self._problems.pop((name, alias), None)

    def note_problem(self, name: str, alias: str, problem: str) -> None:
        with self._lock:
            self._problems[name, alias] = problem

    def clear_problem(self, name: str, alias: str) -> None:
        with self._lock:
            self._problems.pop((name, alias), None)

    def take_idle(self, keep: set[Digest], *, limit_bytes: int = 0, needed_bytes: int = 0) -> list[Live]:
        """Take out, and return, releases that no alias needs, that are not to be kept, and that no request is using.

        Args:
            keep: to be kept whatever they take.
            limit_bytes: of all adapters together; within it releases stay whose base is needed anyway, and of others that
                share a base the most recently used.
            needed_bytes: room to be made for what is not there yet.
        """
        with self._lock:
            pinned = keep | {live.digest for live in self._aliases.values()}
            pinned |= {route.live.digest for route in self._routes.values()}
            bases = {live.engine_key for live in self._loaded.values() if live.digest in pinned}
            idle = [live for live in self._loaded.values() if live.digest not in pinned and live.in_flight == 0]
            idle.sort(key=lambda live: (live.engine_key in bases, live.last_used))
            held = needed_bytes + self._held_bytes()
            gone = []
            for live in idle:
                if live.engine_key in bases and held <= limit_bytes:
                    break
                del self._loaded[live.digest]
                gone.append(live)
                held = needed_bytes + self._held_bytes()
            return gone

    @property
    def held_bytes(self) -> int:
        """Memory of all adapters that are loaded; releases may share one."""
        with self._lock:
            return self._held_bytes()

    def _held_bytes(self) -> int:
        return sum({live.adapter_key: live.size_bytes for live in self._loaded.values()}.values())

    def loaded(self) -> dict[Digest, Live]:
        with self._lock:
            return dict(self._loaded)

    def aliases(self) -> dict[tuple[str, str], Live]:
        with self._lock:
            return dict(self._aliases)

    def problems(self) -> dict[tuple[str, str], str]:
        with self._lock:
            return dict(self._problems)

    def names(self) -> Mapping[str, Live]:
        """Every name under which a release can be asked for, with the release, in a readable order."""
        with self._lock:
            return self._names()

    def _names(self) -> dict[str, Live]:
        names: dict[str, Live] = {}
        for (name, alias), live in sorted(self._aliases.items()):
            if alias == PRODUCTION:
                names[name] = live
            names[f"{name}@{alias}"] = live
        for live in sorted(self._loaded.values(), key=lambda item: (item.name, item.version)):
            names[live.concrete] = live
        return names

    def _find(self, model: str) -> Live:
        name, alias = alias_of(model)
        rest = model.partition("@")[2]
        live = self._aliases.get((name, alias)) if rest or "@" not in model else None
        if live is not None:
            return live
        problem = self._problems.get((name, alias))
        if problem:
            raise NotUpError(f"The model {model!r} cannot be served here: {problem}.", where="model")
        fitting = [live for live in self._loaded.values() if live.name == name and _fits(live, rest)]
        if len(fitting) == 1:
            return fitting[0]
        if len(fitting) > 1:
            known = ", ".join(live.concrete for live in fitting)
            raise UnknownModelError(f"The model {model!r} could be {known}.", where="model", mend="Give more digits.")
        names = list(self._names())
        near = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or names[:3]
        raise UnknownModelError(
            f"The model {model!r} does not exist here.",
            where="model",
            mend=f"Nearest names: {', '.join(near)}." if near else "No release is being served yet.",
        )


def release_ref(model: str) -> str | None:
    """Give the catalog's name for the release that a model name means by version or digest; None: it means an alias."""
    name, _, rest = model.partition("@")
    concrete = _CONCRETE.fullmatch(rest)
    if concrete:
        return f"{name}@{concrete[2]}"
    return model if re.fullmatch(r"\d+|[0-9a-f]{6,64}", rest) else None


def _fits(live: Live, rest: str) -> bool:
    if rest == str(live.version):
        return True
    concrete = _CONCRETE.fullmatch(rest)
    if concrete:
        return concrete[1] == str(live.version) and live.digest.startswith(concrete[2])
    return len(rest) >= 6 and live.digest.startswith(rest)
