"""The page, put together."""

from budwood.data.report.make import Facts
from budwood.data.report.page.alike import conflicts, duplicates
from budwood.data.report.page.examples import examples
from budwood.data.report.page.mirrors import mirrors
from budwood.data.report.page.reading import headline, rules, sources
from budwood.data.report.page.shape import balance, lengths
from budwood.identity import short
from budwood.page.document import document
from budwood.page.markup import text

PARTS = (
    ("read", "read"),
    ("rules", "rules"),
    ("examples", "examples"),
    ("duplicates", "duplicates"),
    ("conflicts", "conflicts"),
    ("lengths", "lengths"),
    ("balance", "balance"),
    ("mirror", "mirror"),
)


def render(facts: Facts) -> str:
    """Give the page of a snapshot; the same snapshot, recipe, sources and log give the same page."""
    name = str(facts.body["name"])
    made = (headline, sources, rules, examples, duplicates, conflicts, lengths, balance, mirrors)
    sections = "\n".join(part(facts) for part in made)
    links = "".join(f'<a href="#{place}">{title}</a>' for place, title in PARTS if f'id="{place}"' in sections)
    digest = f"<code>{text(short(facts.digest))}</code>"
    body = f"""<header class="top"><h1>{text(name)}: the data</h1><p>snapshot {digest}</p></header>
<nav>{links}</nav>
{sections}
<section><h2>Where this comes from</h2><dl><dt>snapshot</dt><dd>{text(facts.digest)}</dd></dl>
<p class="hint">Every rejected row, with rule and reason, is in the snapshot’s rejected.jsonl.</p></section>"""
    return document(title=f"{name}: data report", body=body, package="budwood.data.report.page", style="report.css")
