"""The page, put together."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from budwood.evaluate.compare import Comparison, compare
from budwood.evaluate.page.cases import case_list
from budwood.evaluate.page.facts import Facts
from budwood.evaluate.page.headline import headline
from budwood.evaluate.page.markup import text
from budwood.evaluate.page.tables import field_table, metric_tables, provenance, slice_tables, time_table
from budwood.evaluate.report import Report
from budwood.identity import short


def render_page(
    *,
    name: str,
    candidate: Report,
    baseline: Report,
    champion: Report | None,
    comparison: Comparison,
    verdict: tuple[str, Sequence[str]] | None = None,
) -> str:
    """Render one report as a page.

    Args:
        name: of the releases.
        candidate: the report that the page is about.
        baseline: of the plain base, on the same suite.
        champion: of the release that is live; None when nothing is.
        comparison: candidate against baseline.
        verdict: what the gate said, PROMOTE, REJECT or INCONCLUSIVE, with its reasons; None before it has.

    Raises:
        EvaluationError: the champion's report is for another suite, or answered otherwise.
    """
    others, comparisons = {"base": baseline}, {"base": comparison}
    if champion is not None:
        others["champion"] = champion
        comparisons["champion"] = compare(
            candidate,
            champion,
            primary=comparison.primary,
            alpha=comparison.alpha,
            resamples=comparison.resamples,
            seed=comparison.seed,
        )
    said, reasons = verdict or ("", ())
    return _document(Facts(name, candidate, others, comparisons, said, reasons))


def _document(facts: Facts) -> str:
    style, script = (files("budwood.evaluate.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; img-src data:"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{text(facts.name)}: {text(facts.verdict or "evaluation")}</title>
<style>{style}</style></head>
<body><main>
<header class="top"><h1>{text(facts.name)}</h1><p>report <code>{text(short(facts.candidate.digest))}</code></p></header>
{headline(facts)}
{metric_tables(facts)}
{case_list(facts)}
{slice_tables(facts)}
{field_table(facts)}
{time_table(facts)}
{provenance(facts)}
</main><script>{script}</script></body></html>
"""


def _source(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
