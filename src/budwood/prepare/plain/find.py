"""A piece of JSON lines → its plain rows and where all its lines lie."""

import ctypes
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from budwood.native.build import Missing, load_library
from budwood.prepare.files import LONGEST_LINE_BYTES
from budwood.prepare.keys.find import kernel as keys_kernel
from budwood.prepare.piece import SourceView
from budwood.prepare.rules.rule import Pair
from budwood.prepare.shapes import Shape
from budwood.recipe import PrepareSection

if TYPE_CHECKING:
    from numpy import int32, int64
    from numpy.typing import NDArray

FLAGS = ("-O3", "-fPIC")
STRANGE = ("tools", "functions")
"""Keys beside which a conversation is none of ours, whatever they hold."""


class Names(NamedTuple):
    """Which keys of a record say what; fields are those of `Names` in plain.c, where words are parted by NUL."""

    asked: str
    answered: str = ""
    role: str = ""
    content: str = ""
    users: tuple[str, ...] = ()
    assistants: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    strange: tuple[str, ...] = STRANGE


_NAMES: Mapping[Shape, Names] = {
    "prompt": Names("prompt", "completion", empty=("system",)),
    "alpaca": Names("instruction", "output", empty=("input", "system")),
    "messages": Names("messages", "", "role", "content", ("user",), ("assistant",)),
    "sharegpt": Names(
        "conversations", "", "from", "value", ("human", "user"), ("gpt", "chatgpt", "model", "assistant"), ("system",)
    ),
}


class PlainRows(NamedTuple):
    """Plain rows of a piece, P of its L lines.

    Args:
        data: the piece.
        bounds: where each line begins and ends in it, (L, 2).
        line: which line each row is, (P,).
        said: question, answer and the texts of its slices, parted by line feeds, row after row.
        said_at: where each begins and the last one ends, (P + 1,).
        sizes: bytes of question and answer, (P, 2).
        raw: where these begin and end in the data as they are written, (P, 4).
        slices: `"name":value,…`, row after row.
        slices_at: (P + 1,).
        layout: equal for rows whose slices have equal names, (P,).
    """

    data: bytes
    bounds: "NDArray[int64]"
    line: "NDArray[int64]"
    said: str
    said_at: "NDArray[int64]"
    sizes: "NDArray[int64]"
    raw: "NDArray[int64]"
    slices: bytes
    slices_at: "NDArray[int64]"
    layout: "NDArray[int32]"

    def pairs(self) -> list[Pair]:
        """The texts of all rows, as rules look at them."""
        said, starts = self.said, self.said_at.tolist()
        bounds = zip(starts, starts[1:], self.sizes.tolist(), strict=False)
        return [
            Pair(said[start : start + asked], said[start + asked + 1 : start + asked + 1 + answered], said[start:end])
            for start, end, (asked, answered) in bounds
        ]

    def others(self, places: Sequence[int], first: int) -> Iterator[tuple[int, bytes]]:
        """All lines but those of the rows at these places, numbered from `first` on."""
        import numpy

        is_other = numpy.ones(len(self.bounds), numpy.bool_)
        is_other[self.line[places]] = False
        lines = numpy.flatnonzero(is_other)
        for line, (start, end) in zip(lines.tolist(), self.bounds[lines].tolist(), strict=True):
            yield first + line, self.data[start:end]

    def names(self) -> list[tuple[str, ...]]:
        """Names of each row's slices."""
        import numpy

        known: dict[int, tuple[str, ...]] = {}
        for layout, row in zip(*numpy.unique(self.layout, return_index=True), strict=True):
            start, end = self.slices_at[row : row + 2]
            known[int(layout)] = tuple(json.loads(b"{" + self.slices[start:end] + b"}"))
        return [known[layout] for layout in self.layout.tolist()]


@cache
def kernel() -> ctypes.CDLL | Missing:
    """Load the kernel, compiling it if it is not in the cache."""
    library = load_library("budwood.prepare.plain", FLAGS)
    if not isinstance(library, Missing):
        library.plain_rows.restype = ctypes.c_long
    return library


def names_of(source: SourceView) -> Names | None:
    """Say which keys hold what in the lines of a source; None where none of its lines is looked for."""
    if source.layout != "jsonl":
        return None
    if source.shape != "columns":
        return _NAMES[source.shape]
    columns = source.columns
    names = Names(columns["prompt"], columns["completion"], empty=tuple(filter(None, [columns.get("system", "")])))
    # Names of no letters or with a NUL cannot be said to the kernel, and of two meanings it would see the first alone.
    words = (names.asked, names.answered, *names.empty)
    told = len(set(words)) == len(words) and all(word and "\0" not in word for word in words)
    return names if told else None


def find_rows(content: bytes, source: SourceView, section: PrepareSection) -> PlainRows | None:
    """Look for plain rows; None where there can be none, or no kernel."""
    library, names = kernel(), names_of(source)
    if isinstance(library, Missing) or isinstance(keys_kernel(), Missing):
        return None
    # A system message put before every row makes it one of three.
    if names is None or section.system:
        return None
    return _found(library, content, names)


class _Names(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_char_p) for name in Names._fields), ("longest", ctypes.c_int64))


class _Found(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in ("bounds", "line", "said", "said_at", "sizes", "raw", "slices", "slices_at", "layout")
    )


def _found(library: ctypes.CDLL, content: bytes, names: Names) -> PlainRows:
    import numpy

    lines, size = content.count(b"\n") + 1, len(content)
    bounds, line, sizes, raw = (numpy.empty(shape, numpy.int64) for shape in ((lines, 2), lines, (lines, 2), (lines, 4)))
    said_at, slices_at, layout = (
        numpy.empty(lines + 1, numpy.int64),
        numpy.empty(lines + 1, numpy.int64),
        numpy.empty(lines, numpy.int32),
    )
    said, slices = numpy.empty(size, numpy.uint8), numpy.empty(size, numpy.uint8)
    given = _Names(*map(_words, names), LONGEST_LINE_BYTES)
    made = (bounds, line, said, said_at, sizes, raw, slices, slices_at, layout)
    found = _Found(*(array.ctypes.data for array in made))
    rows = library.plain_rows(content, ctypes.c_long(size), ctypes.byref(given), ctypes.byref(found))
    return PlainRows(
        data=content,
        bounds=bounds,
        line=line[:rows],
        said=said[: said_at[rows]].tobytes().decode("ascii"),
        said_at=said_at[: rows + 1],
        sizes=sizes[:rows],
        raw=raw[:rows],
        slices=slices[: slices_at[rows]].tobytes(),
        slices_at=slices_at[: rows + 1],
        layout=layout[:rows],
    )


def _words(value: Sequence[str]) -> bytes:
    """A word, or a list of words that an empty one ends."""
    return value.encode() if isinstance(value, str) else b"".join(word.encode() + b"\0" for word in value) + b"\0"
