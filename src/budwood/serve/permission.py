"""Which releases a request may name though no alias points to them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from budwood.errors import ServeError
from budwood.serve.bound import title
from budwood.store.history import MOVES

if TYPE_CHECKING:
    from budwood.store import ReleaseRow, Store

ANSWERED = (*MOVES, "canary_started", "canary_changed")
"""Events after which a release has answered clients."""


def permit_any(store: "Store", row: "ReleaseRow") -> None:
    """Whatever is registered may be asked for."""


def permit_judged(store: "Store", row: "ReleaseRow") -> None:
    """Refuse a release that no gate has passed, and that nobody has put before clients either.

    Raises:
        ServeError: what its verdict is.
    """
    verdict = store.manifest(row.digest).body.get("verdict")
    word = verdict.get("verdict") if isinstance(verdict, Mapping) else None
    if word == "PROMOTE" or any(event.to == row.digest for event in store.history(row.name, kinds=ANSWERED)):
        return
    judged = f"Its verdict is {word}" if word else "It was never judged by a gate"
    raise ServeError(
        f"{judged}, and it was never live: this server does not answer from it.",
        where=title(row),
        mend='Ask for another release; or set [serve] on_demand = "any" to have whatever is registered answer.',
    )
