"""The stage: recipe and raw files → the digest of a snapshot.

    digest = prepare(recipe, store, token_length=length, context=2048, report=silent)

Pieces of the sources are read, cleaned and encoded by several processes; what is decided about rows together is decided here,
on columns of numbers; the processes then copy the finished lines. Nothing is stored before all of it has succeeded, and
nothing depends on how many processes there are.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import DataError
from budwood.events import Event, Reporter, silent
from budwood.identity import Digest
from budwood.prepare.account import account, notes, settings
from budwood.prepare.columns import Batch, Table, join_batches
from budwood.prepare.conflicts import Conflicting
from budwood.prepare.crew import Crew, count_cores
from budwood.prepare.describe import describe
from budwood.prepare.finish import Fates, sizes_of
from budwood.prepare.guard import tally as tally_benchmarks
from budwood.prepare.inherit import check_onto, earlier_rows
from budwood.prepare.keys.find import kernel
from budwood.prepare.meaning import Meaning
from budwood.prepare.plain.find import kernel as plain_kernel
from budwood.prepare.read import Found, SourceFacts, check_declared, read_sources
from budwood.prepare.row import SPLITS, TokenLength, Touch
from budwood.prepare.rules.build import build_rules
from budwood.prepare.rules.contamination import Contamination
from budwood.prepare.rules.rule import Rule
from budwood.prepare.rules.tool_turns import ToolTurns
from budwood.prepare.separate import Separated, Sources, separate
from budwood.prepare.snapshot import CONFLICTS, Tally, count_lengths, list_conflicts, make_body, tally
from budwood.prepare.spool import Shelf
from budwood.prepare.stated import warning
from budwood.prepare.told import keep as keep_languages
from budwood.prepare.told import kept_files
from budwood.prepare.vectors import Embed, open_vectors
from budwood.prepare.verdicts import RULES, Fault
from budwood.prepare.work import Order, Work
from budwood.recipe import Recipe
from budwood.text.near.kernels import kernels

if TYPE_CHECKING:
    from budwood.store import Store
    from budwood.store.draft import Draft

VERSION = 10
"""Version of the stage: raise it when the same input would give another snapshot."""
SMALL_BYTES = 4 << 20
"""Of sources that one process has done before others would have begun."""


def prepare(
    recipe: Recipe,
    store: "Store",
    *,
    token_length: TokenLength | None,
    context: int,
    onto: Digest | None = None,
    embed: Embed | None = None,
    processes: int = 0,
    report: Reporter = silent,
) -> Digest:
    """Make the snapshot that a recipe describes.

    Args:
        recipe: sources and [prepare] are read, and the name.
        store: where the snapshot goes.
        token_length: messages → tokens of the row after the base's template; None leaves lengths unmeasured. Where there are
            several processes, each gets one of its own, so it has to be one that can be sent.
        context: the base's longest row in tokens; 0 when unknown.
        onto: an earlier snapshot whose rows keep their splits.
        embed: the model of [prepare.semantic], if it names one.
        processes: how many work on it; 0: one for each core. The snapshot is the same.
        report: told of progress.

    Raises:
        DataError: files or rows that cannot be used, or nothing left to train on. The store is as it was.
        RecipeError: rules or settings that cannot be used.
        StoreError: no room for it on the disk.
    """
    started = time.perf_counter()
    section = recipe.prepare
    rules = build_rules(section, folder=recipe.folder, token_length=token_length, context=context, sources=recipe.source)
    check_declared(recipe.source, section)
    check_onto(store, onto)
    with store.draft("snapshot") as draft, ExitStack() as opened:
        told = kept_files(store) if section.language != "off" else ()
        order = Order(section, recipe.source, recipe.folder, token_length, context, draft.scratch, draft.folder, told)
        for name in (*SPLITS, "rejected"):
            (draft.folder / f"{name}.jsonl").touch()
        # Compiled once, before several processes would do it side by side.
        kernels(), kernel(), plain_kernel()
        with Crew(Work, (order,), processes or _processes(recipe)) as crew:
            work = _Stage(recipe, crew, draft, report)
            work.read(store, onto)
            meaning = work.meaning(opened, store, embed)
            try:
                separated = work.separate(onto or "", meaning)
            except Conflicting as fault:
                raise fault.listed_in(_listed(store, recipe.name, fault.lines)) from None
            tallied = work.check(separated)
            work.write(separated)
        body = _body(recipe, work, separated, tallied, rules, onto or "", embed)
        if separated.conflicts:
            list_conflicts(draft.folder / CONFLICTS, separated.conflicts)
        describe(draft.folder, body)
        seconds = time.perf_counter() - started
        attestation = {
            "seconds": round(seconds, 3),
            "rows_per_s": round(work.total / max(seconds, 1e-9), 1),
            "near_duplicates_by": separated.searched_by,
            "phases": work.seconds,
        }
        if meaning is not None:
            attestation["semantic"] = meaning.figures()
        digest = draft.commit(parents=[], body=body, attestation=attestation)
        if section.language != "off":
            keep_languages(store, digest, draft.scratch)
        if meaning is not None:
            meaning.vectors.keep(digest)
            report(Event("prepare", meaning.said()))
    unsaid = warning(body["sources"])
    if unsaid:
        report(Event("prepare", unsaid))
    for said in _emptied(work.facts, work.batches, separated):
        report(Event("prepare", said))
    summary = f"{tallied.kept:,} rows kept, {tallied.out:,} rejected"
    report(Event("prepare", summary, done=work.total, total=work.total, unit="rows"))
    return digest


def _processes(recipe: Recipe) -> int:
    paths = [recipe.folder / source.path for source in recipe.source]
    size = sum(path.stat().st_size for path in paths if _is_file(path))
    return 1 if size < SMALL_BYTES else count_cores()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


class _Stage:
    """What one preparation holds while it goes on."""

    def __init__(self, recipe: Recipe, crew: Crew, draft: "Draft", report: Reporter) -> None:
        self._recipe, self._crew, self._draft, self._report = recipe, crew, draft, report
        self._found: list[Found] = []
        self.facts: list[SourceFacts] = []
        self.batches: list[Batch] = []
        self._table: Table | None = None
        self.total = 0
        self.seconds: dict[str, float] = {}

    def read(self, store: "Store", onto: Digest | None) -> None:
        """Have all pieces read, cleaned and encoded."""
        begun = time.perf_counter()
        pieces = read_sources(self._recipe.source, folder=self._recipe.folder, found=self._found, report=self._report)
        for batch in self._crew.each("piece", _alone(pieces)):
            self._close_before(batch.source)
            self._found[batch.source].add(batch)
            self.batches.append(batch)
            self.total += batch.records
            path = self._found[batch.source].source.path
            self._tell(f"Reading {path}", self._found[batch.source].rows)
        self._close_before(len(self._recipe.source))
        earlier = list(self._crew.each("ancestors", earlier_rows(store, onto)))
        self._table = join_batches(self.batches, earlier)
        self.seconds["read"] = round(time.perf_counter() - begun, 3)

    def _close_before(self, number: int) -> None:
        """Check the sources that have come to their end: one of too many faults stops before the next is gone through."""
        for found in self._found[len(self.facts) : number]:
            facts = found.facts(self._recipe.prepare.max_malformed)
            self.facts.append(facts)
            if facts.left_out:
                names = ", ".join(facts.left_out)
                self._report(Event("prepare", f"Left out of {facts.path}, since no row can hold it: {names}"))

    def meaning(self, opened: ExitStack, store: "Store", embed: Embed | None) -> Meaning | None:
        """What looks for semantic duplicates, if the recipe asks for it."""
        asked = self._recipe.prepare.semantic
        if not asked.model:
            return None
        if embed is None:
            raise AssertionError("[prepare.semantic] names a model, and none was handed in")

        def tell(done: int, total: int) -> None:
            self._report(Event("prepare", "Embedding rows", done=done, total=total, unit="texts"))

        def tick(done: int, total: int) -> None:
            self._tell("Comparing what rows mean", done, total)

        return Meaning(asked, opened.enter_context(open_vectors(store, embed, tell)), tick)

    def separate(self, onto: str, meaning: Meaning | None) -> Separated:
        begun = time.perf_counter()
        assert self._table is not None
        columns = list(dict.fromkeys(name for batch in self.batches for name in batch.columns))
        paths = [source.path for source in self._recipe.source]
        sources = Sources(paths, [source.split for source in self._recipe.source], columns, onto)
        shelf = Shelf(self._draft.scratch)

        def tick(done: int, total: int) -> None:
            self._tell("Looking for near-duplicates", done, total)

        try:
            separated = separate(self._table, self._recipe.prepare, sources, shelf, tick, meaning)
        finally:
            shelf.close()
        self.seconds["separate"] = round(time.perf_counter() - begun, 3)
        return separated

    def check(self, separated: Separated) -> Tally:
        """Count everything.

        Raises:
            DataError: no row is left to train on.
        """
        tallied = tally(self.batches, separated)
        if tallied.kept + tallied.out != self.total:
            raise AssertionError(f"{tallied.kept} kept + {tallied.out} rejected is not {self.total} read")
        if not tallied.splits["train"]:
            _refuse_empty(tallied, self.total)
        return tallied

    def write(self, separated: Separated) -> None:
        """Have the finished lines copied into the row files."""
        begun = time.perf_counter()
        done = 0
        with (self._draft.folder / "rejected.jsonl").open("wb") as rejected:
            for batch, lines in zip(
                self.batches, self._crew.each("copy", _alone(_fates(self.batches, separated))), strict=True
            ):
                rejected.write(lines)
                done += batch.records
                self._tell("Writing", done, self.total)
        self.seconds["write"] = round(time.perf_counter() - begun, 3)

    def _tell(self, message: str, done: int, total: int | None = None) -> None:
        self._report(Event("prepare", message, done=done, total=total, unit="rows"))


def _alone(values: Iterator[Any]) -> Iterator[tuple[Any]]:
    return ((value,) for value in values)


def _fates(batches: Sequence[Batch], separated: Separated) -> Iterator[Fates]:
    """Say what becomes of every batch's rows, and where in the files they go."""
    verdicts, words = separated.verdicts, separated.words
    starts = (0, 0, 0)
    begin = 0
    flagged = sorted(verdicts.flags)
    for batch in batches:
        end = begin + len(batch)
        split = separated.split[begin:end]
        out = [begin + row for row in (split < 0).nonzero()[0].tolist()]
        faults = [(row, Fault(int(verdicts.why[row]), int(verdicts.other[row]))) for row in out]
        here = flagged[bisect_left(flagged, begin) : bisect_left(flagged, end)]
        flags = {
            row - begin: [Touch(RULES[fault.why], "flagged", words.reason(row, fault)) for fault in verdicts.flags[row]]
            for row in here
        }
        yield Fates(
            lines=batch.lines,
            lengths=batch.lengths,
            live=batch.live,
            split=split,
            group=separated.group[begin:end],
            reasons=[(RULES[fault.why], words.reason(row, fault)) for row, fault in faults],
            flags=flags,
            starts=starts,
        )
        sizes = sizes_of(batch.lengths[batch.live].sum(axis=1, dtype="int64"), split, flags, batch.touched)
        starts = (starts[0] + sizes[0], starts[1] + sizes[1], starts[2] + sizes[2])
        begin = end


