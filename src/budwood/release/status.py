"""What is live where: the desired state (aliases), the observed one (servers), and what happened last."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.release.promote import ServerState, followed, server_states
from budwood.release.since import since_line
from budwood.store import AliasRow, HistoryEvent, Store


@dataclass(frozen=True)
class AliasStatus:
    """One alias: where it points, since when, by whom, and what each server does.

    `stale` says how production differs from what the release was judged on, if it does; "" otherwise.
    """

    name: str
    alias: str
    version: int
    digest: Digest
    verdict: str
    since: str
    who: str
    reason: str
    override: bool
    servers: tuple[ServerState, ...]
    stale: str = ""

    @property
    def settled(self) -> bool:
        """Whether every server on record answers from the release that the alias points to."""
        return followed(self.servers)

    def line(self) -> str:
        """One line for people."""
        mark = (", override" if self.override else "") + (", stale" if self.stale else "")
        place = f"{self.name}@{self.alias} → version {self.version} ({short(self.digest)}, {self.verdict}{mark})"
        follow = [server.state == "follows" for server in self.servers]
        return since_line(place, since=self.since, who=self.who, servers=follow, verb="follow")


@dataclass(frozen=True)
class Status:
    aliases: tuple[AliasStatus, ...]
    events: tuple[HistoryEvent, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "aliases": [
                asdict(row) | {"servers": [asdict(server) for server in row.servers], "settled": row.settled}
                for row in self.aliases
            ],
            "events": [event.as_dict() for event in self.events],
        }


def status(store: Store, name: str | None = None, *, events: int = 5) -> Status:
    """Look at all aliases, or those of one name, and the last events.

    Raises:
        StoreError: nobody has ever heard of that name, or an alias names an event that the history does not have.
    """
    if name is not None:
        store.check_known(name)
    # Aliases first: the history that is read after them has the events that moved them.
    aliases = store.aliases(name)
    history = store.history()
    rows = []
    drifts = store.drifts.rows()
    for row in aliases:
        moved = _event_of(row, history)
        body, _ = body_or_reason(store, row.digest)
        rows.append(
            AliasStatus(
                row.name,
                row.alias,
                row.version,
                row.digest,
                verdict_word(body),
                moved.at,
                moved.who,
                moved.reason,
                moved.override,
                server_states(store, row.name, row.alias, row.digest),
                drifts[row.digest].says if row.digest in drifts and drifts[row.digest].stale else "",
            )
        )
    about = [event for event in history if name is None or event.name == name]
    return Status(tuple(rows), tuple(about[-events:]) if events else ())


def body_or_reason(store: Store, digest: Digest) -> tuple[Mapping[str, Any] | None, str]:
    """Read the body of an object, or say why there is none: one that is gone is no reason to show none of the others."""
    try:
        tombstone = store.tombstone_of(digest)
        if tombstone is not None:
            return None, f"removed: {tombstone.reason}"
        return store.manifest(digest).body, ""
    except StoreError as error:
        return None, f"damaged: {error.what}"


def verdict_word(body: Mapping[str, Any] | None) -> str:
    """What the gate said about a release, in one word or two."""
    if body is None:
        return "unknown"
    verdict = body.get("verdict")
    return str(verdict["verdict"]) if verdict else "not judged"


def _event_of(row: AliasRow, history: Sequence[HistoryEvent]) -> HistoryEvent:
    """Find the event that put an alias where it is."""
    found = next((event for event in history if event.seq == row.seq), None)
    if found is None:
        raise StoreError(
            f"The alias {row.name}@{row.alias} names event {row.seq}, which the history does not have.",
            mend="Somebody wrote into the catalog: read `budwood verify`.",
        )
    return found
