"""What a store is made of, each part made at its first use: `import sqlalchemy` waits until the catalog is needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from budwood.errors import StoreError
from budwood.identity import short
from budwood.store.attestations import Attestations
from budwood.store.durable import storing
from budwood.store.leases import Lease, gate
from budwood.store.objects import Objects

if TYPE_CHECKING:
    from budwood.store.access import Access
    from budwood.store.canaries import Canaries
    from budwood.store.catalog import Catalog
    from budwood.store.drifts import Drifts
    from budwood.store.index import Index
    from budwood.store.ledger import Ledger
    from budwood.store.observations import Observations
    from budwood.store.registry import Registry
    from budwood.store.state import CatalogState
    from budwood.store.warmups import Warmups

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How a store was opened; see `open_store`."""

    root: Path
    url: str
    clock: Callable[[], datetime]
    wait_s: float
    read_only: bool


class Parts:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = settings.clock
        self.tmp = settings.root / "tmp"
        self.objects = Objects(settings.root / "objects")
        self.attestations = Attestations(settings.root / "attestations")
        self._lock = RLock()
        self._made: dict[str, Any] = {}

    def close(self) -> None:
        """Give back connections and the lease; both are made again when they are needed."""
        with self._lock:
            catalog, lease = self._made.pop("catalog", None), self._made.pop("lease", None)
            self._made.clear()
        if catalog is not None:
            catalog.close()
        if lease is not None:
            lease.release()

    def reopen(self, url: str) -> None:
        """Go on with the catalog that was moved to `url`."""
        self.close()
        self.settings = replace(self.settings, url=url)

    def check_writable(self, what: str) -> None:
        if self.settings.read_only:
            raise StoreError(
                f"The store may not be written: {what} was not stored (this folder is read-only).",
                where=str(self.settings.root),
                mend="Nothing was changed. Check owner, permissions and mount of that folder.",
            )

    @property
    def head_file(self) -> Path:
        """The second witness of the history's end."""
        return self.settings.root / "history.head"

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Guard a change to files: a read-only store, a full disk and the like come out as `StoreError`."""
        self.check_writable(what)
        with storing(what, self.settings.root):
            yield

    def scratch(self) -> Path:
        """A free name on the store's file system; a dead process's is swept with its lease."""
        return self.lease.folder / uuid4().hex

    @property
    def lease(self) -> Lease:
        """This process's own lease: objects noted in it are not collected while it lives."""
        return self._once("lease", lambda: Lease(self.tmp, "writer"))

    @property
    def catalog(self) -> "Catalog":
        return self._once("catalog", self._open_catalog)

    @property
    def ledger(self) -> "Ledger":
        return self._once("ledger", self._open_ledger)

    def read_state(self) -> "CatalogState":
        """Read everything in the catalog that a check compares with the objects."""
        from budwood.store.state import read_state

        return read_state(self.catalog, self.ledger)

    @property
    def index(self) -> "Index":
        from budwood.store.index import Index

        return Index(self.catalog)

    @property
    def registry(self) -> "Registry":
        from budwood.store.registry import Registry

        return Registry(self.catalog, self.ledger, self.clock, self._check_release)

    @property
    def observations(self) -> "Observations":
        from budwood.store.observations import Observations

        return Observations(self.catalog, self.clock)

    @property
    def canaries(self) -> "Canaries":
        from budwood.store.canaries import Canaries

        return Canaries(self.catalog, self.ledger, self.clock)

    @property
    def warmups(self) -> "Warmups":
        from budwood.store.warmups import Warmups

        return Warmups(self.catalog, self.clock)

    @property
    def drifts(self) -> "Drifts":
        from budwood.store.drifts import Drifts

        return Drifts(self.catalog, self.ledger, self.clock)

    @property
    def access(self) -> "Access":
        from budwood.store.access import Access

        return Access(self.catalog, self.ledger, self.clock)

    def _open_catalog(self) -> "Catalog":
        from budwood.store.catalog import Catalog
        from budwood.store.place import LOCAL, check_ours, remember, remembered, settle

        given = self.settings
        url = settle(given.root, given.url)
        catalog = Catalog(given.root / LOCAL, url, self.tmp, read_only=given.read_only, wait_s=given.wait_s)
        if url and not given.read_only and remembered(given.root) != url:
            try:
                with gate(self.tmp, exclusive=True):
                    check_ours(catalog, given.root)
                    remember(given.root, url, self.tmp / f".{uuid4().hex}")
            except StoreError:
                catalog.close()
                raise
        return catalog

    def _open_ledger(self) -> "Ledger":
        from budwood.store.ledger import Ledger

        ledger = Ledger(self.catalog, self.head_file, self.scratch, self.clock)
        if not self.settings.read_only:
            ledger.found()
        return ledger

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Make a part at its first use; threads that come together wait for the first."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            part: T = self._made[name]
            return part

    def _check_release(self, digest: str) -> None:
        kind = self.objects.manifest(digest).kind
        if kind != "release":
            raise StoreError(f"{short(digest)}… is a {kind}, not a release.", mend="Give the digest of a release.")
