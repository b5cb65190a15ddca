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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import ServeError
from budwood.identity import Digest, short
from budwood.serve.routing import PRODUCTION, Route, RouteKind, alias_of, in_share

if TYPE_CHECKING:
    from budwood.serve.backend import Engine
    from budwood.serve.texts import Texts

MOST_COMPARED = 200
"""Names that are looked through for those that are like a wrong one."""
_CONCRETE = re.compile(r"(\d+)-([0-9a-f]{6,64})")


class UnknownModelError(ServeError):
    """No release of this server answers to that name."""


class AmbiguousModelError(UnknownModelError):
    """More than one release of this server answers to that name."""


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
        held: how many loads it was brought up by whose requests have not taken it yet; it stays until then.
        leaving: it takes no new requests by version or digest, and goes when those that it has are done.
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
    held: int = 0
    leaving: bool = False

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
            UnknownModelError: nothing loaded here answers to it. In few words, as it may yet be loaded: see `unknown`.
            NotUpError: its release is not up.
        """
        with self._lock:
            live = self._find(model)
            if live is None or live.leaving:
                raise UnknownModelError(f"The model {model!r} is not loaded here.", where="model")
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

    def hold(self, digest: Digest) -> Live | None:
        """Keep a release loaded until `let_go`; None: it is not loaded."""
        with self._lock:
            live = self._loaded.get(digest)
            if live is not None:
                live.held += 1
                live.leaving = False
            return live

    def let_go(self, live: Live) -> None:
        """Take back one `hold`."""
        with self._lock:
            live.held -= 1

    def set_routes(self, wanted: Mapping[tuple[str, str, RouteKind], tuple[Digest, float]]) -> set[Digest]:
        """Send shares of aliases' traffic to releases that are loaded, and no others; return those that are not loaded."""
        with self._lock:
            self._routes = {
                key: Route(*key, self._loaded[digest], share)
                for key, (digest, share) in wanted.items()
                if digest in self._loaded
            }
            for route in self._routes.values():
                route.live.leaving = False
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
            live = self._find(model)
        if live is None:
            raise self.unknown(model)
        return live

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
                live.leaving = False
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

    def note_problems(self, problems: Mapping[tuple[str, str], str]) -> None:
        """Say why some aliases do not have the release that they should; the others have."""
        with self._lock:
            self._problems = dict(problems)

    def take_idle(self, keep: set[Digest], *, limit_bytes: int = 0, needed_bytes: int = 0) -> list[Live]:
        """Take out, and return, releases that no alias needs, that are not to be kept, and that no request is using.

        Where they are not enough, the least recently used of those in use take no new requests from now on, so that there is
        room when the requests that they have are done: however many ask for what is loaded, what is not loaded gets its turn.

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
            free = [live for live in self._loaded.values() if live.digest not in pinned and not live.held]
            free.sort(key=lambda live: (live.engine_key in bases, live.last_used))
            room = _Room(self._loaded.values(), limit_bytes - needed_bytes)
            gone = []
            for live in free:
                if live.in_flight == 0 and not (live.engine_key in bases and room.enough):
                    del self._loaded[live.digest]
                    gone.append(live)
                    room.leave(live)
            used = [live for live in free if live.in_flight] if needed_bytes else []
            for live in used:
                live.leaving = not room.enough
                room.leave(live)
            if not room.enough:
                # It would not fit if all of them left: nobody is sent away for nothing.
                for live in used:
                    live.leaving = False
            return gone

    def stay(self) -> None:
        """Let all that are leaving take requests again."""
        with self._lock:
            for live in self._loaded.values():
                live.leaving = False

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

    def unknown(self, model: str) -> UnknownModelError:
        """Say that there is no such model, and which are named alike."""
        with self._lock:
            names = list(self._names())
        name = model.partition("@")[0]
        # Comparing words takes its time: those of the same release first, and not of thousands.
        names.sort(key=lambda one: one.partition("@")[0] != name)
        known = names[:MOST_COMPARED]
        near = difflib.get_close_matches(model, known, n=3, cutoff=0.4) or known[:3]
        return UnknownModelError(
            f"The model {model!r} does not exist here.",
            where="model",
            mend=f"Nearest names: {', '.join(near)}." if near else "No release is being served yet.",
        )

    def _find(self, model: str) -> Live | None:
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
            raise AmbiguousModelError(f"The model {model!r} could be {known}.", where="model", mend="Give more digits.")
        return None


class _Room:
    """What the adapters of some releases take, as they leave one after the other; releases may share one."""

    def __init__(self, loaded: Iterable[Live], limit_bytes: int) -> None:
        sizes = {live.adapter_key: live.size_bytes for live in loaded}
        self._uses = Counter(live.adapter_key for live in loaded)
        self._held = sum(sizes.values())
        self._limit = limit_bytes

    @property
    def enough(self) -> bool:
        return self._held <= self._limit

    def leave(self, live: Live) -> None:
        self._uses[live.adapter_key] -= 1
        if not self._uses[live.adapter_key]:
            self._held -= live.size_bytes


def release_ref(model: str) -> str | None:
    """Give the catalog's name for the release that a model name means by version or digest; None: it means an alias."""
    name, _, rest = model.partition("@")
    concrete = _CONCRETE.fullmatch(rest)
    if concrete:
        return f"{name}@{concrete[2]}"
    return model if re.fullmatch(r"[0-9]{1,5}|[0-9a-f]{6,64}", rest) else None


def _fits(live: Live, rest: str) -> bool:
    if rest == str(live.version):
        return True
    concrete = _CONCRETE.fullmatch(rest)
    if concrete:
        return concrete[1] == str(live.version) and live.digest.startswith(concrete[2])
    return len(rest) >= 6 and live.digest.startswith(rest)
