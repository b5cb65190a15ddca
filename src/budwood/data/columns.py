"""A snapshot as columns: a few numbers a row instead of its text, so that millions of rows are compared in memory.

    names = Names()
    before, after = read_columns(store, a, names), read_columns(store, b, names)

45 bytes a row. Texts are held as 64 bits of a hash: among ten million rows, two different texts look alike with a
probability of some 10⁻⁶.
"""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from budwood.data.rows import REJECTED, SPLITS, KeptRow, RejectedRow, kept_rows, rejected_rows
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest, short
from budwood.store import Store

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

PLACES = (*SPLITS, REJECTED)
OUT = PLACES.index(REJECTED)
NO_RULE = 0
PLAIN = ("role", "content", "train")
STEP = 20_000
"""Rows between two signs of life."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


@dataclass
class Names:
    """Sources and rules → the numbers that columns hold for them; shared by the snapshots that are compared."""

    sources: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=lambda: {"": NO_RULE})

    def source(self, name: str) -> int:
        return self.sources.setdefault(name, len(self.sources))

    def rule(self, name: str) -> int:
        return self.rules.setdefault(name, len(self.rules))


@dataclass(frozen=True)
class Columns:
    """One entry a row, in the order train, validation, test, rejected, and of the files.

    Args:
        row_id: its 16 hexadecimal digits as a number.
        said: what it says: messages and tools, or the raw text of a record that could not be read.
        asked: that without the last message.
        beside: what else is its own: its slices, and which answers are learnt; its weight is its source's.
        place: number in `PLACES`.
        source: its file's number in `Names`.
        rule: number of the rule that rejected it; `NO_RULE` for kept rows.
        line: where it stands in its file.
    """

    row_id: "NDArray[numpy.uint64]"
    said: "NDArray[numpy.uint64]"
    asked: "NDArray[numpy.uint64]"
    beside: "NDArray[numpy.uint64]"
    place: "NDArray[numpy.uint8]"
    source: "NDArray[numpy.uint32]"
    rule: "NDArray[numpy.uint32]"
    line: "NDArray[numpy.uint32]"

    def __len__(self) -> int:
        return len(self.row_id)


def read_columns(store: Store, snapshot: Digest, names: Names, *, report: Reporter = silent) -> Columns:
    """Read a snapshot once.

    Raises:
        StoreError: not a snapshot, its bytes are gone, or a row that cannot be read.
    """
    import numpy

    row_id, said, asked, beside = (array("Q") for _ in range(4))
    place, (source, rule, line) = array("B"), (array("I") for _ in range(3))
    total = store.manifest(snapshot).body.get("counts", {}).get("read")
    message = f"Reading {short(snapshot)}"

    def take(row: KeptRow | RejectedRow, where: int, by: int, around: int) -> None:
        asks, says = _texts(row.value)
        row_id.append(int(row.row_id[:16], 16))
        said.append(says)
        asked.append(asks)
        beside.append(around)
        place.append(where)
        source.append(names.source(row.file))
        rule.append(by)
        line.append(row.line)
        if len(place) % STEP == 0:
            report(Event("data", message, done=len(place), total=total, unit="rows"))

    for kept in kept_rows(store, snapshot):
        take(kept, SPLITS.index(kept.split), NO_RULE, _beside(kept.value))
    for gone in rejected_rows(store, snapshot):
        take(gone, OUT, names.rule(gone.rule), 0)
    report(Event("data", message, done=len(place), total=total, unit="rows"))
    return Columns(
        row_id=numpy.frombuffer(row_id, numpy.uint64),
        said=numpy.frombuffer(said, numpy.uint64),
        asked=numpy.frombuffer(asked, numpy.uint64),
        beside=numpy.frombuffer(beside, numpy.uint64),
        place=numpy.frombuffer(place, numpy.uint8),
        source=numpy.frombuffer(source, numpy.uint32),
        rule=numpy.frombuffer(rule, numpy.uint32),
        line=numpy.frombuffer(line, numpy.uint32),
    )


def _texts(value: Mapping[str, Any]) -> tuple[int, int]:
    """Hash what a row asks, and all that it says; which answers are learnt is no part of either."""
    if "raw" in value:
        raw = _hash(f"raw {value['raw']}")
        return raw, raw
    *before, last = map(_text, value["messages"])
    tools = value.get("tools")
    asked = "".join([_ENCODER.encode(tools) if tools else "", *before])
    return _hash(f"asked {asked}"), _hash(f"said {asked}{last}")


def _text(message: Mapping[str, Any]) -> str:
    """A message as a text of its own: no two different ones, laid end to end, read alike."""
    role, content = message["role"], message["content"]
    text = f"{len(role)} {role} {len(content)} {content}"
    rest = {key: held for key, held in message.items() if key not in PLAIN} if len(message) > 2 else None
    return text + _ENCODER.encode(rest) if rest else text


def _beside(value: Mapping[str, Any]) -> int:
    kept = [place for place, message in enumerate(value["messages"]) if message.get("train") is False]
    slices = value["slices"]
    return _hash(_ENCODER.encode([slices, kept])) if slices or kept else 0


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