def _body(
    recipe: Recipe,
    work: _Stage,
    separated: Separated,
    tallied: Tally,
    rules: Sequence[Rule],
    onto: str,
    embed: Embed | None,
) -> dict[str, Any]:
    section = recipe.prepare
    return make_body(
        name=recipe.name,
        sources=work.facts,
        tallied=tallied,
        rules=account(_at_work(rules, work.batches), tallied, section, embed),
        groups=dict(separated.groups) | {"by": section.group_by} | {"notes": notes(separated, tallied, section)},
        histograms=count_lengths(work.batches, separated.split, section.labels),
        onto=onto,
        settings=settings(section),
        conflicts=separated.conflicts,
        benchmarks=_benchmarks(rules, work.batches, separated),
    )


def _benchmarks(rules: Sequence[Rule], batches: Sequence[Batch], separated: Separated) -> list[dict[str, Any]]:
    """Count by benchmark what its rule found."""
    guarding = next((rule for rule in rules if isinstance(rule, Contamination)), None)
    if guarding is None:
        return []
    dropped, flagged = [], []
    begin = 0
    for batch in batches:
        dropped += [reason for row, reason in batch.told if row < 0]
        flagged += [reason for row, reason in batch.told if row >= 0 and separated.split[begin + row] >= 0]
        begin += len(batch)
    return tally_benchmarks(guarding.guard.benchmarks, dropped, flagged)


