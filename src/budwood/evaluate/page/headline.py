"""The first screen: what was decided, and the one comparison that it rests on."""

from budwood.evaluate.compare import Comparison
from budwood.evaluate.page.facts import Facts
from budwood.page.markup import figure, signed, text

SIGNS = {"PROMOTE": "✓", "REJECT": "✕", "INCONCLUSIVE": "?", "": "·"}
WORDS = {
    "PROMOTE": "The gate lets it go live.",
    "REJECT": "The gate holds it back.",
    "INCONCLUSIVE": "The evidence does not settle it.",
    "": "No gate has judged it yet; <code>budwood release</code> asks one.",
}


def headline(facts: Facts) -> str:
    sentences = "".join(f"<p>{_sentence(facts, against, one)}</p>" for against, one in facts.comparisons.items())
    kind = facts.verdict.lower() or "none"
    return f"""<section class="verdict {kind}">
<p class="decision"><span class="sign" aria-hidden="true">{SIGNS[facts.verdict]}</span>
<strong>{text(facts.verdict or "Not judged")}</strong> {WORDS[facts.verdict]}</p>
{sentences}{_unknown(facts)}{_reasons(facts)}
</section>"""


def _sentence(facts: Facts, against: str, compared: Comparison) -> str:
    now = facts.candidate.metrics[compared.primary]
    before = facts.others[against].metrics[compared.primary]
    delta = compared.delta
    up, down = ("fixed", "regressed") if compared.binary else ("better", "worse")
    chance = "" if compared.p is None else f"; exact McNemar p {_p(compared.p)}"
    return (
        f"<b>{text(compared.primary)}</b> {figure(now)} against the {against}’s {figure(before)}: "
        f"<b>{signed(delta.mean)}</b> [{signed(delta.low)}, {signed(delta.high)}] on {delta.n:,} cases in "
        f"{delta.groups:,} groups; {len(compared.fixed):,} {up}, {len(compared.regressed):,} {down}{chance}."
    )


def _p(p: float) -> str:
    return "&lt; 0.001" if p < 0.001 else f"{p:.3f}"


def _unknown(facts: Facts) -> str:
    unknown = max(len(compared.unknown) for compared in facts.comparisons.values())
    if not unknown:
        return ""
    cases = f"{unknown:,} of {len(facts.candidate.cases):,}"
    return f'<p class="warning">No {text(facts.primary)} score on both sides, so no evidence: {cases}.</p>'


def _reasons(facts: Facts) -> str:
    if not facts.reasons:
        return ""
    items = "".join(f"<li>{text(reason)}</li>" for reason in facts.reasons)
    return f"<details open><summary>What the gate looked at</summary><ul>{items}</ul></details>"
