"""Follow the catalog's trials: send shares of traffic to releases that are loaded and proved, and report what was counted.

What cannot be loaded gets nothing: all of the traffic stays where the alias points, and the reason is reported.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter
from budwood.identity import Digest, short
from budwood.serve.directory import Directory
from budwood.serve.routing import RouteKind
from budwood.serve.traffic import Alias, Traffic

if TYPE_CHECKING:
    from budwood.store import AliasRow, Store
    from budwood.store.trials import Trial

REPORT_S = 1.0
"""Counts are reported again after so long, and held against the limits."""
WINDOW_S = 600.0
"""Of a policy that says nothing else."""
Guard = Callable[["Store", str], list[str]]
"""Ends what breaks its policy; gives sentences about what it did. (`release.canary.guard`)"""


class Trials:
    """`look` is the follower's, under its lock; `run` has a thread of its own, since judging may take longer than a flip may.

    Args:
        store: trials in, reports out.
        directory: gets the routes.
        traffic: is told what to count, and asked.
        server_id: under which this server reports.
        guard: holds counts against limits; None: nobody does on this server.
        report: told of what the guard did.
    """

    def __init__(
        self,
        store: "Store",
        directory: Directory,
        traffic: Traffic,
        *,
        server_id: str,
        guard: Guard | None,
        report: Reporter,
    ) -> None:
        self._store = store
        self._directory = directory
        self._traffic = traffic
        self._server_id = server_id
        self._guard = guard
        self._report = report
        self._trouble = ""
        self._absent: dict[Digest, str] = {}
        self._rows: list[Trial] = []

    def wanted(self) -> Iterator[tuple[Digest, str]]:
        """The releases that have to be loaded for trials: digest and reference."""
        for trial in self._rows:
            yield trial.digest, f"{trial.name}@{trial.version}"

    def look(self, aliases: "Mapping[Alias, AliasRow]", why: Callable[[Digest], str]) -> None:
        """Do what the catalog says of trials.

        Args:
            aliases: as the catalog has them.
            why: reason for which a release is not loaded; "": it is being loaded.
        """
        rows = [trial for trial in self._store.canaries.rows() if _stands(trial, aliases)]
        wanted: dict[tuple[str, str, RouteKind], tuple[Digest, float]] = {
            (trial.name, trial.alias, trial.kind): (trial.digest, trial.share) for trial in rows if trial.kind != "watch"
        }
        self._traffic.watch({(trial.name, trial.alias): float(trial.policy.get("window_s", WINDOW_S)) for trial in rows})
        self._absent = {digest: why(digest) for digest in self._directory.set_routes(wanted)}
        self._rows = rows

    def run(self, stop: threading.Event) -> None:
        """Report what was counted, and hold it against the limits, until `stop` is set."""
        while not stop.wait(REPORT_S):
            try:
                self.account()
                self._trouble = ""
            except BudwoodError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._report(Event("serve", f"What is on trial cannot be judged now. {error}"))

    def account(self) -> None:
        """Report once, and judge once."""
        absent = self._absent
        for trial in self._rows:
            self._say(trial, absent)
        for sentence in self._guard(self._store, self._server_id) if self._guard else ():
            self._report(Event("serve", sentence))

    def _say(self, trial: "Trial", absent: Mapping[Digest, str]) -> None:
        from budwood.store.trials import TrialReport

        ok = trial.digest not in absent
        reason = absent.get(trial.digest) or "it is being loaded"
        detail = "answers" if ok else f"{reason} (all traffic stays with {short(trial.against)})"
        said = (self._server_id, trial.name, trial.alias, trial.kind, trial.digest, ok, detail, self._counts(trial))
        self._store.canaries.report(TrialReport(*said))

    def _counts(self, trial: "Trial") -> dict[str, Any]:
        alias = (trial.name, trial.alias)
        sides = {"trial": trial.digest} if trial.kind == "watch" else {"trial": trial.digest, "stable": trial.against}
        return {side: self._traffic.counts(alias, digest).as_dict() for side, digest in sides.items()}


def _stands(trial: "Trial", aliases: "Mapping[Alias, AliasRow]") -> bool:
    """Whether the alias is where it was when the trial began; the guard of some server ends those where it is not."""
    row = aliases.get((trial.name, trial.alias))
    return row is not None and row.digest == (trial.digest if trial.kind == "watch" else trial.against)
