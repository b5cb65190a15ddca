"""Rows that the catalog answers with, and the marker for "whatever is there now"."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from budwood.identity import Digest


class Anything(Enum):
    """The type of `ANY`."""

    ANY = "any"

    def __repr__(self) -> str:
        return "ANY"


ANY: Literal[Anything.ANY] = Anything.ANY
"""As `expect`: move the alias wherever it points."""


SILENCE_S = 10.0
"""A server that has not been heard of for so long is taken for dead; a living one reports every two seconds."""


@dataclass(frozen=True)
class ReleaseRow:
    """A registered release: `version` runs 1, 2, 3… within `name`."""

    name: str
    version: int
    digest: Digest
    created_at: str


@dataclass(frozen=True)
class AliasRow:
    """Where an alias points (the desired state); `seq` is the event that put it there."""

    name: str
    alias: str
    digest: Digest
    version: int
    seq: int


@dataclass(frozen=True)
class ServerRow:
    """A server that follows this catalog: running `since`, last `seen`; `alive`: it has been heard of within seconds."""

    server_id: str
    since: str
    seen: str
    alive: bool


@dataclass(frozen=True)
class Observation:
    """What a server says of one alias: the release, whether it answers from it, and in what words."""

    name: str
    alias: str
    digest: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class ObservedRow:
    """What a server says that it serves: `since` this state, last `seen`; times are UTC, ISO 8601."""

    server_id: str
    name: str
    alias: str
    digest: Digest
    ok: bool
    detail: str
    since: str
    seen: str


@dataclass(frozen=True)
class TokenRow:
    """An access token.

    Args:
        name: of whoever uses it.
        prefix: its first characters, which are no secret.
        digest: sha256 of the whole token.
        scopes: what it may do.
        models: release names that it may ask; empty: all.
        created_at: UTC, ISO 8601, as the other times.
        expires_at: from then on it is refused.
        revoked_at: since then it is refused; None: it is not revoked.
    """

    name: str
    prefix: str
    digest: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    created_at: str
    expires_at: str
    revoked_at: str | None

    def state(self, now: datetime) -> str:
        """Say whether it counts: "live", "expired" or "revoked"."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if datetime.fromisoformat(self.expires_at) <= now else "live"


@dataclass(frozen=True)
class AuditRow:
    """One call of the admin API: who by the name of the token, what, and with which HTTP status it ended; 0: it has not."""

    at: str
    server_id: str
    token: str
    request_id: str
    action: str
    status: int
    detail: str
