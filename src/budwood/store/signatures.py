"""Signatures of releases: OpenSSF model signing with elliptic-curve keys, and the rule that asks for one.

    sign(store, release, Path("release.key"))                     # beside the object: its digest does not change
    check(store, release, [Path("release.pub").read_text()])      # raises unless one of these keys signed these very bytes
    require(store, "support", [pem, …], who="anna", reason="…")   # from now on releases of support must be signed

What is signed is the release object's folder, with the manifest that holds every digest; so parts of two signed releases make
no third one. Keys stay with their owner: of a rule, the history keeps the public keys themselves. The extra `signing` is
imported where it is needed.
"""

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import StoreError
from budwood.identity import Digest, digest_bytes, short
from budwood.store.history import HistoryEvent
from budwood.store.manifest import MANIFEST

if TYPE_CHECKING:
    from budwood.store.store import Store

SIGNATURE = "signature.json"
REQUIRED = "signatures_set"
MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True)
class SignatureRule:
    """Whose signature a name's releases need, as PEM public keys; none: nobody's. `seq` is the event that says so."""

    keys: tuple[str, ...] = ()
    seq: int = 0


def sign(store: "Store", release: str, key: Path) -> Path:
    """Sign a release with a PEM private key (P-256, P-384 or P-521, without a password); return the signature's place.

    Raises:
        StoreError: no release, no such key, or the extra is missing.
    """
    _check_kind(store, release)
    signing = _library().signing
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SIGNATURE
        try:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(store.folder(release), made)
        except (ValueError, TypeError, OSError, AttributeError) as error:
            raise StoreError(
                f"The release was not signed: {error}", where=str(key), mend="Give a PEM private key: P-256, P-384 or P-521."
            ) from None
        return store.attach(release, SIGNATURE, made.read_bytes())


def check(store: "Store", release: str, keys: Sequence[str]) -> str:
    """Check that one of these keys has signed a release; return that key's short digest.

    Args:
        store: of the release.
        release: its digest.
        keys: public keys, as PEM texts.

    Raises:
        StoreError: it is not signed, or by nobody of these, or other bytes are.
    """
    _check_kind(store, release)
    path = store.attachment(release, SIGNATURE)
    if not path.is_file():
        raise StoreError(
            f"Release {short(release)}… is not signed.", mend="Nothing was changed. `budwood release sign REF --key KEY`."
        )
    faults = []
    for key in keys:
        fault = _fault(store, release, path, key)
        if fault is None:
            return short(key_digest(key))
        faults.append(fault)
    why = "; ".join(dict.fromkeys(faults)) or "no key is trusted"
    raise StoreError(
        f"The signature of release {short(release)}… is not good: {why}.",
        where=str(path),
        mend="Nothing was changed. Have it signed by a key that the rule names, or ask who changed it.",
    )


def require(store: "Store", name: str, keys: Sequence[str], *, who: str, reason: str) -> HistoryEvent:
    """Put on record whose signature the releases of a name need from now on; no keys: nobody's."""
    for key in keys:
        check_key(key)
    detail = {"keys": list(keys)}
    return store.add_event(HistoryEvent(0, "", REQUIRED, who, name, reason=reason, detail=detail))


def rule_of(store: "Store", name: str) -> SignatureRule:
    """The rule in force for a name: the last that was set."""
    found = SignatureRule()
    for event in store.history(name, kinds=(REQUIRED,)):
        found = SignatureRule(tuple(str(key) for key in event.detail.get("keys", ())), event.seq)
    return found


def check_rule(store: "Store", name: str, release: str) -> None:
    """Refuse a release that is not signed as its name's rule asks.

    Raises:
        StoreError: see `check`.
    """
    rule = rule_of(store, name)
    if rule.keys:
        check(store, release, rule.keys)


def read_key(path: Path) -> str:
    """Read a PEM public key.

    Raises:
        StoreError: there is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise StoreError(f"The key cannot be read: {error.strerror}.", where=str(path), mend="Check the path.") from None
    text = data[:MAX_KEY_BYTES].decode("ascii", "replace")
    try:
        check_key(text)
    except StoreError as error:
        raise StoreError(error.what, where=str(path), mend=error.mend) from None
    return text


def check_key(pem: str) -> None:
    """Refuse what is no public key, a private one above all: it would be put on record."""
    if not pem.lstrip().startswith("-----BEGIN PUBLIC KEY-----"):
        raise StoreError("This is no PEM public key.", mend="Make one: openssl ec -in release.key -pubout -out release.pub")


def key_digest(pem: str) -> Digest:
    return digest_bytes(pem.strip().encode())


def _fault(store: "Store", release: str, signature: Path, key: str) -> str | None:
    """Say why a signature is not this key's over this release; None when it is."""
    library = _library()
    from cryptography.exceptions import InvalidSignature

    with tempfile.TemporaryDirectory() as scratch:
        public = Path(scratch) / "key.pub"
        public.write_text(key)
        try:
            library.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(store.folder(release), signature)
            if not _covers(signature, release):
                return "it leaves the manifest out"
        except InvalidSignature:
            return f"it is not key {short(key_digest(key))}…'s, or was altered"
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
            return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def _covers(signature: Path, release: str) -> bool:
    """Whether the signed list names the manifest with the release's digest: paths may be left out of a signature."""
    payload = json.loads(base64.b64decode(json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]))
    listed = {one["name"]: one["digest"] for one in payload["predicate"]["resources"]}
    return bool(listed.get(MANIFEST) == release)


def _check_kind(store: "Store", release: str) -> None:
    kind = store.manifest(release).kind
    if kind != "release":
        raise StoreError(f"{short(release)}… is a {kind}, not a release.", mend="Read `budwood history`.")


def _library() -> Any:
    try:
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise StoreError(
            f"Signatures need the extra `signing`: {error}.", mend="Nothing was changed. pip install 'budwood[signing]'"
        ) from None
    return model_signing
