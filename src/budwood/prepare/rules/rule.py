"""What every rule has in common."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

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


@runtime_checkable
class TextRule(Rule, Protocol):
    """A rule that leaves a row as it is where every text in it is plain (`is_plain`); such rows need not be shown to it."""

    leaves_plain: ClassVar[bool]


def is_plain(text: str) -> bool:
    """Whether a text is printable ASCII, tabs and line feeds, with no white space around it: most texts of many sets are."""
    # To delete all that is plain and look at the rest takes a quarter of what `isprintable` does.
    return text.isascii() and not text.encode().translate(None, _PLAIN) and text[:1] not in _SPACE and text[-1:] not in _SPACE


_PLAIN = b"\t\n" + bytes(range(0x20, 0x7F))
_SPACE = ("\t", "\n", " ")
