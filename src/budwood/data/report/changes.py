"""Rows as they were before a rule changed them: made again from the source file, in memory, where it is still the same.

A snapshot holds no such thing, by design: what was redacted is stored nowhere. So the recipe's rules are applied again to the
record, and the outcome must be the row that is stored. What stood where personal data was found is covered up; a row in which
something was found only after mending (an address with invisible characters in it) is not shown at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from budwood.data.report.gather import EXAMPLES
from budwood.data.rows import KeptRow
from budwood.errors import DataError
from budwood.prepare.files import open_file
from budwood.prepare.records import Record, records
from budwood.prepare.row import Drop, Message, Origin, Row
from budwood.prepare.rules.build import build_rules
from budwood.prepare.shapes import Misshapen, convert
from budwood.text.pii import find, redact
from budwood.tool_calls import shown

if TYPE_CHECKING:
    from budwood.prepare.rules.rule import Rule
    from budwood.recipe import Recipe, SourceSection

COVER = "▒▒▒▒▒"
_BUILT_BARE = frozenset({"length", "contamination"})
"""Rules that are left here without their tokenizer and benchmarks; they change no text."""


@dataclass(frozen=True)
class Change:
    """What one rule did to one row: texts before and after, personal data covered up."""

    row: KeptRow
    reason: str
    before: str
    after: str


@dataclass(frozen=True)
class Changes:
    """What could be made again, by rule; and sentences on what could not, and why."""

    by_rule: Mapping[str, Sequence[Change]]
    notes: Sequence[str]


def remake(changed: Mapping[str, Iterable[KeptRow]], body: Mapping[str, Any], recipe: "Recipe | None") -> Changes:
    """Show what the rules did.

    Args:
        changed: rule → rows that it changed.
        body: the snapshot's.
        recipe: the one that the snapshot was made from, for its rules and where its paths start; None: nothing is shown.

    Raises:
        RecipeError: rules that cannot be built.
    """
    rows = {row.row_id: row for some in changed.values() for row in some}
    if not rows:
        return Changes({}, ())
    if recipe is None:
        return Changes({}, ("Give the recipe (--recipe) to see rows before and after: they are made again from the sources.",))
    try:
        rules = build_rules(recipe.prepare, folder=recipe.folder, token_length=None, context=0)
    except DataError as error:  # A file that a rule needs is gone.
        return Changes({}, (f"Rows before and after are not shown: {error.what}",))
    other = _other_rules(rules, body)
    if other:
        return Changes({}, (f"Rows before and after are not shown: this snapshot was made with other settings of {other}.",))
    notes: list[str] = []
    traces: dict[str, list[tuple[Rule, str, str]]] = {}
    for source in recipe.source:
        wanted = {row.line: row for row in rows.values() if row.file == source.path}
        if wanted:
            traces |= _traces(source, recipe, wanted, rules, body, notes)
    lost = sum(row.row_id not in traces for row in rows.values())
    if lost and not notes:
        notes.append(
            f"{lost:,} of {len(rows):,} sampled rows are not shown: they did not come out again as stored, or "
            "personal data in them could not be covered beyond doubt."
        )
    found = {name: _changes(name, some, traces)[:EXAMPLES] for name, some in changed.items()}
    return Changes(found, notes)


def _other_rules(rules: "Sequence[Rule]", body: Mapping[str, Any]) -> str:
    """Name the rules that the recipe has otherwise than the snapshot."""
    used = {rule["name"]: (rule["version"], rule["options"]) for rule in body["rules"]}
    changed = [
        rule.name
        for rule in rules
        if rule.name not in _BUILT_BARE and used.get(rule.name) not in (None, (rule.version, rule.options()))
    ]
    return ", ".join(changed)


def _traces(
    source: "SourceSection",
    recipe: "Recipe",
    wanted: Mapping[int, KeptRow],
    rules: "Sequence[Rule]",
    body: Mapping[str, Any],
    notes: list[str],
) -> "dict[str, list[tuple[Rule, str, str]]]":
    (facts,) = [one for one in body["sources"] if one["path"] == source.path] or [None]
    traces: dict[str, list[tuple[Rule, str, str]]] = {}
    try:
        with open_file(recipe.path(source.path), shown=source.path, separator=source.separator) as file:
            if facts is None or file.sha256 != facts["sha256"]:
                notes.append(f"{source.path} is no longer the file that was read, so its rows are not shown as they were.")
                return {}
            last = max(wanted)
            for record in records(file):
                if record.line in wanted and isinstance(record, Record):
                    stored = wanted[record.line]
                    row = _row(record, stored, source, recipe, facts["shape"])
                    trace = _trace(row, stored, rules) if row else None
                    if trace is not None:
                        traces[stored.row_id] = trace
                if record.line >= last:
                    break
    except DataError as error:
        notes.append(f"Rows of {source.path} are not shown as they were: {error.what}")
    return traces


def _row(record: Record, stored: KeptRow, source: "SourceSection", recipe: "Recipe", shape: Any) -> Row | None:
    try:
        content = convert(record.value, shape, source.columns)
    except Misshapen:
        return None
    messages = content.messages
    if recipe.prepare.system and messages[0].role != "system":
        messages = (Message("system", recipe.prepare.system), *messages)
    origin = Origin(stored.file, stored.sha256, stored.line)
    return Row(stored.row_id, origin, messages, content.slices, source.weight, source.split, tools=content.tools)


def _trace(row: Row, stored: KeptRow, rules: "Sequence[Rule]") -> "list[tuple[Rule, str, str]] | None":
    """Apply the rules; None where the outcome is another than what is stored, or where covering up might miss something."""
    steps = []
    texts = [_text(row)]
    seen = False
    for rule in rules:
        outcome = rule.apply(row)
        if isinstance(outcome, Drop):
            return None
        seen = seen or rule.name == "pii"
        if not seen:
            texts.append(_text(outcome))
        if outcome.messages != row.messages:
            steps.append((rule, _text(row), _text(outcome)))
        row = outcome
    said = [(message.role, message.content) for message in row.messages]
    if said != [(message["role"], message["content"]) for message in stored.messages]:
        return None
    most = max(len(find(text)) for text in texts)
    return steps if all(len(find(text)) == most for text in texts) else None


def _changes(name: str, rows: Iterable[KeptRow], traces: "Mapping[str, Sequence[tuple[Rule, str, str]]]") -> list[Change]:
    found = []
    for row in rows:
        reason = next(touch.reason for touch in row.touched if touch.rule == name)
        for rule, before, after in traces.get(row.row_id, ()):
            if rule.name == name:
                found.append(Change(row, reason, covered(before), redact(after).text))
    return found


def covered(text: str) -> str:
    """Put a cover of one length over each finding of personal data."""
    pieces, position = [], 0
    for finding in find(text):
        pieces += [text[position : finding.start], COVER]
        position = finding.end
    return "".join([*pieces, text[position:]])


def _text(row: Row) -> str:
    if len(row.messages) == 1:
        return shown(row.messages[0].as_json())
    return "\n".join(f"{message.role}: {shown(message.as_json())}" for message in row.messages)
