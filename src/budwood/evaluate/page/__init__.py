"""One HTML file with all that a report says: opened from disk, offline, without a server.

`render` puts the page together · `headline`: the verdict and what it rests on · `tables`: metrics, slices, rules, times,
provenance · `cases`: the cases themselves, with filters. Escaping, charts and the file's policy are `budwood.page`'s.

Without the script every listed case is shown.

    html = render_page(name="support", candidate=report, baseline=base, champion=None, comparison=comparison)
"""

from budwood.evaluate.page.render import render_page

__all__ = ["render_page"]
