"""The first screen: what was read, what was kept, what each rule did."""

from collections.abc import Mapping
from typing import Any

from budwood.data.report.make import Facts
from budwood.data.report.page.words import plural
from budwood.page.charts import legend, stacked_bar
from budwood.page.markup import table, text

ROLES = {"auto": "split by hash", "train": "never test", "test": "published test file"}
SPLITS = ("train", "validation", "test")


def headline(facts: Facts) -> str:
    counts, groups = facts.body["counts"], facts.body["groups"]
    read = counts["read"]
    parts = [(name, counts[name] / read) for name in (*SPLITS, "rejected")] if read else []
    rows = (
        [
            name,
            f"{counts[name]:,}",
            f"{counts[name] / read:.1%}" if read else "–",
            f"{groups[name]:,}" if name in SPLITS else "–",
        ]
        for name in (*SPLITS, "rejected")
    )
    largest = f"{groups['count']:,} groups, the largest of {plural(groups['largest'], 'row')}."
    by = (
        f', rows of the same prompt or of the same "{text(groups["by"])}"'
        if groups.get("by")
        else " and rows of the same prompt"
    )
    onto = f" Rows of snapshot {text(facts.body['onto'][:12])} kept their splits." if facts.body.get("onto") else ""
    notes = "".join(f'<p class="warning">{text(note)}</p>' for note in groups.get("notes", ()))
    sizes = ", ".join(f"{count:,} of {band}" for band, count in facts.found.group_sizes.items())
    return f"""<section class="flow"><p class="lead"><strong>{read:,}</strong> read =
<strong>{counts["kept"]:,}</strong> kept + <strong>{counts["rejected"]:,}</strong> rejected</p>
{stacked_bar(parts)}{legend([name for name, share in parts if share])}
{table(["", "rows", "share of read", "groups"], rows)}
<p class="hint">Near-duplicates{by} form a group, and a group lies in one split: {largest} Groups by their number of rows:
{text(sizes or "none")}.{onto}</p>{notes}{_first(facts)}</section>"""


def _first(facts: Facts) -> str:
    """Say what a reader should not have to scroll for."""
    counts, found = facts.body["counts"], facts.found
    said = [text(one.sentence) for one in facts.comparisons]
    if counts["read"] and counts["rejected"]:
        by = sorted(facts.body["rejected_by"].items(), key=lambda one: (-one[1], one[0]))[:3]
        said.append("Most rows were dropped by " + ", ".join(f"{_link(name)} ({count:,})" for name, count in by) + ".")
    if found.conflicts.prompts:
        many = plural(len(found.conflicts.prompts), "prompt")
        said.append(f'<a href="#conflicts">{many} with different answers</a>.')
    if found.answers.tells:
        for split in SPLITS:
            gone = [name for name, count in found.answers.counts.items() if not count[split]]
            if gone and counts[split]:
                said.append(
                    f'<a href="#balance">{plural(len(gone), "answer")} of {len(found.answers.counts):,}</a> not in {split}.'
                )
    return f"<ul>{''.join(f'<li>{one}</li>' for one in said)}</ul>" if said else ""


def sources(facts: Facts) -> str:
    mapped = {one.path: dict(one.columns) for one in facts.recipe.source} if facts.recipe else {}
    cards = "".join(_source(one, mapped.get(one["path"], one.get("columns") or {})) for one in facts.body["sources"])
    return f'<section id="read"><h2>What was read</h2><div class="columns">{cards}</div></section>'


def _source(source: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    mapping = ", ".join(f"{part} ← {column}" for part, column in columns.items()) if source["shape"] == "columns" else ""
    packed = f", {source['compression']}" if source["compression"] else ""
    pairs = [
        ("rows", f"{source['rows']:,}" + (f", {source['malformed']:,} of them unreadable" if source["malformed"] else "")),
        ("container", f"{source['layout']}{packed}, {source['encoding']}, {source['size']:,} bytes"),
        ("rows as", source["shape"]),
        ("columns", mapping),
        ("slices", ", ".join(source["slices"])),
        ("left out", ", ".join(source["left_out"])),
        ("role", ROLES.get(source["split"], source["split"])),
        ("weight", f"{source['weight']:g}" if source["weight"] != 1 else ""),
        *((name, source[name] or "not stated") for name in ("origin", "licence", "cleaning", "labelling")),
        ("sha256", source["sha256"]),
    ]
    items = "".join(f"<dt>{text(key)}</dt><dd>{text(said)}</dd>" for key, said in pairs if said)
    return f"<div><h3>{text(source['path'])}</h3><dl>{items}</dl></div>"


def rules(facts: Facts) -> str:
    """Every rule with what it did; those that did nothing are named in a line."""
    entries = facts.body["rules"]
    verbs = ("changed", "dropped", "flagged")
    busy = [rule for rule in entries if any(rule[verb] for verb in verbs)]
    idle = [rule["name"] for rule in entries if rule not in busy]
    rows = ([_link(rule["name"]), f"v{rule['version']}", *(f"{rule[v]:,}" if rule[v] else "·" for v in verbs)] for rule in busy)
    rest = f'<p class="hint">At work and found nothing: {text(", ".join(idle))}.</p>' if idle else ""
    body = table(["rule", "version", *verbs], rows) if busy else '<p class="hint">No rule touched a row.</p>'
    return f"""<section id="rules"><h2>What the rules did</h2>
<p class="hint">Changed and flagged count kept rows, dropped counts rejected ones.</p>{body}{rest}</section>"""


def _link(name: str) -> str:
    return f'<a href="#rule-{text(name)}">{text(name)}</a>'
