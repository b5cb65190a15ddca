"""Which snapshot is meant."""

from budwood.errors import StoreError
from budwood.identity import Digest, short
from budwood.store import Store

FEWEST_DIGITS = 6


def find_snapshot(store: Store, ref: str = "") -> Digest:
    """Find a snapshot by its digest's first digits, or the newest of a name, or the newest of all.

    Args:
        store: where it lies.
        ref: digits, at least six; else the recipe's name; empty: any snapshot.

    Raises:
        StoreError: there is none, or the digits are another object's.
    """
    digits = ref.strip().removesuffix("…")
    made = {digest: str(store.manifest(digest).body.get("name", "")) for digest in store.objects("snapshot")}
    named = [digest for digest, name in made.items() if ref in ("", name)]
    if named:
        return max(named, key=lambda digest: (_made_at(store, digest), digest))
    if len(digits) >= FEWEST_DIGITS and set(digits) <= set("0123456789abcdef"):
        found = store.resolve(digits)
        if found not in made:
            kind = store.manifest(found).kind
            raise StoreError(f"{short(found)}… is a {kind}, not a snapshot.", mend="Give the digest of a snapshot.")
        return found
    if not made:
        raise StoreError("There is no snapshot in this store.", mend="Make one with `budwood prepare RECIPE`.")
    names = ", ".join(sorted(set(made.values())))
    raise StoreError(f"There is no snapshot {ref!r}.", mend=f"Give its first digits, or one of these names: {names}.")


def _made_at(store: Store, digest: Digest) -> str:
    said = store.attestations(digest)
    return str(said[0].get("at", "")) if said else ""
