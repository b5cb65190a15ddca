"""Lengths with the context limit, and how often which answer or value occurs in which split."""

from collections import Counter
from collections.abc import Iterable, Sequence

from budwood.data.report.balance import MOST_COLUMNS, MOST_VALUES, Balance
from budwood.data.report.make import Facts
from budwood.data.report.page.words import plural, value
from budwood.page.charts import legend, share_bars
from budwood.page.markup import table, text

SPLITS = ("train", "validation", "test")
BINS = 14
MOST_ROWS = 100
OPEN_VALUES = 15


def lengths(facts: Facts) -> str:
    found = facts.found
    splits = [split for split in SPLITS if found.lengths.get(split)]
    if not splits:
        return ""
    unit = "tokens" if found.measured else "characters"
    limit = next((rule["options"].get("limit", 0) for rule in facts.body["rules"] if rule["name"] == "length"), 0)
    said = (
        _limit_words(found.lengths, limit)
        if found.measured
        else (
            "Characters of all messages: no tokenizer was at hand when this snapshot was made, so tokens were not counted and "
            "the context limit cannot be drawn in."
        )
    )
    rows = list(_bins(found.lengths, splits, limit if found.measured else 0, unit))
    quantiles = ([split, *(f"{one:,}" for one in _quantiles(found.lengths[split]))] for split in splits)
    return f"""<section id="lengths"><h2>Lengths in {unit}</h2><p class="hint">{said}</p>
{table(["split", "rows", "total", "shortest", "median", "90 %", "99 %", "longest"], quantiles)}
{legend(splits)}{table([unit, *splits, ""], rows)}</section>"""


def _limit_words(lengths: dict[str, Counter[int]], limit: int) -> str:
    longest = max(max(counts) for counts in lengths.values())
    after = "Tokens of a row after the base's template."
    if not limit:
        return f"{after} No limit is known."
    return f"{after} The limit is {limit:,}; the longest row that was kept has {longest:,}, {longest / limit:.0%} of it."


def _quantiles(counts: Counter[int]) -> list[int]:
    rows, total = counts.total(), sum(length * many for length, many in counts.items())
    ordered = sorted(counts.items())
    found = []
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        seen = 0
        for length, many in ordered:
            seen += many
            if seen > share * (rows - 1):
                found.append(length)
                break
    return [rows, total, *found]


def _bins(lengths: dict[str, Counter[int]], splits: Sequence[str], limit: int, unit: str) -> Iterable[list[str]]:
    """Rows of equal bins up to the longest; the limit is a row of its own, at its place or behind the last."""
    longest = max(max(lengths[split]) for split in splits)
    width = _round_up(longest / BINS)
    counted = {split: Counter(length // width for length in lengths[split].elements()) for split in splits}
    last = longest // width
    totals = {split: lengths[split].total() for split in splits}
    peak = max(counted[split][one] / totals[split] for split in splits for one in range(last + 1))
    mark = [f'<span class="limit">context limit {limit:,} {unit}</span>', *("" for _ in splits), '<span class="rule"></span>']
    drawn = not limit
    for one in range(last + 1):
        if not drawn and limit < (one + 1) * width:
            drawn = True
            yield mark
        shares = [(split, counted[split][one] / totals[split]) for split in splits]
        cells = [f"{counted[split][one]:,}" if counted[split][one] else "·" for split, _ in shares]
        yield [
            f"{one * width:,} – {(one + 1) * width - 1:,}",
            *cells,
            share_bars([(s, v / peak) for s, v in shares], width=220),
        ]
    if not drawn:
        yield mark


def _round_up(width: float) -> int:
    """Give the next of 1, 2, 5, 10, 20, 50 and so on."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step >= width:
                return factor * step
        step *= 10


def balance(facts: Facts) -> str:
    found = facts.found
    parts = []
    if found.answers.tells:
        parts.append(_balance(facts, "answer", found.answers, opened=True))
    for kind, columns in (("answer field", found.fields), ("column", found.slices)):
        parts += [_balance(facts, f"{kind} {name}", one) for name, one in sorted(columns.by_name.items()) if one.tells]
    texts = sorted(name for columns in (found.fields, found.slices) for name, one in columns.by_name.items() if not one.tells)
    left = len(found.fields.left_out) + len(found.slices.left_out)
    notes = (
        f'<p class="hint">Not counted, since nearly every row has its own value, or all one: {_names(texts)}.</p>'
        if texts
        else ""
    )
    notes += f'<p class="hint">Only the first {MOST_COLUMNS} columns were counted; {left:,} more were not.</p>' if left else ""
    hint = f"How often each value occurs, where there are at most {MOST_VALUES}. Bars: share of the split."
    body = "".join(parts) or '<p class="hint">Answers are texts of their own, and no column has values that come back.</p>'
    return f'<section id="balance"><h2>Balance</h2><p class="hint">{hint}</p>{body}{notes}</section>'


def _names(names: Sequence[str]) -> str:
    return ", ".join(value(name) for name in names[:MOST_COLUMNS])


def _balance(facts: Facts, title: str, one: Balance, *, opened: bool = False) -> str:
    splits = [split for split in SPLITS if facts.body["counts"][split]]
    totals = one.totals()
    ordered = sorted(one.counts.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    peak = max(count[split] / totals[split] for count in one.counts.values() for split in splits if totals[split])
    absent = sum(not count[split] for count in one.counts.values() for split in splits)
    rows = (
        [
            value(name) + _gaps(count, splits),
            *(f"{count[split]:,}" for split in splits),
            share_bars(
                [(split, count[split] / totals[split] / peak if totals[split] else None) for split in splits], width=160
            ),
        ]
        for name, count in ordered[:MOST_ROWS]
    )
    most, least = ordered[0][1].total(), ordered[-1][1].total()
    gaps = f", {plural(absent, 'gap')}" if absent else ", every value in every split"
    more = f'<p class="hint">The {MOST_ROWS} most frequent are shown.</p>' if len(ordered) > MOST_ROWS else ""
    summary = f"<b>{value(title)}</b> {len(ordered):,} values, {least:,} to {most:,} rows each{gaps}"
    state = " open" if opened or len(ordered) <= OPEN_VALUES else ""
    return f"<details{state}><summary>{summary}</summary>{legend(splits)}{table(['value', *splits, ''], rows)}{more}</details>"


def _gaps(count: Counter[str], splits: Sequence[str]) -> str:
    return "".join(f' <span class="chip fault">none in {text(split)}</span>' for split in splits if not count[split])
