"""What every rule has in common."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

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


class Pair(NamedTuple):
    """A row of a question and its answer, both plain and neither empty, in a file that says no more of it than plain values.

    Args:
        asked: the user's message.
        answered: the assistant's, which is learnt.
        whole: both and the texts of its slices, parted by line feeds.
    """

    asked: str
    answered: str
    whole: str


@runtime_checkable
class PairRule(Rule, Protocol):
    """A rule that can tell from its texts that it leaves a pair as it is; such rows need not be made to be shown to it."""

    def leaves(self, pair: Pair) -> bool:
        """Whether `apply` is certain to give the row itself; where it may not, the row is shown to it."""
        ...


@runtime_checkable
class MeasuringRule(Rule, Protocol):
    """A rule that counts tokens, where it is given what counts them."""

    @property
    def measures(self) -> bool: ...

    def measure(self, pairs: Sequence[Pair]) -> Sequence[int | None]:
        """Give the tokens of pairs; None for one that has to be shown to `apply_all`."""
        ...


def is_plain(text: str) -> bool:
    """Whether a text is printable ASCII, tabs and line feeds, with no white space around it: most texts of many sets are."""
    # To delete all that is plain and look at the rest takes a quarter of what `isprintable` does.
    return text.isascii() and not text.encode().translate(None, _PLAIN) and text[:1] not in _SPACE and text[-1:] not in _SPACE


_PLAIN = b"\t\n" + bytes(range(0x20, 0x7F))
_SPACE = ("\t", "\n", " ")
