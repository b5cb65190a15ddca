"""Rows of each rule: before and after, dropped, flagged."""

from collections.abc import Iterable

from budwood.data.report.changes import Change
from budwood.data.report.gather import EXAMPLES
from budwood.data.report.make import Facts
from budwood.data.report.page.words import LONGEST, place, row
from budwood.data.rows import KeptRow, RejectedRow
from budwood.page.markup import marked, text

MOST_RULES = 40


def examples(facts: Facts) -> str:
    busy = [rule for rule in facts.body["rules"] if rule["changed"] or rule["dropped"] or rule["flagged"]][:MOST_RULES]
    if not busy:
        return ""
    notes = "".join(f'<p class="hint">{text(note)}</p>' for note in facts.changes.notes)
    covered = "Personal data is covered in what stood before, and redacted in all else."
    parts = "".join(_rule(facts, rule["name"], place == 0) for place, rule in enumerate(busy))
    return f"""<section id="examples"><h2>Examples by rule</h2>
<p class="hint">Up to {EXAMPLES} rows of a kind, sampled. {covered}</p>{notes}{parts}</section>"""


def _rule(facts: Facts, name: str, opened: bool) -> str:
    (rule,) = [one for one in facts.body["rules"] if one["name"] == name][:1]
    did = ", ".join(f"{rule[verb]:,} {verb}" for verb in ("changed", "dropped", "flagged") if rule[verb])
    changes = facts.changes.by_rule.get(name, ())
    parts = [
        *map(_change, changes),
        *([] if changes or not rule["changed"] else _rows(list(facts.found.changed.get(name, ()))[:EXAMPLES], name, "changed")),
        *_dropped(facts.found.dropped.get(name, ())),
        *_rows(facts.found.flagged.get(name, ()), name, "flagged"),
    ]
    return f"""<details id="rule-{text(name)}"{" open" if opened else ""}><summary><b>{text(name)}</b> {did}</summary>
{"".join(parts) or '<p class="hint">No row of it can be shown.</p>'}</details>"""


def _change(change: Change) -> str:
    before, after = _window(change.before, change.after), _window(change.after, change.before)
    return f"""<article class="example"><header>{place(change.row)} <span class="why">{text(change.reason)}</span></header>
<div class="columns n2"><div><h4>before</h4><pre>{marked(before, after, "wrong")}</pre></div>
<div><h4>after</h4><pre>{marked(after, before, "missed")}</pre></div></div></article>"""


def _window(value: str, other: str) -> str:
    """Cut a long text to where it begins to differ from the other."""
    if len(value) <= LONGEST:
        return value
    same = next((i for i, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), min(len(value), len(other)))
    start = max(0, same - 80)
    return ("…" if start else "") + value[start : start + LONGEST] + ("…" if start + LONGEST < len(value) else "")


def _dropped(rows: Iterable[RejectedRow]) -> Iterable[str]:
    for one in rows:
        yield _article(place(one), f"dropped: {text(one.reason)}", row(one))


def _rows(rows: Iterable[KeptRow], name: str, kind: str) -> Iterable[str]:
    for one in rows:
        reason = next(touch.reason for touch in one.touched if touch.rule == name and touch.kind == kind)
        yield _article(place(one), f"{kind}: {text(reason)}", row(one))


def _article(where: str, why: str, body: str) -> str:
    return f'<article class="example"><header>{where} <span class="why">{why}</span></header>{body}</article>'
