"""Does the held-out set mirror what it stands for? Samples of prompts compared, in plain words first."""

from collections.abc import Mapping, Sequence

from budwood.data.report.balance import missing
from budwood.data.report.gather import PROMPTS
from budwood.data.report.make import Facts
from budwood.data.report.mirror import LONGEST, Comparison, Term
from budwood.data.report.page.words import passage, plural, value
from budwood.data.report.production import PRODUCTION
from budwood.page.charts import interval_bar, share_bars
from budwood.page.markup import table, text
from budwood.stats.two_sample import Untestable

SHARE = 0.01
MOST_VALUES = 12


def mirrors(facts: Facts) -> str:
    how = (
        f"A classifier (logistic regression on hashed n-grams of words and characters) is asked from which of the two a prompt "
        f"comes, about prompts whose group it has not seen. AUC 0.5 is chance, 1 is always right; in brackets the interval "
        f"that holds the true value in 95 of 100 such tests. Up to {PROMPTS:,} prompts of each side, {LONGEST:,} "
        f"characters of each."
    )
    parts = "".join(_comparison(facts, one) for one in facts.comparisons)
    if not parts:
        parts = '<p class="hint">There is no held-out split to compare.</p>'
    if facts.production is None:
        parts += (
            '<p class="hint">Whether the held-out set mirrors production was not looked at: give a log of prompts with '
            "<code>--production logs.jsonl</code>.</p>"
        )
    return f'<section id="mirror"><h2>Does the held-out set mirror…</h2>{parts}<p class="hint">{how}</p></section>'


def _comparison(facts: Facts, one: Comparison) -> str:
    title = f"… {one.second}?" if one.second == PRODUCTION else f"… {one.first}? {one.second} against {one.first}"
    sizes = ", ".join(
        f"{plural(size, 'prompt')} of {name} (median {length:,.0f} characters)"
        for name, size, length in zip((one.first, one.second), one.sizes, one.lengths, strict=True)
    )
    unread = ""
    if one.second == PRODUCTION and facts.production is not None:
        unread = f" {plural(facts.production.read, 'record')} read from {text(facts.production.file)}"
        unread += f", {facts.production.unusable:,} without a prompt." if facts.production.unusable else "."
    return f"""<article class="mirror"><h3>{text(title)}</h3>{_verdict(one)}
<p class="hint">{text(sizes)}.{unread}</p>{_terms(one)}{_apart(one)}{_missing(facts, one)}</article>"""


def _verdict(one: Comparison) -> str:
    if isinstance(one.found, Untestable):
        return f"<p>{text(one.sentence)}</p>"
    auc, accuracy = one.found.auc, one.found.accuracy
    kind = "worse" if one.found.differ else "better"
    # An interval below chance says no more than one around it: that nothing was found.
    bar = interval_bar(auc.mean - 0.5, auc.low - 0.5, auc.high - 0.5, reach=0.5, better=None if kind == "better" else False)
    told = f"{accuracy.mean:.0%} [{accuracy.low:.0%}, {accuracy.high:.0%}] put on the right side, where 50% is chance."
    sign = "≠" if one.found.differ else "≈"
    return f"""<p class="said"><span class="word {kind}">{sign}</span> {text(one.sentence)}</p>
<div class="scale">{bar}<small>AUC 0 … 1, chance in the middle. {text(told)}</small></div>"""


def _terms(one: Comparison) -> str:
    if isinstance(one.found, Untestable) or not one.found.differ or not any(one.terms):
        return ""
    halves = "".join(
        f"<div><h4>more in {text(name)}</h4>{_table(one, terms)}</div>"
        for name, terms in zip((one.second, one.first), one.terms[::-1], strict=True)
    )
    return f'<div class="columns n2">{halves}</div>'


def _table(one: Comparison, terms: Sequence[Term]) -> str:
    peak = max((max(term.first, term.second) for term in terms), default=1.0)
    rows = (
        [
            value(term.text),
            f"{term.second:.1%}",
            f"{term.first:.1%}",
            f"{term.weight:+.2f}".replace("-", "\u2212"),
            share_bars([(one.second, term.second / peak), (one.first, term.first / peak)], width=80),
        ]
        for term in terms
    )
    return table(["term", f"of {text(one.second)}", f"of {text(one.first)}", "weight", ""], rows)


def _apart(one: Comparison) -> str:
    if not one.apart:
        return ""
    items = "".join(f"<li><pre>{passage(prompt, 300)}</pre></li>" for prompt in one.apart)
    title = f"Prompts of {text(one.second)} that look least like {text(one.first)}"
    return f"<details><summary>{title}</summary><ul>{items}</ul></details>"


def _missing(facts: Facts, one: Comparison) -> str:
    """Say which values of one side the other has none of."""
    found = facts.found
    if one.second == PRODUCTION and facts.production is not None:
        both = sorted(found.slices.by_name.keys() & facts.production.slices.by_name.keys())
        pairs = {name: (facts.production.slices.by_name[name], found.slices.by_name[name]) for name in both}
        there, here = PRODUCTION, one.first
        if not both:
            return '<p class="hint">The log has no column in common with the rows, so no slice could be compared.</p>'
    else:
        columns = {"answer": found.answers} if found.answers.tells else {}
        columns |= {name: balance for name, balance in found.slices.by_name.items() if balance.tells}
        pairs = {name: (balance, balance) for name, balance in sorted(columns.items())}
        there, here = one.first, one.second
    gone = {name: missing(a, there, b, here, SHARE) for name, (a, b) in pairs.items()}
    items = "".join(f"<li>{value(name)}: {_values(values)}</li>" for name, values in gone.items() if values)
    if not items:
        return (
            f'<p class="hint">No value that makes up a hundredth of {text(there)} is missing in {text(here)}.</p>'
            if pairs
            else ""
        )
    return f"<p>Missing in {text(here)}, with their share of {text(there)}:</p><ul>{items}</ul>"


def _values(values: Mapping[str, float]) -> str:
    named = ", ".join(f"{value(name)} ({share:.1%})" for name, share in list(values.items())[:MOST_VALUES])
    more = len(values) - MOST_VALUES
    return named + (f" and {more:,} more" if more > 0 else "")
