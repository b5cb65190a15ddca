"""Which snapshots a store holds, and the one that a person means.

digest = find_snapshot(store, "support")          # the newest of that name that was prepared
for one in snapshots(store): print(one.name, one.digest, one.at)
"""

from dataclasses import dataclass
from typing import Any

from budwood.data.trained import Use, trained_on
from budwood.errors import StoreError
from budwood.identity import Digest
from budwood.store import Store


@dataclass(frozen=True)
class Listed:
    """A snapshot in the list.

    Args:
        digest: its digest.
        name: the recipe's.
        at: when it was last made; empty where nothing is on record.
        body: the figures of its manifest; empty when it was removed.
        removed: why its bytes are gone; empty while they are here.
    """

    digest: Digest
    name: str
    at: str
    body: dict[str, Any]
    removed: str = ""

    @property
    def selection(self) -> dict[str, Any]:
        """What was selected, by what and from which snapshot; empty for a snapshot that was prepared."""
        return dict(self.body.get("selection", {}))

    def uses(self, store: Store) -> list[Use]:
        return [] if self.removed else trained_on(store, self.digest)


def snapshots(store: Store, name: str = "") -> list[Listed]:
    """List the snapshots of a store, or of one name, oldest first; removed ones, whose names are gone, come with no name."""
    found = [_listed(store, digest) for digest in store.objects("snapshot")]
    found += [
        Listed(stone.digest, "", stone.at, {}, removed=stone.reason or "no reason was given")
        for stone in store.tombstones()
        if stone.kind == "snapshot" and not name
    ]
    return sorted((one for one in found if not name or one.name == name), key=lambda one: (one.at, one.digest))


def find_snapshot(store: Store, ref: str = "") -> Digest:
    """Find the snapshot that is meant.

    Args:
        store: the store.
        ref: a snapshot's name (the newest of it), the first digits of its digest, a release such as support@production or the
            first digits of a run or release (what that was trained on); empty: the newest of the store. A selection from a
            snapshot, a random one for comparison included, is meant by its digits alone, unless there is nothing else.

    Raises:
        StoreError: nothing fits, or what fits was made from no snapshot.
    """
    from budwood.release.lineage import find_object, lineage

    known = [one for one in snapshots(store) if not one.removed]
    named = [one for one in known if not ref or one.name == ref]
    if named:
        return ([one for one in named if not one.selection] or named)[-1].digest
    digits = ref.strip().removesuffix("…")
    if "@" not in ref and not (len(digits) >= 6 and set(digits) <= set("0123456789abcdef")):
        raise _unknown(ref, sorted({one.name for one in known}))
    digest = find_object(store, ref)
    data = lineage(store, digest).data
    if data is None:
        raise StoreError(f"{ref} was made from no snapshot.", mend="`budwood data list` lists the snapshots.")
    return data.digest


def check_name(store: Store, name: str) -> None:
    """Refuse a name that no snapshot has.

    Raises:
        StoreError: it names those that there are.
    """
    names = {one.name for one in snapshots(store)} - {""}
    if name not in names:
        raise _unknown(name, sorted(names))


def _unknown(ref: str, names: list[str]) -> StoreError:
    if not names:
        return StoreError("There is no snapshot in this store.", mend="Make one with `budwood prepare RECIPE`.")
    return StoreError(
        f"No snapshot is called {ref!r}. Names: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}.",
        mend="`budwood data list` lists the snapshots; 6 digits of a digest will do.",
    )


def _listed(store: Store, digest: Digest) -> Listed:
    body = dict(store.manifest(digest).body)
    said = [str(one["at"]) for one in store.attestations(digest) if "at" in one]
    return Listed(digest, str(body.get("name", "")), max(said, default=""), body)
