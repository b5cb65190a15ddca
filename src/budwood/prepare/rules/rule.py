"""What every rule has in common."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from budwood.errors import BudwoodError
from budwood.prepare.row import Drop, Row


class Rule(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    def options(self) -> dict[str, Any]:
        """Give the settings that its decisions depend on, as JSON values."""
        ...

    def apply(self, row: Row) -> Row | Drop:
        """Judge one row.

        Raises:
            DataError: where the recipe asks to stop instead of dropping.
        """
        ...


@runtime_checkable
class BatchRule(Rule, Protocol):
    """A rule that is faster on many rows at a time; what comes of a row does not depend on the others."""

    def apply_all(self, rows: Sequence[Row]) -> Sequence[Row | Drop | BudwoodError]:
        """Judge rows, each as `apply` does; what that would raise is given in the row's place."""
        ...
