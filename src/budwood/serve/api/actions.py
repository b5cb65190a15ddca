"""What the admin API can do: plain functions that whoever starts the server hands in, since promotion is no part of serving."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Promote(Protocol):
    def __call__(
        self, ref: str, alias: str, *, expect: str | None, who: str, reason: str, override: str | None
    ) -> dict[str, Any]:
        """Point an alias at a release, as `budwood promote`.

        Raises:
            BudwoodError: the gate refuses, or the alias is elsewhere. Nothing was changed.
        """


class Rollback(Protocol):
    def __call__(self, name: str, alias: str, *, to: str | None, who: str, reason: str) -> dict[str, Any]:
        """Point an alias back, as `budwood rollback`.

        Raises:
            BudwoodError: nothing was live before. Nothing was changed.
        """


class Audit(Protocol):
    """The record of calls. A call is put on record before it is made: what cannot be recorded is not done."""

    def begin(self, token: str, request_id: str, action: str, detail: str) -> int:
        """Put a call on record; gives its number there.

        Raises:
            BudwoodError: the catalog cannot be written.
        """

    def end(self, number: int, status: int) -> None:
        """Add how it ended, as an HTTP status."""


@dataclass(frozen=True)
class AdminActions:
    """What the admin API can do; all of it blocks, and gives JSON values.

    Args:
        releases: what is registered.
        history: the events of a release name, or with "" all.
        promote: moves an alias forward.
        rollback: moves it back.
        calls: the newest calls of this API on record.
    """

    releases: Callable[[], list[dict[str, Any]]]
    history: Callable[[str], list[dict[str, Any]]]
    promote: Promote
    rollback: Rollback
    calls: Callable[[int], list[dict[str, Any]]]
