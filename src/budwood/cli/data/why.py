"""`budwood data why`: a row's story."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, on_store, open_here
from budwood.cli.output import for_terminal, print_indented, print_json, print_next, print_pairs, print_table
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.data.why import AnyRow, Story

MANY = 300_000
"""Rows from which looking takes more than a second."""
LISTED = 20
"""Rows that are listed where several are meant."""
LONGEST = 300
"""Characters of a message that are shown."""
SnapshotArgument = Annotated[
    str,
    typer.Argument(
        help="a name (its newest), first digits of a digest, or a release such as support@production; default: the newest",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    @app.command(
        name="why",
        short_help="Tell a row's story: source, rules, split, what learnt from it.",
        epilog="Example: budwood data why tickets.jsonl:812 support",
    )
    def why(
        row: Annotated[str, typer.Argument(help="its id or the beginning of it, or FILE:LINE")],
        snapshot: SnapshotArgument = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Tell where a row came from, what every rule did to it, and why it is in its split or was rejected."""
        from budwood.data.find import find_snapshot
        from budwood.data.why import only, pointer, read_wanted, tell

        wanted = read_wanted(row)
        opened = open_here(store)
        digest = find_snapshot(opened, snapshot)
        rows = opened.manifest(digest).body["counts"]["read"]
        if rows >= MANY:
            typer.echo(f"Looking through {rows:,} rows of snapshot {short(digest)}", err=True)
        found = only(opened, digest, wanted, limit=LISTED + 1)
        story = tell(opened, digest, found[0]) if len(found) == 1 else None
        if as_json:
            print_json({"snapshot": digest, "matches": list(map(pointer, found)), "story": story.as_dict() if story else None})
        elif story:
            _print(story, str(opened.manifest(digest).body["name"]))
        else:
            _print_choice(found, f" {snapshot}".rstrip() + on_store(store))


def _print_choice(found: "list[AnyRow]", rest: str) -> None:
    from budwood.data.why import place

    typer.echo(f"{'More than ' if len(found) > LISTED else ''}{min(len(found), LISTED)} rows are meant:")
    rows = [(one.row_id, place(one), for_terminal(f"{one.file} line {one.line:,}")) for one in found[:LISTED]]
    print_table(("row", "place", "from"), rows)
    print_next(f"budwood data why {found[0].row_id}{rest}")


def _print(story: "Story", name: str) -> None:
    from budwood.data.why import place

    row, where = story.row, place(story.row)
    verb = "rejected" if where == "rejected" else f"kept in {where}"
    typer.echo(f"Row {row.row_id}, {verb}, of snapshot {short(story.snapshot)} ({for_terminal(name)})")
    print_pairs([(key, for_terminal(value)) for key, value in _facts(story) if value])
    for title, lines in _chapters(story):
        typer.echo(f"\n{title}")
        for line in lines:
            print_indented(for_terminal(line))
    _print_text(row)


def _facts(story: "Story") -> Iterator[tuple[str, str]]:
    from budwood.data.rows import KeptRow

    row, source = story.row, story.source
    counted = "record" if source.get("layout") in ("json", "parquet") else "line"
    yield "source", f"{row.file} {counted} {row.line:,}"
    yield "sha256", f"{row.sha256[:16]}… of that file"
    yield "origin", str(source.get("origin", ""))
    if isinstance(row, KeptRow):
        yield "group", row.group
        yield "tokens", f"{row.tokens:,}" if row.tokens is not None else "not measured"
        yield "weight", f"{row.value['weight']:g}"
        yield "columns", ", ".join(f"{key} = {value}" for key, value in row.value["slices"].items())


def _chapters(story: "Story") -> Iterator[tuple[str, list[str]]]:
    from budwood.data.rows import KeptRow
    from budwood.data.why import touches

    row = story.row
    touched = [f"{_rule(story, one.rule)}: {one.kind}, {one.reason}" for one in touches(row)]
    if isinstance(row, KeptRow):
        yield "What rules did to it:", touched or ["nothing"]
    else:
        yield "Rejected by:", [f"{_rule(story, row.rule)}: {row.reason}"]
        if touched:
            yield "What rules did to it before:", touched
    if story.compared:
        yield "The rows that this speaks of:", [_pointed(one, "" if at == story.snapshot else at) for at, one in story.compared]
    if isinstance(row, KeptRow) and story.placing:
        yield f"Why {row.split}:", [story.placing.sentence()]
        others = f"{story.others:,} other row{'s' if story.others != 1 else ''}, all in {row.split}"
        more = story.others - len(story.neighbours)
        listed = [*map(_pointed, story.neighbours), *([f"… and {more:,} more"] if more else [])]
        by = f', the same "{story.grouped_by}"' if story.grouped_by else ""
        yield f"Its group (near-duplicates, the same prompt{by}): {others if story.others else 'no other row'}", listed
    if story.fell:
        by = ", ".join(f"{count:,} by {rule}" for rule, count in story.fell.items())
        more = sum(story.fell.values()) - len(story.fallen)
        yield f"Rejected for its sake: {by}", [*map(_pointed, story.fallen), *([f"… and {more:,} more"] if more else [])]
    yield from _uses(story)


def _rule(story: "Story", name: str) -> str:
    """A rule with its version and what it was set to."""
    rule = story.rules.get(name)
    if rule is None:
        return name
    plain = {key: value for key, value in rule["options"].items() if isinstance(value, str | int | float) and value != ""}
    options = ", ".join(f"{key} = {value}" for key, value in plain.items())
    return f"{name} {rule['version']}" + (f" ({options})" if options else "")


def _uses(story: "Story") -> Iterator[tuple[str, list[str]]]:
    from budwood.data.why import place

    titles = {
        "train": "Learnt from by:",
        "validation": "Not learnt from; choices were made on it by:",
        "test": "Not learnt from; the gate's row for:",
        "rejected": "Not in what was learnt by:",
    }
    lines = [
        f"{use.kind} {short(use.digest)} {use.title}"
        + (f", now {', '.join(use.aliases)}" if use.aliases else "")
        + (" (went on from one of these)" if use.indirect else "")
        + (f" (by way of snapshot {short(use.read)})" if use.read != story.snapshot else "")
        for use in story.uses
    ]
    where = place(story.row)
    yield titles[where] if lines else "Nothing was trained on this snapshot yet.", lines


def _pointed(row: "AnyRow", snapshot: str = "") -> str:
    from budwood.data.rows import RejectedRow

    why = f": {row.rule}, {row.reason}" if isinstance(row, RejectedRow) else f" ({row.split})"
    where = f", in snapshot {short(snapshot)}" if snapshot else ""
    return f"row {row.row_id}, {row.file} line {row.line:,}{where}{why}"


def _print_text(row: "AnyRow") -> None:
    """Print what the snapshot holds: messages, or the raw text of a record that could not be read."""
    from budwood.tool_calls import shown

    typer.echo("")
    if "raw" in row.value:
        typer.echo(f"  {for_terminal(_cut(str(row.value['raw'])))}")
    for message in row.value.get("messages", ()):
        flag = " (not learnt)" if message.get("train") is False else ""
        typer.echo(f"  {for_terminal(message['role'])}{flag}: {for_terminal(_cut(shown(message)))}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
