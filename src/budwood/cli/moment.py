"""Reading a moment that a person types, and showing it so that nobody mistakes the zone."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from budwood.errors import StoreError


def read_moment(text: str) -> datetime:
    """Read "2026-03-03 14:00": UTC, unless it has an offset or ends with a zone, e.g. "local" or "Europe/Berlin".

    Raises:
        StoreError: it cannot be read, or that zone's clocks never showed it, or showed it twice.
    """
    when, _, last = text.strip().rpartition(" ")
    zone = _zone(last) if when and not last[0].isdigit() else None
    try:
        moment = datetime.fromisoformat(when if zone else text.strip())
    except ValueError:
        raise StoreError(
            f"{text!r} is no moment.", where="--at", mend='Write it as "2026-03-03 14:00", "… 14:00+01:00" or "… 14:00 local".'
        ) from None
    if moment.tzinfo is not None:
        return moment
    if zone is None:
        return moment.replace(tzinfo=UTC)
    early, late = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early != late:
        raise StoreError(
            f"The clocks of {last} showed {when} twice or not at all on that day.",
            where="--at",
            mend=f'Say it in UTC: "{early:%Y-%m-%d %H:%M}" or "{late:%Y-%m-%d %H:%M}".',
        )
    return early


def show_moment(moment: datetime) -> str:
    """Write a moment in UTC, and in the zone of this machine where that is another."""
    utc, local = moment.astimezone(UTC), moment.astimezone()
    text = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    if local.utcoffset() == utc.utcoffset():
        return text
    day = f"{local:%Y-%m-%d} " if local.date() != utc.date() else ""
    return f"{text} ({day}{local:%H:%M:%S} {local:%Z} here)"


def _zone(name: str) -> tzinfo | None:
    if name == "local":
        return _Local()
    try:
        return UTC if name in ("UTC", "Z") else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise StoreError(
            f"{name!r} is no time zone that this machine knows.", where="--at", mend='Write "local", "UTC" or "Europe/Berlin".'
        ) from None


class _Local(tzinfo):
    """The rules of this machine's own zone, which have no name that could be looked up."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "local"
