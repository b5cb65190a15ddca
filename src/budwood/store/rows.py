"""Rows that the catalog answers with, and the marker for "whatever is there now"."""

from dataclasses import dataclass
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
