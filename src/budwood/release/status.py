"""What is live where: the desired state (aliases), the observed one (servers), and what happened last."""

from dataclasses import asdict, dataclass
from typing import Any

from budwood.identity import Digest, short
from budwood.release.promote import ServerState, followed, server_states
from budwood.store import HistoryEvent, Store


@dataclass(frozen=True)
class AliasStatus:
    """One alias: where it points, since when, by whom, and what each server does."""

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

    @property
    def settled(self) -> bool:
        """Whether every server that is heard of answers from the release that the alias points to."""
        return followed(self.servers)

    def line(self) -> str:
        """One line for people."""
        servers = f"{sum(server.state == 'follows' for server in self.servers)} of {len(self.servers)} servers follow"
        mark = ", override" if self.override else ""
        place = f"{self.name}@{self.alias} → version {self.version} ({short(self.digest)}, {self.verdict}{mark})"
        return f"{place} since {self.since[:19]} by {self.who}; {servers if self.servers else 'no server has reported'}"


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
    """Look at all aliases, or those of one name, and the last events."""
    history = store.history()
    by_seq = {event.seq: event for event in history}
    rows = []
    for row in store.aliases(name):
        moved = by_seq[row.seq]
        verdict = store.manifest(row.digest).body.get("verdict")
        rows.append(
            AliasStatus(
                row.name,
                row.alias,
                row.version,
                row.digest,
                verdict["verdict"] if verdict else "not judged",
                moved.at,
                moved.who,
                moved.reason,
                moved.override,
                server_states(store, row.name, row.alias, row.digest),
            )
        )
    about = [event for event in history if name is None or event.name == name]
    return Status(tuple(rows), tuple(about[-events:]) if events else ())
