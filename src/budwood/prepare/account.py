"""What a snapshot says of how it was made: settings, what each rule did, and what not to overlook in the figures."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from budwood.identity import digest_json
from budwood.prepare.columns import READ
from budwood.prepare.rules.build import OF_RULES
from budwood.prepare.rules.length import TEMPLATE
from budwood.prepare.rules.rule import Rule
from budwood.prepare.separate import OPERATIONS
from budwood.prepare.snapshot import Tally
from budwood.prepare.vectors import Embed
from budwood.recipe import PrepareSection
from budwood.text.near.walk import LONGEST


class Outcome(Protocol):
    """What separating rows came to; see `Separated`."""

    @property
    def groups(self) -> Mapping[str, int]: ...

    @property
    def crowded(self) -> int: ...

    @property
    def looks_alone(self) -> int: ...


def settings(section: PrepareSection) -> dict[str, Any]:
    """What a snapshot says of how it was made; what came later is left out where it changes nothing, so that names stay."""
    values = section.model_dump(mode="json", exclude={"rules", "answer_schema", "strict", *OF_RULES})
    if values["supervise"] == "all":
        del values["supervise"]
    if not section.semantic.model:
        del values["semantic"]
    if not section.benchmarks:
        values = {key: value for key, value in values.items() if key != "benchmarks" and "contamination" not in key}
    return values


def account(rules: Sequence[Rule], tallied: Tally, section: PrepareSection, embed: Embed | None) -> list[dict[str, Any]]:
    """Count what each rule did; changed and flagged count kept rows, dropped counts rejected ones."""
    options: dict[str, dict[str, Any]] = {
        "conflict": {"policy": section.conflicts},
        "exact_duplicate": {},
        "near_duplicate": {"threshold": section.near_duplicate},
        "leak": {},
    }
    if embed is not None:
        options["semantic_duplicate"] = section.semantic.model_dump(mode="json") | {"identity": digest_json(embed.identity)}
    entries: list[tuple[str, int, dict[str, Any]]] = [(READ, 1, {"max_malformed": section.max_malformed})]
    entries += [(rule.name, rule.version, rule.options()) for rule in rules]
    if tallied.rejected.get(TEMPLATE):
        entries.append((TEMPLATE, 1, {}))
    entries += [(name, version, options[name]) for name, version in OPERATIONS.items() if name in options]
    return [
        {
            "name": name,
            "version": version,
            "options": chosen,
            "changed": tallied.touched.get((name, "changed"), 0),
            "dropped": tallied.rejected.get(name, 0),
            "flagged": tallied.touched.get((name, "flagged"), 0),
        }
        for name, version, chosen in entries
    ]


def notes(result: Outcome, tallied: Tally, section: PrepareSection) -> list[str]:
    """Say what a reader of the figures should not overlook."""
    notes = []
    splits = tallied.splits
    if section.validation and not splits["validation"]:
        notes.append("No group fell into validation: there are too few groups for its share.")
    if section.test and not splits["test"]:
        notes.append("No group fell into test: there are too few groups for its share.")
    if result.looks_alone:
        notes.append(
            f"{result.looks_alone:,} prompts have answers that differ in case or punctuation alone: they are no conflicts, "
            "and all of them stay."
        )
    if result.crowded:
        notes.append(
            f"{result.crowded:,} rows have so many look-alikes that they were compared with the nearest {LONGEST} of a kind "
            "only: some near-duplicates among them may have stayed."
        )
    largest, kept = result.groups["largest"], tallied.kept
    if largest > max(section.validation, section.test) * kept > 0 and largest > 1:
        notes.append(
            f"The largest group holds {largest:,} of {kept:,} rows, more than the share of a held-out split: shares are of "
            "groups, so the splits' sizes follow where it falls."
        )
    return notes
