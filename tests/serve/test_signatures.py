"""Signed releases: who signed, which bytes, and what is refused where a signature is asked for."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.serve.conftest import Nursery

from budwood.errors import StoreError
from budwood.events import silent
from budwood.pipeline.exporting import Wish, export_release
from budwood.pipeline.importing import import_from
from budwood.release.promote import promote, rollback
from budwood.serve.loader import Loader
from budwood.store import open_store
from budwood.store.signatures import check, read_key, require, sign

pytest.importorskip("model_signing.signing", exc_type=ImportError)


def make_key(folder: Path, name: str) -> tuple[Path, str]:
    """A private key's file, and the public key's text."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = folder / f"{name}.key"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public.decode()


def test_a_signature_is_of_one_key_over_one_release(nursery: Nursery, tmp_path: Path) -> None:
    first, second = nursery.release("support", 0), nursery.release("support", 1)
    (mine, my_public), (_, their_public) = (make_key(tmp_path, name) for name in ("mine", "theirs"))
    store = nursery.store
    with pytest.raises(StoreError, match="is not signed"):
        check(store, first.digest, [my_public])
    place = sign(store, first.digest, mine)
    assert len(check(store, first.digest, [their_public, my_public])) == 12
    with pytest.raises(StoreError, match="is not good"):
        check(store, first.digest, [their_public])
    with pytest.raises(StoreError, match="no key is trusted"):
        check(store, first.digest, [])
    store.attach(second.digest, "signature.json", place.read_bytes())
    with pytest.raises(StoreError, match="is not good"):
        check(store, second.digest, [my_public])
    bundle = json.loads(place.read_bytes())
    payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload[-20] ^= 1
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    for data in (json.dumps(bundle).encode(), b"{}", b"", b"[" * 1000, b"\xff"):
        store.attach(first.digest, "signature.json", data)
        with pytest.raises(StoreError, match="is not good"):
            check(store, first.digest, [my_public])
    assert store.verify().problems == ()


def test_what_is_not_signed_as_asked_goes_nowhere(nursery: Nursery, tmp_path: Path) -> None:
    store = nursery.store
    base = {"object": nursery.base_object()}
    first, second = (nursery.release("support", number, changes=base) for number in (0, 1))
    key, public = make_key(tmp_path, "mine")
    promote(store, "support@1", who="anna", reason="before there was a rule", override="a test")
    require(store, "support", [public], who="anna", reason="signed in the build")
    with pytest.raises(StoreError, match="is not signed"):
        promote(store, "support@2", who="ben", reason="in a hurry", override="no time")
    loader = Loader(store, nursery.settings(), [nursery.soil.ref], silent)
    with pytest.raises(StoreError, match="is not signed"):
        loader.load(second)
    sign(store, second.digest, key)
    try:
        assert loader.load(second).digest == second.digest
    finally:
        loader.close()
    promote(store, "support@2", who="ben", reason="signed", override="a test")
    with pytest.raises(StoreError, match="is not signed"):
        rollback(store, "support", who="ben", reason="back")
    assert store.find_release("support").digest == second.digest
    sign(store, first.digest, key)
    assert rollback(store, "support", who="ben", reason="back").digest == first.digest
    require(store, "support", [], who="anna", reason="a test is over")
    nursery.release("plain", None)


def test_a_signature_travels_with_the_release(nursery: Nursery, tmp_path: Path) -> None:
    row = nursery.release("support", 0)
    key, public = make_key(tmp_path, "mine")
    sign(nursery.store, row.digest, key)
    export_release(nursery.store, row, tmp_path / "out.tar", Wish("archive"), report=silent)
    with open_store(tmp_path / "other") as other:
        done = import_from(other, tmp_path / "out.tar", as_name=None, who="anna", reason="moved", report=silent)
        assert done.signed
        check(other, row.digest, [public])


def test_only_keys_are_taken_for_keys(tmp_path: Path, nursery: Nursery) -> None:
    row = nursery.release("support", 0)
    private, public = make_key(tmp_path, "mine")
    (tmp_path / "mine.pub").write_text(public)
    assert read_key(tmp_path / "mine.pub") == public
    with pytest.raises(StoreError, match="no PEM public key"):
        read_key(private)  # on record, it would be everybody's
    with pytest.raises(StoreError, match="cannot be read"):
        read_key(tmp_path / "none")
    for text in (public, "x", ""):
        (tmp_path / "bad.key").write_text(text)
        with pytest.raises(StoreError, match="was not signed"):
            sign(nursery.store, row.digest, tmp_path / "bad.key")
