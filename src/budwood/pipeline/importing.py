"""A portable release taken in: opened by what it is, checked, and its base compared where it comes along."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.errors import ReleaseError
from budwood.events import Reporter
from budwood.identity import short

if TYPE_CHECKING:
    from budwood.release.importing import Imported
    from budwood.store import Store


def import_from(store: "Store", path: Path, *, as_name: str | None, who: str, reason: str, report: Reporter) -> "Imported":
    """Import an archive (a file) or an OCI layout (a folder).

    Raises:
        ReleaseError: it is neither, or anything in it is not as its digests say. The store is as it was.
        StoreError: its number belongs to another release here, or the disk refuses.
    """
    from budwood.release.archive import read_archive
    from budwood.release.bundle import read_bundle
    from budwood.release.importing import import_release
    from budwood.release.oci import read_layout

    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        raise ReleaseError(
            f"{str(path)!r} is neither an archive nor an OCI layout.", mend="Give the file or folder of an export itself."
        )
    offered = read_bundle(read_archive(path) if path.is_file() else read_layout(path))
    return import_release(store, offered, as_name=as_name, who=who, reason=reason, check_base=check_base, report=report)


def check_base(folder: Path, body: Any) -> None:
    """Refuse a base that came along and is not the one that the release binds.

    Raises:
        ReleaseError: its weights, tokenizer or template are others.
    """
    from budwood.engine.base import identify_base, resolve_base

    found = identify_base(resolve_base(str(folder)))
    names = ("weights_digest", "tokenizer_digest", "template_digest")
    wrong = [name.removesuffix("_digest") for name in names if getattr(found, name) != body["base"].get(name)]
    if wrong:
        raise ReleaseError(
            f"The base in it is not the one that the release binds: {', '.join(wrong)} differ"
            f"{'s' if len(wrong) == 1 else ''} (weights {short(found.weights_digest)}…).",
            mend="Nothing was imported. Export the release again where its base is.",
        )
