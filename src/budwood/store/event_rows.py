"""Events of the history as rows of the table, and back.

Whoever writes into the table behind our back can put anything there. Reading never fails over it: what cannot be read is
replaced by something harmless and told in `detail`, so that the chain check can name the event and the rest stays readable.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from budwood.identity import canonical_json
from budwood.store.history import UNREADABLE, HistoryEvent
from budwood.store.schema import history

_EPOCH = "1970-01-01T00:00:00.000000+00:00"
"""Stands for a time that cannot be read; numbers, not times, decide what came after what."""
_REQUIRED = ("kind", "who", "expect", "reason", "previous", "digest")
_OPTIONAL = ("name", "alias", "from_digest", "to_digest", "verdict")


def to_row(event: HistoryEvent) -> dict[str, Any]:
    row = dict(vars(event))
    row["from_digest"], row["to_digest"] = row.pop("from_"), row.pop("to")
    row["detail"] = canonical_json(dict(event.detail)).decode("utf-8")
    return row


def from_row(row: Row[*tuple[Any, ...]]) -> HistoryEvent:
    values = dict(row._mapping)
    odd: dict[str, Any] = {}
    for keys, harmless in ((_REQUIRED, ""), (_OPTIONAL, None)):
        for key in keys:
            if not isinstance(values[key], str) and values[key] is not harmless:
                odd[key], values[key] = values[key], harmless
    if not _is_time(values["at"]):
        odd["at"], values["at"] = values["at"], _EPOCH
    detail = _detail(values["detail"])
    if detail is None:
        odd["detail"] = values["detail"]
    values["detail"] = {UNREADABLE: {key: repr(value)[:80] for key, value in odd.items()}} if odd else detail
    values["from_"], values["to"] = values.pop("from_digest"), values.pop("to_digest")
    return HistoryEvent(**values)


def read_events(connection: Connection, name: str | None = None, *, kinds: Sequence[str] = ()) -> list[HistoryEvent]:
    """Read all events, or those of one release name or of some kinds, in the order of their numbers."""
    query = select(history).order_by(history.c.seq)
    if name is not None:
        query = query.where(history.c.name == name)
    if kinds:
        query = query.where(history.c.kind.in_(kinds))
    return [from_row(row) for row in connection.execute(query)]


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _detail(text: Any) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
        # NaN and infinity: Python's json reads them, but they have no canonical form and were never written by us.
        canonical_json(value)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
