"""What every rule has in common."""

from typing import Any, Protocol

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
