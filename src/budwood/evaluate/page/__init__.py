"""One HTML file with all that a report says: opened from disk, offline, without a server.

`render` puts the page together · `headline`: the verdict and what it rests on · `tables`: metrics, slices, rules, times,
provenance · `cases`: the cases themselves, with filters · `charts`: bars as inline SVG · `markup`: escaping and numbers.

Nothing of an answer reaches the page unescaped, and the page may load nothing (its Content-Security-Policy names the digests
of its one style and one script). Without the script every listed case is shown.

    html = render_page(name="support", candidate=report, baseline=base, champion=None, comparison=comparison)
"""

from budwood.evaluate.page.render import render_page

__all__ = ["render_page"]
