"""Metrics, slices, rules, times and provenance."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from budwood.evaluate.page.facts import Facts
from budwood.evaluate.report import Report
from budwood.evaluate.summary import FLAGS, higher_is_better
from budwood.page.charts import interval_bar, share_bars
from budwood.page.markup import figure, signed, table, text
from budwood.stats import Interval

MOST_SLICES = 200
OPEN_SLICES = 12
KINDS = {True: ("better", "✓", "better"), False: ("worse", "✕", "worse"), None: ("open", "·", "not settled")}
"""Class, sign and word of a change: colour alone says nothing to many."""


def metric_tables(facts: Facts) -> str:
    """Accuracy first, then faults: each with its own axis, since they are of different size."""
    names = sorted(facts.candidate.metrics, key=lambda name: (name != facts.primary, name in FLAGS, name))
    scores = [name for name in names if higher_is_better(name, facts.candidate.scorers)]
    faults = [name for name in names if name not in scores]
    key = "✓ better, ✕ worse, · not settled: the interval holds zero."
    return (
        f'<section><h2>Accuracy</h2><p class="hint">Means of 0 to 1, higher is better. {key}</p>'
        f"{_metrics(facts, scores)}</section>"
        f'<section><h2>Faults</h2><p class="hint">Shares of cases, lower is better.</p>'
        f"{_metrics(facts, faults)}{_rules(facts)}</section>"
    )


def field_table(facts: Facts) -> str:
    """Shares of right fields, where answers are JSON objects."""
    fields = facts.candidate.summary["fields"]
    if not fields:
        return ""
    rows = (
        [text(name), *(figure(one.summary["fields"].get(name)) for one in _all(facts)), _shares(facts, "fields", name)]
        for name in fields
    )
    return f"<section><h2>Fields of the answers</h2>{table(['field', *_who(facts), ''], rows)}</section>"


def slice_tables(facts: Facts) -> str:
    """The primary metric in each slice, worst change first. Exploratory: no interval, many looks."""
    slices = facts.candidate.summary["slices"]
    if not slices:
        return ""
    parts = "".join(_slice(facts, name) for name in slices)
    hint = f"{text(facts.primary)} by slice, worst change first. Exploratory: with many slices some move by chance."
    return f'<section><h2>Slices</h2><p class="hint">{hint}</p>{parts}</section>'


def time_table(facts: Facts) -> str:
    labels = {
        "seconds_per_token_median": ("time per token, median", 1000, "ms"),
        "first_token_p50": ("first token, median", 1, "s"),
        "total_p50": ("whole answer, median", 1, "s"),
        "total_p95": ("whole answer, 95 %", 1, "s"),
    }
    rows = [
        [label, *(_time(one.latency.get(key), factor, unit) for one in _all(facts))]
        for key, (label, factor, unit) in labels.items()
    ]
    rows.append(["throughput", *(_time(one.throughput, 1, "tokens/s") for one in _all(facts))])
    hint = (
        "Measured while all cases were answered in batches, waiting for a place in the batch included; only the time per "
        "token is without it. Times are of the machine that evaluated and no part of the report’s digest."
    )
    return f'<section><h2>Times</h2><p class="hint">{hint}</p>{table(["", *_who(facts)], rows)}</section>'


def provenance(facts: Facts) -> str:
    one = facts.candidate
    compared = facts.comparisons["base"]
    pairs = [
        ("report", one.digest),
        ("subject", f"{one.subject['kind']} {one.subject['digest']}"),
        ("suite", one.suite),
        *(("snapshot", parent) for parent in one.parents if parent != one.subject["digest"]),
        *((f"report of the {name}", report.digest) for name, report in facts.others.items()),
        *((f"subject of the {name}", report.subject["digest"]) for name, report in facts.others.items()),
        ("held as", ", ".join(str(value) for key, value in one.subject.items() if key not in ("kind", "digest"))),
        ("decoding", ", ".join(f"{key} {value}" for key, value in one.decoding.items())),
        ("scorers", ", ".join(f"{key} v{value}" for key, value in one.scorers.items())),
        (
            "intervals",
            f"paired bootstrap by group, {compared.resamples:,} resamples, seed {compared.seed}, each bound one-sided at "
            f"{compared.alpha:g}; where nothing got worse (or better), the unseen share of about 3/n is added",
        ),
    ]
    items = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in pairs if value)
    return f"<section><h2>Where this comes from</h2><dl>{items}</dl></section>"


def _metrics(facts: Facts, names: Sequence[str]) -> str:
    reaches = {against: _reach(compared.deltas, names) for against, compared in facts.comparisons.items()}
    changes = [
        f"change against the {against} <small>axis −{reach:.2g} … +{reach:.2g}</small>" for against, reach in reaches.items()
    ]
    return table(["metric", "cases", *_who(facts), *changes], (_metric(facts, name, reaches) for name in names))


def _reach(deltas: Mapping[str, Interval], names: Sequence[str]) -> float:
    """Where the axis ends: the widest bound of these metrics."""
    bounds = [abs(bound) for name in names if name in deltas for bound in (deltas[name].low, deltas[name].high)]
    return max([*bounds, 1e-3])


def _metric(facts: Facts, name: str, reaches: Mapping[str, float]) -> Iterable[str]:
    title = f"<b>{text(name)}</b>" if name == facts.primary else text(name)
    yield title + (' <span class="chip">decides</span>' if name == facts.primary else "")
    yield f"{facts.candidate.summary['applies'].get(name, 0):,}"
    yield from (figure(one.metrics.get(name)) for one in _all(facts))
    for against, reach in reaches.items():
        yield _change(facts, name, against, reach)


def _change(facts: Facts, name: str, against: str, reach: float) -> str:
    delta = facts.comparisons[against].deltas.get(name)
    if delta is None:
        return "–"
    better = facts.better(name, against)
    kind, sign, word = KINDS[better]
    return (
        f'<div class="change">{interval_bar(delta.mean, delta.low, delta.high, reach=reach, better=better)}'
        f'<span class="word {kind}" title="{word}">{sign}</span>'
        f"<span>{signed(delta.mean)} <small>[{signed(delta.low)}, {signed(delta.high)}]</small></span></div>"
    )


def _rules(facts: Facts) -> str:
    rows = [
        [text(rule), kind, *(f"{one.summary['broken'][kind].get(rule, 0):,}" for one in _all(facts))]
        for kind in ("style", "policy")
        for rule in sorted({rule for one in _all(facts) for rule in one.summary["broken"][kind]})
    ]
    if not rows:
        return '<p class="hint">No style or policy rule was broken by anyone.</p>'
    return f"<h3>Broken rules, in cases</h3>{table(['rule', 'kind', *_who(facts)], rows, numbers_from=2)}"


def _slice(facts: Facts, name: str) -> str:
    changes = list(facts.comparisons.values())[-1].slices.get(name, {})
    values = sorted(changes, key=lambda value: (changes[value][1], value))
    shown = values[:MOST_SLICES]
    rows = (
        [
            text(value),
            f"{changes[value][0]:,}",
            *(figure(_in_slice(one, name, value, facts.primary)) for one in _all(facts)),
            *(signed(one.slices[name][value][1]) for one in facts.comparisons.values()),
            share_bars(
                [(who, _in_slice(one, name, value, facts.primary)) for who, one in zip(_who(facts), _all(facts), strict=True)]
            ),
        ]
        for value in shown
    )
    head = [text(name), "cases", *_who(facts), *(f"against the {against}" for against in facts.comparisons), ""]
    more = f'<p class="hint">The first {MOST_SLICES} of {len(values):,} values.</p>' if len(values) > MOST_SLICES else ""
    opened = " open" if len(values) <= OPEN_SLICES else ""
    return f"<details{opened}><summary>{text(name)}: {len(values):,} values</summary>{more}{table(head, rows)}</details>"


def _in_slice(report: Report, name: str, value: str, metric: str) -> float | None:
    inside: dict[str, Any] = report.summary["slices"].get(name, {}).get(value, {})
    found: float | None = inside.get("metrics", {}).get(metric)
    return found


def _shares(facts: Facts, key: str, name: str) -> str:
    return share_bars([(who, one.summary[key].get(name)) for who, one in zip(_who(facts), _all(facts), strict=True)])


def _all(facts: Facts) -> list[Report]:
    return [*facts.others.values(), facts.candidate]


def _who(facts: Facts) -> list[str]:
    return [*facts.others, "this"]


def _time(value: float | None, factor: float, unit: str) -> str:
    return "–" if value is None else f"{value * factor:,.1f} {unit}"
