"""`budwood data forget`: take rows out of everything that holds them, for good."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from budwood.cli.display import display
from budwood.cli.options import DEFAULT_STORE, JsonOption, StoreOption, WhoOption, acting, on_store, open_here
from budwood.cli.output import for_terminal, print_json, print_next, print_table
from budwood.errors import DataError
from budwood.identity import Digest, short

if TYPE_CHECKING:
    from budwood.data.forget import Forgotten, Survey
    from budwood.store import Store

LISTED = 10
"""Lines of a source file that are listed where there are more; all are in `--json`."""
LISTED_IDS = 3
"""Likewise row ids."""
BEYOND = (
    "Not reached by this: the source files, the weights of adapters and models, what was exported or logged elsewhere, "
    "backups, and your shell's own history (`--match -` reads from standard input)."
)


def register(app: typer.Typer) -> None:
    @app.command(
        name="forget",
        short_help="Take rows out of everything that holds them, for good.",
        epilog='Example: budwood data forget --match "Ann Lee" --reason "request 17" --yes',
    )
    def forget(
        match: Annotated[
            list[str] | None,
            typer.Option("--match", help="text, whatever its case, width and spaces; again: or that; - reads lines from stdin"),
        ] = None,
        pattern: Annotated[list[str] | None, typer.Option("--pattern", help="regular expression; may be given again")] = None,
        column: Annotated[
            list[str] | None, typer.Option("--column", metavar="NAME=VALUE", help="rows with this value; may be given again")
        ] = None,
        row: Annotated[list[str] | None, typer.Option("--row", help="id of a row, or its first digits")] = None,
        snapshot: Annotated[
            list[str] | None,
            typer.Option("--snapshot", help="look into this one and what came of it; default: all of the store"),
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="do it; without this, only say what would be done")] = False,
        finish: Annotated[bool, typer.Option("--finish", help="only finish a removal that was cut short")] = False,
        reason: Annotated[str, typer.Option("--reason", help="why; kept in the history, so without personal data")] = "",
        who: WhoOption = "",
        store: StoreOption = DEFAULT_STORE,
        as_json: JsonOption = False,
    ) -> None:
        """Find rows, and take them out of every snapshot, report, cache, page and golden probe that holds them.

        A row is meant if any option fits it, and so is every row that says the same. What is looked for is written down
        nowhere. Exit code 1 when something of it is still left in the store afterwards.
        """
        from budwood.data.forget import forget as take_out
        from budwood.data.forget import make_wanted, survey
        from budwood.data.forget.run import finish as finish_removals

        opened = open_here(store)
        if finish:
            _print_finished(finish_removals(opened), as_json=as_json)
            return
        wanted = make_wanted(texts=_texts(match or []), patterns=pattern or [], columns=column or [], rows=row or [])
        within = [_snapshot(opened, ref) for ref in snapshot or []]
        if not yes:
            with display() as report:
                found = survey(opened, wanted, snapshots=within, report=report)
            unfinished = len(opened.unfinished_removals())
            if as_json:
                print_json({**found.as_dict(), "unfinished": unfinished})
            else:
                _print_found(opened, found)
                _print_dry(found, unfinished, store)
            return
        with display() as report:
            done = take_out(opened, wanted, who=acting(who), reason=reason, snapshots=within, report=report)
        if as_json:
            print_json(done.as_dict())
        else:
            _print_done(opened, done, store)
        raise typer.Exit(0 if done.is_complete else 1)


def _texts(given: list[str]) -> list[str]:
    """Read texts from standard input where they are asked for there: they are then in no process list and no shell history."""
    if "-" not in given:
        return given
    lines = [line.strip() for line in sys.stdin]
    found = [line for line in lines if line]
    if not found:
        raise DataError("There is no text on standard input.", where="--match -", mend="Give one a line.")
    return [text for text in given if text != "-"] + found


def _snapshot(store: "Store", ref: str) -> Digest:
    from budwood.release.lineage import find_object

    digest = find_object(store, ref)
    manifest = store.manifest(digest)
    if manifest.kind == "release" and manifest.body["snapshot"] is None:
        raise DataError(
            f"{ref} was imported and never judged: no snapshot is known.", where="--snapshot", mend="Name a snapshot."
        )
    if manifest.kind == "release":
        digest = store.current(str(manifest.body["snapshot"]))
    elif manifest.kind != "snapshot":
        raise DataError(
            f"{ref} is a {manifest.kind}, not a snapshot.", where="--snapshot", mend="Name a snapshot or a release."
        )
    return digest


def _print_found(store: "Store", found: "Survey") -> None:
    if found.missed:
        typer.echo(f"No row here begins with {', '.join(found.missed)}.")
    if found.is_empty:
        typer.echo("Nothing that could be taken out was found.")
    else:
        copies = sum(one.copies for one in found.snapshots)
        more = f"; {copies:,} of these only say the same as one that was looked for" if copies else ""
        typer.echo(f"{_count(found.rows, 'row')} found{more}.\n")
        print_table(("what", "digest", "holds"), _holders(found))
        _print_rows(found)
    _print_trained(found)
    for place in found.elsewhere:
        typer.echo(f"\nStays: {for_terminal(place.where)}\n  {place.why}.")
    for place in found.unread:
        typer.echo(f"\nNot looked into: {place.where}\n  {for_terminal(place.why)}")


def _holders(found: "Survey") -> list[tuple[str, str, str]]:
    lines = []
    for snapshot in found.snapshots:
        parts = [f"{count:,} {split}" for split, count in snapshot.counts.items()]
        parts += [f"{count:,} in {path}" for path, count in snapshot.other_lines.items()]
        lines.append((f"snapshot {snapshot.name}".rstrip(), short(snapshot.digest), ", ".join(parts)))
    for report in found.reports:
        lines.append(("report", short(report.digest), f"{len(report.cases):,} of {_count(report.total, 'case')}"))
    for release in found.releases:
        probes = ", ".join(str(place + 1) for place in release.probes)
        live = f", live as {', '.join(release.live)}" if release.live else ""
        lines.append((f"release {', '.join(release.titles)}", short(release.digest), f"golden probe {probes}{live}"))
    lines += [("page", short(one.digest), one.name) for one in found.attachments]
    lines += [("requests", "", f"{_count(one.lines, 'line')} of {one.path}") for one in found.requests]
    if found.work:
        lines.append(("work", "", f"{_count(len(found.work), 'file')} of golden probes or vectors, for what is in the making"))
    return lines


def _print_rows(found: "Survey") -> None:
    by_split: dict[str, dict[str, None]] = {}
    for one in found.snapshots:
        for split, rows in one.rows.items():
            by_split.setdefault(split, {}).update(dict.fromkeys(rows))
    if by_split:
        typer.echo("")
        print_table(("split", "rows"), [(split, _some(list(rows), LISTED_IDS)) for split, rows in by_split.items()])
        typer.echo("\nThey came from these lines, which are not touched:")
        for file, lines in found.sources.items():
            typer.echo(f"  {for_terminal(file)}: {_some([f'{line:,}' for line in lines])}")


def _print_trained(found: "Survey") -> None:
    trained = found.trained
    if not trained.runs:
        return
    typer.echo("\nTrained on rows that go; weights cannot be made to forget them:")
    for digest, count in trained.runs.items():
        typer.echo(
            f"  run {short(digest)}: {_count(count, 'row')}" if count else f"  run {short(digest)}: by what it began with"
        )
    for digest in trained.results:
        typer.echo(f"  adapter or model {short(digest)}")
    for row in trained.releases:
        live = [f"{alias.name}@{alias.alias}" for alias in trained.live if alias.digest == row.digest]
        typer.echo(f"  release {row.name}@{row.version}{', live as ' + ', '.join(live) if live else ''}")


def _print_dry(found: "Survey", unfinished: int, store: Path) -> None:
    if unfinished:
        typer.echo(f"\n{_count(unfinished, 'removal')} that began earlier has not ended: it is finished first.")
    if found.is_empty:
        return
    typer.echo(f"\n{BEYOND}")
    typer.echo("\nNothing was changed. To do it, repeat with --yes and --reason WHY.")


def _print_done(store: "Store", done: "Forgotten", place: Path) -> None:
    if done.finished:
        typer.echo(f"{_count(done.finished, 'removal')} that had been cut short finished.")
    _print_found(store, done.found)
    if done.found.is_empty:
        return
    rows = [
        (store_kind(store, old), short(old), short(new) if new else "nothing: no case is left")
        for old, new in done.replaced.items()
    ]
    if rows:
        typer.echo("")
        print_table(("removed", "digest", "in its place"), rows)
    names = {row.digest: f"{row.name}@{row.version}" for row in store.releases()}
    again = "then run this again: it removes the old one"
    for old, new in done.offered.items():
        typer.echo(f"\n{names[old]} is live, so it stays, and so do its golden probes that are such prompts.")
        if new:
            command = f"budwood promote {names[new]}{on_store(place)}"
            typer.echo(f"{names[new]} is the same without them. Promote it with `{command}`, {again}.")
        else:
            typer.echo(f"None of its probes is left: make and promote it again (`budwood release RECIPE`), {again}.")
    _print_left(done)
    typer.echo(f"\n{BEYOND}")
    print_next(*_advice(store, done.found, place), f"budwood verify{on_store(place)}")


def _advice(store: "Store", found: "Survey", place: Path) -> list[str]:
    """To train again; and to go back, where there is a release that was not trained on the rows."""
    if not found.trained.runs:
        return []
    tainted = {row.digest for row in found.trained.releases}
    clean = {row.name for row in store.releases() if row.digest not in tainted and store.exists(row.digest)}
    back = [row for row in found.trained.live if row.name in clean]
    steps = [f"budwood run RECIPE{on_store(place)}    # train again, without the rows"]
    return steps + [f"budwood history {row.name}{on_store(place)}    # is there one to roll back to?" for row in back]


def _print_left(done: "Forgotten") -> None:
    left = done.left
    if done.is_complete:
        typer.echo("\nThe whole store was looked through again: nothing of it is left.")
    elif left.snapshots or left.reports:
        typer.echo("\nMeanwhile somebody stored such rows again: run this again.")
    else:
        typer.echo("\nThe whole store was looked through again: what is named above stays.")


def _print_finished(count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"finished": count})
    else:
        typer.echo(f"{_count(count, 'removal')} finished." if count else "No removal was cut short.")


def store_kind(store: "Store", digest: str) -> str:
    stone = store.tombstone_of(digest)
    return stone.kind if stone else store.manifest(digest).kind


def _some(words: list[str], listed: int = LISTED) -> str:
    more = f", and {len(words) - listed:,} more" if len(words) > listed else ""
    return ", ".join(words[:listed]) + more


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
