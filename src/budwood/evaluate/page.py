"""A report as one HTML file: no network, everything escaped, readable on paper and in the dark.

Order of the page: the sentence that decides, the figures with base and champion beside them, what got fixed and what got
worse (worse first), slices, what else was checked, where it all came from. Long lists are cut with the number said.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from budwood.evaluate.compare import Comparison
from budwood.evaluate.page_style import SCRIPT, STYLE
from budwood.evaluate.report import Report
from budwood.identity import short

SHOWN_CASES = 200
SHOWN_CHARACTERS = 1_500
LESS_IS_BETTER = {"style violations", "policy violations", "schema errors", "empty", "truncated", "repeating"}


def render_page(
    *,
    name: str,
    candidate: Report,
    baseline: Report,
    champion: Report | None,
    comparison: Comparison,
    verdict: tuple[str, Sequence[str]] | None,
) -> str:
    """Render the page.

    Args:
        name: of the recipe.
        candidate: the report that the page is about.
        baseline: of the plain base.
        champion: of the release that was live; None when nothing was.
        comparison: candidate against baseline.
        verdict: what the gate said and why; None before it has.
    """
    parts = [
        f"<h1>{escape(name)}</h1>",
        _verdict(verdict),
        _headline(candidate, comparison),
        _metrics(candidate, baseline, champion),
        _fields(candidate, baseline),
        _cases(candidate, baseline, comparison),
        _slices(candidate, baseline, comparison),
        _checks(candidate),
        _latency(candidate, baseline, champion),
        _provenance(candidate, baseline, champion),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: evaluation</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _verdict(verdict: tuple[str, Sequence[str]] | None) -> str:
    if verdict is None:
        return '<p class="verdict open">Not judged yet: run <code>budwood release</code>.</p>'
    word, reasons = verdict
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f'<section class="verdict {word.lower()}"><strong>{escape(word)}</strong><ul>{items}</ul></section>'


def _headline(candidate: Report, comparison: Comparison) -> str:
    delta = comparison.delta
    p = "no discordant pairs" if comparison.p is None else f"exact McNemar p = {comparison.p:.2g}"
    return (
        f'<p class="lead"><b>{_percent(candidate.metrics[comparison.primary])}</b> {escape(comparison.primary)} on '
        f"{len(candidate.cases):,} held-out cases in {delta.groups:,} groups; {delta.mean * 100:+.1f} points against the base "
        f"(interval {delta.low * 100:+.1f} to {delta.high * 100:+.1f}; {p}).</p>"
    )


def _metrics(candidate: Report, baseline: Report, champion: Report | None) -> str:
    head = "<tr><th>metric</th><th>base</th><th>this</th><th></th><th>change</th>"
    head += "<th>champion</th></tr>" if champion else "</tr>"
    rows = []
    for metric, value in candidate.metrics.items():
        before = baseline.metrics.get(metric)
        cells = f"<td>{escape(metric)}</td><td>{_percent(before)}</td><td><b>{_percent(value)}</b></td>"
        cells += f"<td>{_bar(before, value)}</td><td>{_change(metric, before, value)}</td>"
        cells += f"<td>{_percent(champion.metrics.get(metric))}</td>" if champion else ""
        rows.append(f"<tr>{cells}</tr>")
    return f"<h2>Figures</h2><table>{head}{''.join(rows)}</table>"


def _fields(candidate: Report, baseline: Report) -> str:
    fields: Mapping[str, float] = candidate.summary.get("fields") or {}
    if not fields:
        return ""
    before: Mapping[str, float] = baseline.summary.get("fields") or {}
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_percent(before.get(name))}</td><td><b>{_percent(value)}</b></td>"
        f"<td>{_bar(before.get(name), value)}</td></tr>"
        for name, value in fields.items()
    )
    return f"<h2>Fields of the JSON answer</h2><table><tr><th>field</th><th>base</th><th>this</th><th></th></tr>{rows}</table>"


def _cases(candidate: Report, baseline: Report, comparison: Comparison) -> str:
    kinds = (
        ("regressed", comparison.regressed, True),
        ("still failing", comparison.still_failing, False),
        ("fixed", comparison.fixed, False),
        ("unchanged", comparison.unchanged, False),
    )
    buttons = "".join(
        f'<button data-kind="{kind.replace(" ", "-")}" aria-pressed="{str(opened).lower()}">{len(ids):,} {kind}</button>'
        for kind, ids, opened in kinds
    )
    sections = "".join(
        f'<section class="cases" id="{kind.replace(" ", "-")}"{"" if opened else " hidden"}>'
        f"{_case_list(kind, ids, candidate, baseline)}</section>"
        for kind, ids, opened in kinds
    )
    return f'<h2>Case by case, against the base</h2><p class="buttons">{buttons}</p>{sections}'


def _case_list(kind: str, ids: Sequence[str], candidate: Report, baseline: Report) -> str:
    if not ids:
        return f"<p>None {escape(kind)}.</p>"
    note = f"<p>The first {SHOWN_CASES} of {len(ids):,}; all are in cases.jsonl.</p>" if len(ids) > SHOWN_CASES else ""
    return note + "".join(_case(candidate.by_id[one], baseline.by_id[one]) for one in ids[:SHOWN_CASES])


def _case(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    prompt = "\n".join(f"{message['role']}: {message['content']}" for message in new["prompt"])
    broken = [*new["style"], *new["policy"], *new["flags"]]
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in broken)
    return (
        f'<article><header><code>{escape(new["case_id"][:12])}</code> {tags}</header><pre class="prompt">{_cut(prompt)}</pre>'
        f'<div class="three"><div><h4>expected</h4><pre>{_cut(new["expected"])}</pre></div>'
        f"<div><h4>base</h4><pre>{_cut(old['output'])}</pre></div>"
        f"<div><h4>this</h4><pre>{_cut(new['output'])}</pre></div></div></article>"
    )


def _slices(candidate: Report, baseline: Report, comparison: Comparison) -> str:
    if not comparison.slices:
        return ""
    tables = []
    for name, values in comparison.slices.items():
        rows = ""
        for value, (count, delta) in values.items():
            metric = candidate.summary["slices"][name][value]["metrics"][comparison.primary]
            before = baseline.summary["slices"][name][value]["metrics"][comparison.primary]
            rows += (
                f"<tr><td>{escape(value)}</td><td>{count:,}</td><td>{_percent(before)}</td><td><b>{_percent(metric)}</b></td>"
                f"<td>{_bar(before, metric)}</td><td>{delta * 100:+.1f}</td></tr>"
            )
        head = f"<tr><th>{escape(name)}</th><th>cases</th><th>base</th><th>this</th><th></th><th>points</th></tr>"
        tables.append(f"<table>{head}{rows}</table>")
    return f"<h2>Slices</h2><p>{escape(comparison.primary)}, exploratory: no gate rests on them.</p>{''.join(tables)}"


def _checks(candidate: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td>{escape(rule)}</td><td>{count:,}</td></tr>"
        for kind, rules in candidate.summary["broken"].items()
        for rule, count in rules.items()
    )
    if not rows:
        return "<h2>Broken rules</h2><p>No answer broke a rule of style, policy or operation.</p>"
    return f"<h2>Broken rules</h2><table><tr><th>kind</th><th>rule</th><th>answers</th></tr>{rows}</table>"


def _latency(candidate: Report, baseline: Report, champion: Report | None) -> str:
    reports = [("base", baseline), ("this", candidate), *([("champion", champion)] if champion else [])]
    names = list(candidate.latency)
    if not names:
        return ""
    head = "<tr><th>milliseconds</th>" + "".join(f"<th>{label}</th>" for label, _ in reports) + "</tr>"
    rows = ""
    for name in names:
        label = name.replace("seconds_per_token_median", "per token, median").replace("_", " ")
        cells = "".join(
            f"<td>{report.latency[name] * 1e3:,.1f}</td>" if name in report.latency else "<td>–</td>" for _, report in reports
        )
        rows += f"<tr><td>{escape(label)}</td>{cells}</tr>"
    note = "Measured in one batch on this machine: for comparison between the columns, not a promise."
    return f"<h2>Latency</h2><p>{note}</p><table>{head}{rows}</table>"


def _provenance(candidate: Report, baseline: Report, champion: Report | None) -> str:
    facts = [
        ("suite", candidate.suite),
        ("report", candidate.digest),
        ("subject", f"{candidate.subject['kind']} {candidate.subject['digest']}"),
        ("base's report", baseline.digest),
        *([("champion's report", champion.digest)] if champion else []),
        ("scorers", ", ".join(f"{name} v{version}" for name, version in candidate.scorers.items())),
        ("decoding", ", ".join(f"{name} {value}" for name, value in candidate.decoding.items())),
    ]
    rows = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>" for name, value in facts)
    return f"<h2>Where this comes from</h2><table>{rows}</table><footer>Report {short(candidate.digest)}</footer>"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f}"


def _change(metric: str, before: float | None, value: float | None) -> str:
    if before is None or value is None:
        return "–"
    points = (value - before) * 100
    better = points < 0 if metric in LESS_IS_BETTER else points > 0
    kind = "same" if abs(points) < 0.05 else "better" if better else "worse"
    return f'<span class="{kind}">{points:+.1f} {kind}</span>'


def _bar(before: float | None, value: float | None) -> str:
    """Draw base (outline) and this (filled) on a line from 0 to 100."""
    old, new = (100 * min(1.0, max(0.0, one or 0.0)) for one in (before, value))
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="new" width="{new:.1f}" height="8"/>'
        f'<rect class="old" x="{max(0.0, old - 0.8):.1f}" width="1.6" height="8"/></svg>'
    )


def _cut(text: str) -> str:
    shown = text.encode("utf-8", "replace").decode()
    if len(shown) <= SHOWN_CHARACTERS:
        return escape(shown)
    return f"{escape(shown[:SHOWN_CHARACTERS])}… <i>({len(shown):,} characters in all)</i>"
