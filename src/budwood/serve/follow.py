"""Follow the catalog: what the aliases say is what this server does, as soon as it has proved that it can.

The alias in the catalog is the desired state; what is reported back is the observed one. A release that cannot be loaded or
fails its probes changes nothing here: what was live stays live, and the reason is on record. It is tried again after a
while, or when somebody asks.

Two threads: `watch` flips aliases to releases that are loaded, and never waits for a load or a write, so that a rollback is a
pointer flip whatever else is going on; `run` brings up what is wanted and not loaded yet, and unloads what nobody needs. What
is reported back is written by `reports`, on a third.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budwood.errors import BudwoodError, ServeError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.serve.backend import Backend, UnavailableError
from budwood.serve.directory import Directory, Live
from budwood.serve.metrics import Metrics
from budwood.serve.reports import Alias, Reports
from budwood.serve.trials import Trials
from budwood.serve.turns import Turns
from budwood.store import Observation
from budwood.store.history import MOVES

if TYPE_CHECKING:
    from budwood.store import AliasRow, ReleaseRow, Store
    from budwood.store.warmups import Warmup

RETRY_S = 30.0
"""A release that did not come up is tried again after this time, then after twice as long, and so on up to the longest."""
LONGEST_RETRY_S = 600.0
NOTICE_S = 0.01
"""So often it is looked whether the history has grown; the catalog itself is read then, and every `poll_s` in any case."""
IDLE_S = 1.0
"""So often it is looked whether something is to be loaded or unloaded when nothing has moved."""
ROOM_S = 30.0
"""How long a release that a request names waits until others have given up enough memory."""
ROOM_PAUSE_S = 0.01
Rows = Mapping[Alias, "AliasRow"]


@dataclass(frozen=True)
class _Failure:
    """A release that did not come up: not tried again before `retry_at`."""

    reason: str
    tries: int
    retry_at: float


class Follower:
    """Keeps a directory as the catalog wants it.

    Args:
        store: desired state in, observed state out.
        loader: brings releases up and down; used under one lock.
        directory: what requests see.
        metrics: counts flips and failures.
        reports: writes what is the case.
        report: told of every change.
        trials: the releases that are tried beside aliases.
        clock: seconds, for retries.
        limit_bytes: of adapters that no alias needs and of those that one does together, while there are any of the former.
    """

    def __init__(
        self,
        store: "Store",
        loader: Backend,
        directory: Directory,
        metrics: Metrics,
        *,
        reports: Reports,
        report: Reporter,
        trials: Trials,
        clock: Callable[[], float] = time.monotonic,
        limit_bytes: int = 0,
    ) -> None:
        self._store = store
        self._trials = trials
        self._loader = loader
        self._directory = directory
        self._metrics = metrics
        self._reports = reports
        self._report = report
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._looking = threading.Lock()
        self._loading = Turns()
        self._work = threading.Event()
        self._failures: dict[Digest, _Failure] = {}
        self._previous: dict[Alias, Digest] = {}
        self._told: Mapping[Alias, Observation] = {}
        self._asked: list[Warmup] = []
        self._kept: set[Digest] = set()
        self._trouble = ""
        self._pause = threading.Event()
        self.synced = threading.Event()
        """Set after the first look at the catalog after which everything wanted was loaded or had failed."""

    def watch(self, stop: threading.Event, poll_s: float) -> None:
        """Flip aliases when the history grows, and every `poll_s` seconds, until `stop` is set."""
        while not stop.is_set():
            mark = self._store.mark()
            self.look()
            again = time.monotonic() + poll_s
            while not stop.wait(min(NOTICE_S, poll_s)) and time.monotonic() < again and self._store.mark() == mark:
                pass
        self._work.set()

    def run(self, stop: threading.Event) -> None:
        """Bring up what is wanted when `watch` has seen that something is, until `stop` is set."""
        while not stop.is_set():
            self._work.clear()
            self.sync(stop=stop)
            self._work.wait(IDLE_S)

    def sync(self, *, retry: bool = False, stop: threading.Event | None = None) -> None:
        """Do all that the catalog says; `retry`: also try again what has failed; `stop`: between two loads."""
        with self._loading.first():
            if retry:
                self._failures.clear()
            if not self._bring_up(self._wanted, stop):
                return
            self._reports.write()
            self.synced.set()
            self._bring_up(self._warm, stop)
            self._make_room(0)
            self._reports.write()

    def bring_up(self, row: "ReleaseRow") -> Callable[[], None]:
        """Load a release that no alias points to, beside the base that it needs; what was least recently used makes room.

        Returns:
            What is to be called when it may be unloaded again.

        Raises:
            BudwoodError: it did not come up, or nothing else of its base is being served, or there is no room.
        """
        deadline = self._clock() + ROOM_S
        # Between two tries others may load: a promotion does not wait for room that it does not need.
        while (live := self._try_bring_up(row, last=self._clock() >= deadline)) is None:
            self._pause.wait(ROOM_PAUSE_S)
        return lambda: self._directory.let_go(live)

    def _try_bring_up(self, row: "ReleaseRow", *, last: bool) -> Live | None:
        with self._loading.after():
            live = self._directory.hold(row.digest)
            if live is not None:
                return live
            if not self._may_try(row.digest):
                raise self._not_up(row)
            if not self._make_room(self._loader.size_bytes(row)):
                if not last:
                    return None
                self._directory.stay()
                raise UnavailableError(
                    "There is no room for another adapter: all that are loaded are being used.",
                    where="[serve] adapter_memory_mb",
                    mend="Try again soon, or raise the limit.",
                )
            self._load(row.digest, row)
            live = self._directory.hold(row.digest)
            if live is None:
                raise self._not_up(row)
            self._metrics.loaded.set(len(self._directory.loaded()))
            return live

    def _not_up(self, row: "ReleaseRow") -> ServeError:
        return ServeError(f"It did not come up: {self._failures[row.digest].reason}", where=f"{row.name}@{row.version}")

    def _make_room(self, needed_bytes: int) -> bool:
        """Unload what nobody needs, as far as memory asks for it; False if that is not enough."""
        kept = {*self._previous.values(), *self._kept}
        idle = self._directory.take_idle(kept, limit_bytes=self._limit_bytes, needed_bytes=needed_bytes)
        for live in idle:
            self._unload(live)
        self._metrics.loaded.set(len(self._directory.loaded()))
        return not needed_bytes or self._directory.held_bytes + needed_bytes <= self._limit_bytes

    def _unload(self, live: Live) -> None:
        try:
            self._loader.unload(live)
        except Exception as error:
            # Its requests are done, and no new one finds it: what its engine could not do must not end the server.
            said = str(error) if isinstance(error, BudwoodError) else f"{type(error).__name__}: {error}"
            self._report(Event("serve", f"{live.concrete} could not be unloaded cleanly. {said}"))
            return
        self._metrics.evictions.inc()
        self._report(Event("serve", f"{live.concrete} is unloaded"))

    def look(self) -> Rows | None:
        """Point aliases to what the catalog wants, where that is loaded, and say how things stand. Writes nothing.

        Returns:
            The aliases as the catalog has them; None when it could not be read.
        """
        with self._looking:
            try:
                rows = {(row.name, row.alias): row for row in self._store.aliases()}
                self._drop_dead()
                held = self._directory.aliases()
                for alias, row in rows.items():
                    self._flip(alias, row, held.get(alias))
                for alias in held.keys() - rows.keys():
                    self._directory.remove_alias(*alias)
                    self._previous.pop(alias, None)
                self._tell(rows)
                self._trials.look(rows, self._why)
                asked = self._store.warmups.rows()
                # What is asked for no longer is kept until the next look: it may be an alias's by then.
                self._kept = {one.digest for one in (*self._asked, *asked)}
                self._asked = asked
                loaded = self._directory.loaded()
                self._reports.put_ready({one: self._why(one.digest) for one in self._asked if self._settled(one, loaded)})
                if any(digest not in loaded and self._may_try(digest) for digest, _ in self._wanted(rows)):
                    self._work.set()
                self._trouble = ""
                return rows
            except BudwoodError as error:
                self._note_trouble(error)
                return None

    def _note_trouble(self, error: BudwoodError) -> None:
        """A catalog that cannot be used now is no reason to stop serving what is loaded."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            self._report(Event("serve", f"The catalog cannot be used; serving what is loaded. {error}"))

    def _flip(self, alias: Alias, row: "AliasRow", live: Live | None) -> None:
        if live is not None and live.digest == row.digest:
            return
        wanted = self._directory.loaded().get(row.digest)
        if wanted is not None and not wanted.worker.ready(wanted.slot):
            return
        fresh = self._directory.flip(*alias, row.digest)
        if fresh is None:
            return
        if live is not None:
            self._previous[alias] = live.digest
        self._work.set()
        self._metrics.flips.inc()
        self._report(Event("serve", f"{'@'.join(alias)} is now {fresh.concrete}"))

    def _drop_dead(self) -> None:
        """Take out what stands on an engine that has ended: it is loaded again, and its requests get an error meanwhile."""
        for live in self._directory.loaded().values():
            if not live.worker.alive:
                self._directory.drop(live)
                self._failures[live.digest] = _Failure("its engine has stopped and is started again", 0, self._clock())
                self._report(Event("serve", f"{live.concrete}: its engine has stopped; loading it again"))

    def _tell(self, rows: Rows) -> None:
        """Say of each alias whether it is served as the catalog wants it; of one whose release is loading, nothing new."""
        held, loaded = self._directory.aliases(), self._directory.loaded()
        problems, told = dict[Alias, str](), dict[Alias, Observation]()
        for alias, row in rows.items():
            live, failure = held.get(alias), self._failures.get(row.digest)
            if live is not None and live.digest == row.digest:
                told[alias] = Observation(*alias, row.digest, True, "probes passed")
                continue
            title = f"release {row.version}-{short(row.digest)}"
            keeps = f"still serving {live.concrete}" if live is not None else "nothing is served under this alias"
            if failure is not None:
                problems[alias] = f"{title} did not come up: {failure.reason} ({keeps})"
                told[alias] = Observation(*alias, row.digest, False, f"{failure.reason} ({keeps})")
            else:
                doing = "has to be proved again" if row.digest in loaded else "is being loaded"
                problems[alias] = f"{title} {doing} ({keeps})"
                if alias in self._told:
                    told[alias] = self._told[alias]
        self._directory.note_problems(problems)
        self._told = told
        self._reports.put(told)

    def _bring_up(self, wanted: Callable[[Rows], Iterator[tuple[Digest, str]]], stop: threading.Event | None) -> bool:
        """Load one after the other, looking at the catalog in between; False when it cannot be used or `stop` is set."""
        while stop is None or not stop.is_set():
            rows = self.look()
            if rows is None:
                return False
            loaded = self._directory.loaded()
            try:
                missing = next((one for one in wanted(rows) if one[0] not in loaded and self._may_try(one[0])), None)
            except BudwoodError as error:
                self._note_trouble(error)
                return False
            if missing is None:
                return True
            digest, ref = missing
            self._load(digest, ref)
        return False

    def _wanted(self, rows: Rows) -> Iterator[tuple[Digest, str]]:
        for row in rows.values():
            yield row.digest, f"{row.name}@{row.version}"
        yield from self._trials.wanted()
        for one in self._asked:
            yield one.digest, f"{one.name}@{one.digest}"

    def _settled(self, one: "Warmup", loaded: Mapping[Digest, Live]) -> bool:
        live = loaded.get(one.digest)
        return one.digest in self._failures or (live is not None and live.worker.ready(live.slot))

    def _why(self, digest: Digest) -> str:
        failure = self._failures.get(digest)
        return failure.reason if failure else ""

    def _warm(self, rows: Rows) -> Iterator[tuple[Digest, str]]:
        """Each alias's previous release, so that going back is a pointer flip."""
        for alias in rows:
            if alias not in self._previous and alias in self._directory.aliases():
                # Reading takes a while: where the alias has moved meanwhile, `_flip` knows better.
                self._previous.setdefault(alias, self._find_previous(alias))
            digest = self._previous.get(alias, Digest(""))
            if digest:
                yield digest, digest

    def _may_try(self, digest: Digest) -> bool:
        failure = self._failures.get(digest)
        return failure is None or self._clock() >= failure.retry_at

    def _load(self, digest: Digest, wanted: "ReleaseRow | str") -> None:
        try:
            row = self._store.find_release(wanted) if isinstance(wanted, str) else wanted
            live: Live = self._loader.load(row)
        except Exception as error:
            # Whatever is wrong with one release must not end the server that answers from the others.
            self._fail(digest, wanted if isinstance(wanted, str) else digest, error)
            return
        self._directory.put(live)
        self._failures.pop(digest, None)

    def _fail(self, digest: Digest, ref: str, error: Exception) -> None:
        before = self._failures.get(digest)
        tries = before.tries + 1 if before is not None else 1
        reason = error.what if isinstance(error, BudwoodError) else f"{type(error).__name__}: {error}"
        wait_s = min(RETRY_S * 2 ** (tries - 1), LONGEST_RETRY_S)
        self._failures[digest] = _Failure(reason, tries, self._clock() + wait_s)
        self._metrics.load_failures.inc()
        shown = str(error) if isinstance(error, BudwoodError) else reason
        self._report(Event("serve", f"{short(ref)} did not come up; trying again in {wait_s:.0f} s. {shown}"))

    def _find_previous(self, alias: Alias) -> Digest:
        """Where the alias pointed before, by the history: for a server that has just started."""
        name, word = alias
        moves = [event for event in self._store.history(name, kinds=MOVES) if event.alias == word]
        return Digest(moves[-1].from_ or "") if moves else Digest("")
