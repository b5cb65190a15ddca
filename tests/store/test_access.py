"""Access tokens in the catalog, and the record of admin calls."""

from datetime import UTC, datetime, timedelta

import pytest

from budwood.errors import StoreError
from budwood.identity import digest_bytes
from budwood.serve.access.secret import digest_of, fits, new_secret, prefix_of
from budwood.store import Store, TokenRow
from budwood.store.access import MOST_AUDITED, Access

LATER = datetime.now(UTC) + timedelta(days=400)


def add(store: Store, name: str, secret: str, until: datetime = LATER) -> TokenRow:
    return store.access.add(
        name,
        prefix=prefix_of(secret) or "",
        digest=digest_of(secret),
        scopes=["inference", "admin"],
        models=["support"],
        expires_at=until,
        who="anna",
    )


def test_what_is_kept_is_no_token(store: Store) -> None:
    secret = new_secret()
    row = add(store, "ci", secret)
    assert store.access.rows() == [row]
    assert (row.scopes, row.models) == (("inference", "admin"), ("support",))
    rest = secret.removeprefix(row.prefix)
    for file in store.root.rglob("*"):
        assert not file.is_file() or rest.encode() not in file.read_bytes()
    event = store.history()[-1]
    assert (event.kind, event.who, event.detail["token"]) == ("token_created", "anna", "ci")
    assert store.verify().ok


def test_a_name_is_used_once_and_revoked_once(store: Store) -> None:
    row = add(store, "ci", new_secret())
    with pytest.raises(StoreError, match='There is a token "ci" already'):
        add(store, "ci", new_secret())
    gone = store.access.revoke("ci", who="anna", reason="leaked")
    assert gone.state(datetime.now(UTC)) == "revoked"
    assert store.access.revoke("ci", who="bert", reason="again") == gone
    assert [event.kind for event in store.history()] == ["token_created", "token_revoked"]
    assert store.history()[-1].reason == "leaked"
    with pytest.raises(StoreError, match='There is a token "ci" already'):
        add(store, "ci", new_secret())
    with pytest.raises(StoreError, match='There is no token "cd"'):
        store.access.revoke("cd", who="anna", reason="")
    assert row.state(LATER) == "expired"


@pytest.mark.parametrize("name", ["", "CI", "../ci", "a" * 65, "c i"])
def test_names_that_are_none(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="token name"):
        add(store, name, new_secret())
    assert store.history() == []


def test_nobody_may_say_that_a_token_was_made(store: Store) -> None:
    from budwood.store import HistoryEvent

    with pytest.raises(StoreError, match="written by the move itself"):
        store.add_event(HistoryEvent(0, "", "token_revoked", "mallory"))


def test_calls_are_on_record_before_they_end_and_the_oldest_give_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budwood.store.access.MOST_AUDITED", 3)
    assert MOST_AUDITED > 1000
    access: Access = store.access
    for number in range(5):
        key = access.begin_call("s", "ci", f"req_{number}", "promote", "production to support@2")
    assert [row.status for row in access.calls(10)] == [0, 0, 0]
    access.end_call(key, 409)
    assert [(row.request_id, row.status) for row in access.calls(2)] == [("req_4", 409), ("req_3", 0)]


def test_secrets_have_one_form_and_fit_themselves_alone() -> None:
    secret = new_secret()
    assert prefix_of(secret) == secret[:11]
    assert fits(secret, digest_bytes(secret.encode()))
    assert not fits(new_secret(), digest_of(secret))
    for wrong in ("", "bw_", secret[:-1], secret + "0", secret.upper(), f" {secret}", secret + "\n", "sk-" + secret):
        assert prefix_of(wrong) is None
