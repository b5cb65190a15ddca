"""Small charts as inline SVG; colours come from the page's style."""

from budwood.page.markup import signed, text

WIDTH = 130
HEIGHT = 18


def interval_bar(mean: float, low: float, high: float, *, reach: float, better: bool | None) -> str:
    """Draw a difference with its bounds on an axis from -reach to reach, zero in the middle.

    Args:
        mean: the difference.
        low: its lower bound.
        high: its upper bound.
        reach: end of the axis, above 0.
        better: True and False colour it; None: the interval holds zero.
    """
    kind = {True: "better", False: "worse", None: "open"}[better]
    start, end, dot = (_place(value, reach) for value in (low, high, mean))
    middle, centre = WIDTH / 2, HEIGHT / 2
    label = f"{signed(mean)}, between {signed(low)} and {signed(high)}"
    return (
        f'<svg class="interval {kind}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{text(label)}">'
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{centre}" y2="{centre}"/>'
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="{HEIGHT}"/>'
        f'<rect class="span" x="{start:.1f}" width="{max(end - start, 1.5):.1f}" y="{centre - 3}" height="6" rx="3"/>'
        f'<circle class="mean" cx="{dot:.1f}" cy="{centre}" r="4.5"/></svg>'
    )


def share_bars(shares: list[tuple[str, float | None]], *, width: int = 120) -> str:
    """Draw values of 0 to 1 as thin bars above each other; the class names who each is."""
    height = 6 * len(shares) + 2
    bars = "".join(
        f'<rect class="track" x="0" y="{6 * place + 1}" width="{width}" height="4" rx="2"/>'
        f'<rect class="{kind}" x="0" y="{6 * place + 1}" width="{width * min(1.0, max(0.0, value)):.1f}" height="4" rx="2"/>'
        for place, (kind, value) in enumerate(shares)
        if value is not None
    )
    return f'<svg class="shares" width="{width}" height="{height}" aria-hidden="true">{bars}</svg>'


def legend(kinds: list[str]) -> str:
    """Say which colour of `share_bars` is whose."""
    items = "".join(
        f'<span><svg class="shares" width="12" height="8" aria-hidden="true">'
        f'<rect class="{kind}" width="12" height="8" rx="2"/></svg>{text(kind)}</span>'
        for kind in kinds
    )
    return f'<p class="legend">{items}</p>'


def stacked_bar(parts: list[tuple[str, float]]) -> str:
    """Draw shares that add up to 1 as one bar as wide as the page allows; the class names what each is."""
    start, pieces = 0.0, []
    for kind, share in parts:
        pieces.append(f'<rect class="{kind}" x="{1000 * start:.1f}" width="{1000 * share:.1f}" height="14"/>')
        start += share
    return f'<svg class="stacked" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">{"".join(pieces)}</svg>'


def _place(value: float, reach: float) -> float:
    edge = 5
    return edge + (min(1.0, max(-1.0, value / reach)) + 1) / 2 * (WIDTH - 2 * edge)
