"""A snapshot without some of its rows: what stays keeps its bytes, its split and its group; the figures are counted again."""

from pathlib import Path
from shutil import copyfile

from budwood.data.figures import Figures
from budwood.data.forget.elsewhere import in_file
from budwood.data.forget.found import InSnapshot
from budwood.data.forget.lines import read_lines
from budwood.data.forget.survey import ROW_FILES, goes
from budwood.data.forget.wanted import Wanted
from budwood.errors import DataError
from budwood.identity import Digest, short
from budwood.prepare.describe import CARD, CROISSANT, describe
from budwood.store import Store


def without_rows(store: Store, hit: InSnapshot, wanted: Wanted, *, who: str) -> Digest:
    """Store the snapshot that lacks the rows; the same rows again give the same snapshot.

    Raises:
        DataError: a file that is neither rows, lists nor a card holds the text; or figures that do not fit the rows.
    """
    manifest = store.manifest(hit.digest)
    gone = sum(hit.counts.values())
    forgets = {"of": hit.digest, "rows": gone}
    figures = Figures(manifest.body)
    with store.draft("snapshot") as draft:
        for entry in manifest.files:
            target = draft.folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.path in ROW_FILES:
                _copy_rows(store, hit, entry.path, target, figures)
            elif entry.path.endswith(".jsonl"):
                _copy_lines(store, hit, entry.path, target, wanted)
            elif entry.path not in (CARD, CROISSANT):
                _copy_file(store, hit, entry.path, target, wanted)
        body = figures.body(forgotten=gone) | {"forgets": forgets}
        describe(draft.folder, body)
        return draft.commit(parents=[*manifest.parents, hit.digest], body=body, attestation={"who": who, **forgets})


def _copy_rows(store: Store, hit: InSnapshot, path: str, target: Path, figures: Figures) -> None:
    ids, split = hit.ids, path.removesuffix(".jsonl")
    with target.open("wb") as file:
        for line, row in read_lines(store, hit.digest, path):
            if row["row_id"] not in ids:
                file.write(line)
                figures.add(split, row)


def _copy_lines(store: Store, hit: InSnapshot, path: str, target: Path, wanted: Wanted) -> None:
    with target.open("wb") as file:
        file.writelines(line for line, value in read_lines(store, hit.digest, path) if not goes(value, wanted, hit.ids))


def _copy_file(store: Store, hit: InSnapshot, path: str, target: Path, wanted: Wanted) -> None:
    source = store.file(hit.digest, path)
    if in_file(source, wanted):
        raise DataError(
            f"{path} holds what is looked for, and nobody here knows how to take it out of such a file.",
            where=f"snapshot {short(hit.digest)}",
            mend="Nothing was changed. Prepare again without the rows, and remove that snapshot.",
        )
    copyfile(source, target)
