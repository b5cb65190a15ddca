"""The page, put together."""

from collections.abc import Sequence

from budwood.evaluate.compare import Comparison, compare
from budwood.evaluate.page.cases import case_list
from budwood.evaluate.page.facts import Facts
from budwood.evaluate.page.headline import headline
from budwood.evaluate.page.tables import field_table, metric_tables, provenance, slice_tables, time_table
from budwood.evaluate.report import Report
from budwood.identity import short
from budwood.page.document import document
from budwood.page.markup import text


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
    report = text(short(facts.candidate.digest))
    body = f"""<header class="top"><h1>{text(facts.name)}</h1><p>report <code>{report}</code></p></header>
{headline(facts)}
{metric_tables(facts)}
{case_list(facts)}
{slice_tables(facts)}
{field_table(facts)}
{time_table(facts)}
{provenance(facts)}"""
    title = f"{facts.name}: {facts.verdict or 'evaluation'}"
    return document(title=title, body=body, package="budwood.evaluate.page", style="page.css", script="page.js")
