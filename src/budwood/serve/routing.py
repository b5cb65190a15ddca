"""Which requests of an alias go to the release that is tried beside it.

Each sender has a fixed place between 0 and 1, made from the release name, the alias and a key; those below the share are in.
So a sender stays on its side for as long as the share is the same, and none of those in at 10 % is out at 50 %. Which release
is tried is no part of the place: the next canary is tried on the same senders first.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from budwood.serve.directory import Live

PRODUCTION = "production"
RouteKind = Literal["canary", "shadow"]


@dataclass(frozen=True, eq=False)
class Route:
    """A release that gets a share of an alias's traffic, or of copies of it."""

    name: str
    alias: str
    kind: RouteKind
    live: "Live"
    share: float


def place(name: str, alias: str, key: str) -> float:
    """Where a sender stands among all: at least 0, below 1."""
    text = "\0".join((name, alias, key)).encode("utf-8", "surrogatepass")
    # 53 bits are what a float holds: the place never rounds up to 1.
    return (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 11) / (1 << 53)


def in_share(route: Route, key: str) -> bool:
    return place(route.name, route.alias, key) < route.share


def alias_of(model: str) -> tuple[str, str]:
    """Name and alias that a model name means, if it means an alias."""
    name, _, rest = model.partition("@")
    return name, rest or PRODUCTION
