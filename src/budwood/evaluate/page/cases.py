"""The cases: what was asked, what was expected, what came out before and now; filters that count what got worse first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from budwood.evaluate.compare import Record
from budwood.evaluate.page.facts import Facts
from budwood.identity import short
from budwood.page.markup import clipped, figure, marked, text
from budwood.tool_calls import canonical_text, shown

BUDGET_BYTES = 3_500_000
"""Size of all cards together, so that a page of any suite stays below 5 MB."""
FOLDED_PROMPT = 600


@dataclass(frozen=True)
class Filter:
    """A button: the cases that it shows, and how many of them the page has room for."""

    key: str
    title: str
    ids: Sequence[str]
    most: int


def case_list(facts: Facts) -> str:
    filters = [one for one in _filters(facts) if one.ids or one.key == "regressed-base"]
    inside: dict[str, list[str]] = {}
    for one in filters:
        for case_id in one.ids:
            inside.setdefault(case_id, []).append(one.key)
    cards = _cards(facts, filters, inside)
    opened = _opened(filters)
    buttons = "".join(_button(one, one.key == opened) for one in filters)
    notes = "".join(_note(one, sum(case_id in cards for case_id in one.ids), facts) for one in filters)
    return f"""<section id="cases" data-open="{opened}"><h2>Case by case</h2>
<div class="filters">{buttons}
<input id="find" type="search" placeholder="find in these cases" aria-label="find in these cases"></div>
{notes}<p class="hint" id="found" aria-live="polite"></p>
{"".join(cards.values())}</section>"""


def _opened(filters: Sequence[Filter]) -> str:
    """What got worse, else what is still wrong, else what there is."""
    full = [one.key for one in filters if one.ids]
    for wanted in ("regressed", "failing", ""):
        for key in full:
            if key.startswith(wanted):
                return key
    return filters[0].key


def _filters(facts: Facts) -> list[Filter]:
    filters: list[Filter] = []
    for against in list(facts.comparisons)[::-1]:
        compared = facts.comparisons[against]
        down, up = ("Regressed", "Fixed") if compared.binary else ("Worse", "Better")
        filters += [
            Filter(f"regressed-{against}", f"{down} against the {against}", compared.regressed, 400),
            Filter(f"fixed-{against}", f"{up} against the {against}", compared.fixed, 150),
        ]
    base = facts.comparisons["base"]
    broken = [case["case_id"] for case in facts.candidate.cases if _broken(case)]
    return [
        *filters,
        Filter("failing", "Still failing", base.still_failing, 250),
        Filter("broken", "With faults", broken, 150),
        Filter("unknown", "Unknown", base.unknown, 50),
        Filter("unchanged", "Right before and now", base.unchanged, 50),
    ]


def _cards(facts: Facts, filters: Sequence[Filter], inside: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Render cards in the order of the filters until each has its number or the room is used up."""
    cards: dict[str, str] = {}
    room = BUDGET_BYTES
    for one in filters:
        for case_id in one.ids[: one.most]:
            if case_id in cards:
                continue
            card = _card(facts, case_id, inside[case_id])
            room -= len(card.encode("utf-8"))
            if room < 0:
                return cards
            cards[case_id] = card
    return cards


def _card(facts: Facts, case_id: str, filters: Sequence[str]) -> str:
    case = facts.candidate.by_id[case_id]
    olds = {name: report.by_id[case_id] for name, report in facts.others.items()}
    columns = [f"<div><h4>expected</h4><pre>{marked(case['expected'], case['output'], 'missed')}</pre></div>"]
    columns += [_answer(name, old, facts.primary, clipped(old["output"])) for name, old in olds.items()]
    columns.append(_answer("this", case, facts.primary, marked(case["output"], case["expected"], "wrong")))
    slices = "".join(f'<span class="chip">{text(key)}: {text(value)}</span>' for key, value in case["slices"].items())
    return f"""<article class="case" data-in="{" ".join(filters)}"><header><code>{text(short(case_id))}</code>{slices}</header>
{_prompt(case)}<div class="columns n{len(columns)}">{"".join(columns)}</div></article>
"""


def _answer(name: str, case: Record, primary: str, shown: str) -> str:
    score = case["scores"].get(primary)
    kind = "open" if score is None else "better" if score >= 1 else "worse"
    sign = {"open": "?", "better": "✓", "worse": "✕"}[kind]
    faults = "".join(f'<span class="chip fault">{text(fault)}</span>' for fault in _broken(case))
    return f'<div><h4>{text(name)} <span class="word {kind}">{sign} {figure(score)}</span></h4><pre>{shown}</pre>{faults}</div>'


def _prompt(case: Record) -> str:
    messages = [f"<b>{text(message['role'])}</b> {clipped(shown(message))}" for message in case["prompt"]]
    if "tools" in case:
        messages.insert(0, f"<b>tools</b> {clipped(canonical_text(case['tools']))}")
    whole = "\n".join(messages)
    last = shown(case["prompt"][-1])
    if len(messages) == 1 and len(last) <= FOLDED_PROMPT:
        return f'<pre class="prompt">{clipped(last)}</pre>'
    first = text(" ".join(last.split())[:160])
    return f'<details class="prompt"><summary>{first}</summary><pre>{whole}</pre></details>'


def _broken(case: Record) -> list[str]:
    return [*case["style"], *case["policy"], *(["schema"] if case["schema_ok"] is False else []), *case["flags"]]


def _button(one: Filter, pressed: bool) -> str:
    state = f'data-show="{one.key}" aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" {state}><b>{len(one.ids):,}</b> {one.title}</button>'


def _note(one: Filter, shown: int, facts: Facts) -> str:
    words = "No case here."
    if one.ids:
        rest = f" All are in cases.jsonl of report {short(facts.candidate.digest)}." if shown < len(one.ids) else ""
        words = f"{one.title}: {shown:,} of {len(one.ids):,} shown.{rest}"
    return f'<p class="hint note" data-note="{one.key}">{words}</p>'
