"""Tells from a token who is asking.

The catalog's tokens are read again every second, so a new or a revoked one counts from then on; expiry is looked at with each
request. When the catalog cannot be read, what was read last goes on to count: a server serves on from what it has.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from budwood.errors import BudwoodError
from budwood.events import Event, Reporter
from budwood.serve.access.secret import fits, prefix_of
from budwood.store.rows import TokenRow

READ_AGAIN_S = 1.0
Scope = Literal["inference", "metrics", "sync", "admin"]
SCOPES: Mapping[str, str] = {
    "inference": "ask models",
    "metrics": "read figures and which releases are served",
    "admin": "read and move aliases; includes metrics",
}
"""What a token may be made for. `sync`, a look at the catalog at once, is part of admin."""


@dataclass(frozen=True)
class Caller:
    """Who is asking.

    Args:
        name: of the token; "" for somebody who needs none.
        scopes: what the caller may do.
        models: release names that may be asked; empty: all.
    """

    name: str
    scopes: frozenset[str]
    models: frozenset[str] = field(default=frozenset())

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or (scope in ("metrics", "sync") and "admin" in self.scopes)

    def may_ask(self, model: str) -> bool:
        """Whether a model name, with or without alias, is one of the caller's."""
        return not self.models or model.partition("@")[0] in self.models


ANYBODY = Caller("", frozenset({"inference", "metrics", "sync"}))
"""Whoever comes to a server that asks for no token: nothing can be moved without one."""
NOBODY = Caller("", frozenset())


class Refused(BudwoodError):
    """A token that does not count."""


class Book:
    """The tokens that a server knows; every method may be called from any thread.

    Args:
        read: gives the catalog's tokens.
        auth: [serve] auth.
        report: told once when the catalog cannot be read.
        clock: now, aware.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[TokenRow]],
        auth: Literal["auto", "required", "off"],
        *,
        report: Reporter,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._read = read
        self._auth = auth
        self._report = report
        self._clock = clock
        self._trouble = ""
        # The first reading must succeed: without it nobody knows whether a token is asked for.
        self._rows = {row.prefix: row for row in read()}

    @property
    def required(self) -> bool:
        """Whether a request needs a token. One that was ever made is enough: an expired one must not open the door."""
        return self._auth == "required" or (self._auth == "auto" and bool(self._rows))

    @property
    def live(self) -> int:
        """How many tokens count now."""
        now = self._clock()
        return sum(row.state(now) == "live" for row in self._rows.values())

    def run(self, stop: threading.Event) -> None:
        """Read again every second until `stop` is set."""
        while not stop.wait(READ_AGAIN_S):
            self.refresh()

    def refresh(self) -> None:
        try:
            self._rows = {row.prefix: row for row in self._read()}
            self._trouble = ""
        except BudwoodError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._report(Event("serve", f"Tokens cannot be read again; those known go on to count. {error}"))

    def caller(self, secret: str | None) -> Caller:
        """Tell who a token is of; None: the request has none.

        A token that is sent has to count, also where none is needed: whoever sends one believes that it does.

        Raises:
            Refused: unknown, expired or revoked. The first is said of whatever is not exactly a token of this store.
        """
        if secret is None:
            return NOBODY if self.required else ANYBODY
        row = self._rows.get(prefix_of(secret) or "")
        if row is None or not fits(secret, row.digest):
            if not self.required and prefix_of(secret) is None:
                # OpenAI's clients insist on sending some key; where none is asked for, any word will do.
                return ANYBODY
            raise Refused("The token is not known here.", mend="Make one with `budwood token create`.")
        state = row.state(self._clock())
        if state != "live":
            raise Refused(f"The token {row.name!r} is {state}.", mend="Make another with `budwood token create`.")
        return Caller(row.name, frozenset(row.scopes), frozenset(row.models))
