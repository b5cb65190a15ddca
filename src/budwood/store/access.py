"""Access tokens of servers, as the catalog keeps them, and the record of what was done through the admin API.

A token itself is nowhere: what lies here is its sha256, and a prefix by which people recognise it. A name is used once, so
that a name in the record means one token for good. Making and revoking one is put in the history.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from budwood.errors import StoreError
from budwood.store.catalog import Catalog
from budwood.store.history import TOKEN_CREATED, TOKEN_REVOKED, HistoryEvent, iso
from budwood.store.ledger import Clock, Ledger
from budwood.store.names import check_digest, check_name, check_token_name
from budwood.store.rows import AuditRow, TokenRow
from budwood.store.schema import access_tokens, audit

BEGUN = 0
"""Status of a call that has not ended: it is under way, or the server ended first."""
MOST_AUDITED = 100_000
"""Rows of the record; the oldest go. Moves of aliases are in the history besides, and stay."""


class Access:
    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock

    def add(
        self,
        name: str,
        *,
        prefix: str,
        digest: str,
        scopes: Sequence[str],
        models: Sequence[str],
        expires_at: datetime,
        who: str,
    ) -> TokenRow:
        """Write a new token.

        Raises:
            StoreError: the name is used already, also by one that was revoked, or is none; it would have expired already.
        """
        now = self._clock()
        if expires_at <= now:
            raise StoreError(f"The token would have expired: {iso(expires_at)}.", mend="Give a time that is to come.")
        row = TokenRow(
            name=check_token_name(name),
            prefix=prefix,
            digest=check_digest(digest),
            scopes=tuple(scopes),
            models=tuple(check_name(model) for model in models),
            created_at=iso(now),
            expires_at=iso(expires_at),
            revoked_at=None,
        )
        with self._ledger.transaction() as entry:
            known = entry.connection.execute(select(access_tokens.c.created_at).filter_by(name=name)).scalar()
            if known is not None:
                raise StoreError(
                    f'There is a token "{name}" already, made {known[:16].replace("T", " ")} UTC.',
                    mend="Choose another name: a name in the record means one token for good.",
                )
            values = {**vars(row), "scopes": " ".join(row.scopes), "models": " ".join(row.models)}
            entry.connection.execute(insert(access_tokens).values(**values))
            entry.append(_event(TOKEN_CREATED, row, who))
        return row

    def rows(self) -> list[TokenRow]:
        """Every token that was ever made, oldest first."""
        query = select(access_tokens).order_by(access_tokens.c.created_at, access_tokens.c.name)
        with self._catalog.read() as connection:
            return [_token(row) for row in connection.execute(query)]

    def revoke(self, name: str, *, who: str, reason: str) -> TokenRow:
        """Refuse a token from now on; one that is revoked already stays as it is.

        Raises:
            StoreError: there is no token of that name.
        """
        with self._ledger.transaction() as entry:
            found = entry.connection.execute(select(access_tokens).filter_by(name=name)).one_or_none()
            if found is None:
                raise StoreError(f'There is no token "{name}".', mend="Read `budwood token list`.")
            if found.revoked_at is None:
                at = iso(self._clock())
                entry.connection.execute(update(access_tokens).where(access_tokens.c.name == name).values(revoked_at=at))
                entry.append(_event(TOKEN_REVOKED, _token(found), who, reason))
                found = entry.connection.execute(select(access_tokens).filter_by(name=name)).one()
        return _token(found)

    def begin_call(self, server_id: str, token: str, request_id: str, action: str, detail: str) -> int:
        """Put a call of the admin API on record before it is made; gives its number there. The oldest give way."""
        values = {"server_id": server_id, "token": token, "request_id": request_id, "action": action, "detail": detail}
        with self._catalog.write() as connection:
            put = insert(audit).values(**values, at=iso(self._clock()), status=BEGUN)
            number = int(connection.execute(put.returning(audit.c.id)).scalar_one())
            connection.execute(delete(audit).where(audit.c.id <= number - MOST_AUDITED))
        return number

    def end_call(self, number: int, status: int) -> None:
        """Add how a call ended."""
        with self._catalog.write() as connection:
            connection.execute(update(audit).where(audit.c.id == number).values(status=status))

    def calls(self, limit: int) -> list[AuditRow]:
        """The newest calls on record, newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        with self._catalog.read() as connection:
            found = connection.execute(query).all()
        return [AuditRow(**{key: value for key, value in row._mapping.items() if key != "id"}) for row in found]


def _token(row: Any) -> TokenRow:
    values = dict(row._mapping)
    return TokenRow(**{**values, "scopes": tuple(values["scopes"].split()), "models": tuple(values["models"].split())})


def _event(kind: str, row: TokenRow, who: str, reason: str = "") -> HistoryEvent:
    detail = {"token": row.name, "prefix": row.prefix, "scopes": list(row.scopes), "models": list(row.models)}
    return HistoryEvent(0, "", kind, who, reason=reason, detail={**detail, "expires_at": row.expires_at})
