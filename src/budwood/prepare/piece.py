"""A piece of a source: some of its records in order, cut so that any process may work on it alone.

How a source is cut depends on its bytes and on nothing else, so that the number of processes changes no result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from budwood.identity import Digest
from budwood.prepare.files import Layout
from budwood.prepare.records import Malformed, Record
from budwood.prepare.row import Declared
from budwood.prepare.shapes import Shape


@dataclass(frozen=True)
class SourceView:
    """What a row has to know of its source.

    Args:
        number: its place in the recipe.
        path: as the recipe names it.
        converted: what its bytes were decoded from; empty for UTF-8.
        columns: part of a row → column, for the shape "columns".
    """

    number: int
    path: str
    sha256: Digest
    layout: Layout
    shape: Shape
    converted: str
    columns: Mapping[str, str]
    weight: float
    declared: Declared


class Piece(NamedTuple):
    """Records of a source: as whole lines of JSON in UTF-8 (`first` is the number of the first of them), or read already."""

    source: SourceView
    first: int
    content: bytes | tuple[Record | Malformed, ...]
