"""One line about something that stands at an alias, be it live or on trial: what, since when, by whom, on how many servers."""

from collections.abc import Sequence


def since_line(place: str, *, since: str, who: str, servers: Sequence[bool], verb: str, until: str = "") -> str:
    """Put the line together.

    Args:
        place: what stands where.
        since: ISO time.
        who: put it there.
        servers: for each one that has reported, whether it does what `verb` says.
        verb: what servers do when all is well: "follow".
        until: ISO time at which it ends by itself; "": never.
    """
    end = f" until {until[:19]}" if until else ""
    said = f"{sum(servers)} of {len(servers)} servers {verb}" if servers else "no server has reported"
    return f"{place} since {since[:19]}{end} by {who}; {said}"
