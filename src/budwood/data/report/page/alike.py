"""Rows that repeat each other, and prompts that were answered differently."""

from budwood.data.report.clusters import MOST_MEMBERS, Cluster, Conflict
from budwood.data.report.make import Facts
from budwood.data.report.page.words import passage, place, plural, row
from budwood.data.rows import KeptRow, RejectedRow
from budwood.page.markup import text

OPEN = 2


def duplicates(facts: Facts) -> str:
    found = facts.found
    if not found.clusters:
        words = '<p class="hint">No row was dropped because another says the same.</p>'
        return f'<section id="duplicates"><h2>Duplicates</h2>{words}</section>'
    total = sum(found.cluster_sizes.values())
    bands = ", ".join(f"{count:,} of {band}" for band, count in found.cluster_sizes.items())
    shown = "all of them" if total == len(found.clusters) else f"the {len(found.clusters)} largest"
    cards = "".join(_cluster(facts, cluster, number < OPEN) for number, cluster in enumerate(found.clusters))
    return f"""<section id="duplicates"><h2>Duplicates</h2>
<p class="hint">{plural(total, "cluster")} of rows that say the same, by size: {bands}. Here are {shown}.</p>
{cards}</section>"""


def _cluster(facts: Facts, cluster: Cluster, opened: bool) -> str:
    rows = [facts.found.texts[one] for one in cluster.members if one in facts.found.texts]
    rows.sort(key=lambda one: (isinstance(one, RejectedRow), one.file, one.line))
    rows = rows[: MOST_MEMBERS + 1]
    first = " ".join(_first_words(rows[0]).split())[:120] if rows else ""
    more = cluster.size - len(rows)
    rest = f'<p class="hint">… and {plural(more, "more row")}.</p>' if more > 0 else ""
    members = "".join(_member(one) for one in rows)
    return f"""<details{" open" if opened else ""}><summary><b>{cluster.size:,} rows</b> {passage(first, 120)}</summary>
{members}{rest}</details>"""


def _first_words(one: KeptRow | RejectedRow) -> str:
    turns = [message for message in one.value.get("messages", ()) if message["role"] != "system"]
    return str(turns[0]["content"]) if turns else ""


def _member(one: KeptRow | RejectedRow) -> str:
    fate = f"dropped: {text(one.reason)}" if isinstance(one, RejectedRow) else f"kept, in {text(one.split)}"
    return f'<article class="example"><header>{place(one)} <span class="why">{fate}</span></header>{row(one)}</article>'


def conflicts(facts: Facts) -> str:
    policy = next((rule["options"].get("policy", "") for rule in facts.body["rules"] if rule["name"] == "conflict"), "")
    held = facts.found.conflicts
    if not held.prompts:
        words = "No prompt has two different answers."
        if policy == "keep":
            words = (
                'Prompts with several answers were kept with all of them, as the recipe says ([prepare] conflicts = "keep").'
            )
        return f'<section id="conflicts"><h2>Conflicts</h2><p class="hint">{words}</p></section>'
    shown = held.shown()
    which = "all of them" if len(shown) == len(held.prompts) else f"{len(shown)} of them"
    cards = "".join(_conflict(facts, one) for one in shown)
    return f"""<section id="conflicts"><h2>Conflicts</h2>
<p class="hint">{plural(len(held.prompts), "prompt")} with different answers; policy: {text(policy)}. Here are {which}.</p>
{cards}</section>"""


def _conflict(facts: Facts, conflict: Conflict) -> str:
    winner = facts.found.texts.get(conflict.winner or "")
    rows = [(row_id, answer, fate) for row_id, answer, fate in conflict.rows]
    if winner is not None:
        rows.insert(0, (winner.row_id, str(winner.value["messages"][-1]["content"]), "kept: the majority's"))
    items = "".join(
        f"<li><code>{text(row_id)}</code> <span class='why'>{text(fate)}</span><pre>{passage(answer, 200)}</pre></li>"
        for row_id, answer, fate in rows
    )
    more = conflict.count - len(conflict.rows)
    rest = f'<p class="hint">… and {plural(more, "more row")}.</p>' if more > 0 else ""
    return f'<article class="example"><pre>{passage(conflict.prompt, 300)}</pre><ul>{items}</ul>{rest}</article>'