def _listed(store: "Store", name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Write all conflicts into the work folder, where a person may look at them; gives the path."""
    path = store.work(store.action("conflicts", VERSION, {"name": name}, [], 0)) / CONFLICTS
    list_conflicts(path, lines)
    return str(path)


def _emptied(facts: Sequence[SourceFacts], batches: Sequence[Batch], separated: Separated) -> Iterator[str]:
    """Say which sources have no row in the snapshot: a mistake of a layout or template more often than of each row."""
    kept: Counter[int] = Counter()
    dropped: dict[int, Counter[str]] = defaultdict(Counter)
    begin = 0
    for batch in batches:
        end = begin + len(batch)
        kept[batch.source] += int((separated.split[begin:end] >= 0).sum())
        dropped[batch.source].update(batch.dropped)
        begin = end
    for number, source in enumerate(facts):
        if source.rows and not kept[number]:
            reasons = [f"{count:,} by {rule}" for rule, count in dropped[number].most_common()]
            others = source.rows - dropped[number].total()
            reasons += [f"{others:,} by what other rows say"] if others else []
            yield f"No row of {source.path} was kept, of {source.rows:,}: {', '.join(reasons)}"


def _refuse_empty(tallied: Tally, total: int) -> None:
    by_rule = sorted(tallied.rejected.items(), key=lambda entry: -entry[1])
    why = ", ".join(f"{count:,} by {rule}" for rule, count in by_rule) or "all went to validation and test"
    raise DataError(
        f"No row is left to train on: {total:,} read, {tallied.out:,} rejected ({why}).",
        mend="Look at the sources and at [prepare]; nothing was stored.",
    )


def _at_work(rules: Sequence[Rule], batches: Sequence[Batch]) -> list[Rule]:
    """The rules that a snapshot tells of: without the one for tool calls where there are none, so that names stay."""
    return [rule for rule in rules if rule.name != ToolTurns.name or any(batch.calls_tools for batch in batches)]
