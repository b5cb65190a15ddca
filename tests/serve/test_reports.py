"""What a server says of its aliases: written when it is new, all at once, and again when it could not be."""

from typing import Any

from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.serve.reports import SAY_AGAIN_S, Reports
from budwood.store import Observation
from budwood.store.warmups import Warmup

FIRST, SECOND = Digest("1" * 64), Digest("2" * 64)


class Catalog:
    """Notes what is written; `broken`: refuses."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.broken = False
        self.warmups = self

    def observe_all(self, server_id: str, found: list[Observation]) -> None:
        if self.broken:
            raise StoreError("The catalog is locked.")
        self.written.append([(one.alias, one.digest) for one in found])

    def report(self, server_id: str, digest: str, ok: bool, detail: str) -> None:
        self.written.append((digest, ok, detail))


def said(alias: str, digest: Digest) -> dict[tuple[str, str], Observation]:
    return {("a", alias): Observation("a", alias, digest, True, "")}


def test_only_what_is_new_or_old_is_written_and_all_of_it_at_once() -> None:
    catalog, events, now = Catalog(), list[Any](), [0.0]
    reports = Reports(catalog, server_id="s", report=events.append, clock=lambda: now[0])  # type: ignore[arg-type]
    both = said("x", FIRST) | said("y", FIRST)
    reports.put(both)
    reports.write()
    reports.write()
    assert catalog.written == [[("x", FIRST), ("y", FIRST)]]
    reports.put(both | said("x", SECOND))
    catalog.broken = True
    reports.write()
    reports.write()
    assert [event.message[:33] for event in events] == ["The catalog cannot be written; se"]
    catalog.broken = False
    reports.write()
    assert catalog.written[1:] == [[("x", SECOND)]]
    now[0] = SAY_AGAIN_S
    reports.write()
    assert catalog.written[2:] == [[("x", SECOND), ("y", FIRST)]]


def test_each_asking_for_a_release_is_answered_once() -> None:
    catalog = Catalog()
    reports = Reports(catalog, server_id="s", report=lambda event: None)  # type: ignore[arg-type]
    reports.put_ready({Warmup("a", FIRST, "10"): ""})
    reports.write()
    reports.write()
    reports.put_ready({Warmup("a", FIRST, "20"): "probes failed"})
    reports.write()
    assert catalog.written == [(FIRST, True, "ready"), (FIRST, False, "probes failed")]
