"""A release in a form that others read: PEFT folder, merged model, GGUF adapter, archive, OCI layout."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from budwood.errors import ReleaseError
from budwood.events import Event, Reporter
from budwood.identity import Digest, canonical_json, digest_file, short
from budwood.new_folder import new_folder
from budwood.release.archive import refuse_existing

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef
    from budwood.engine.divergence import Divergence
    from budwood.pipeline.merging import Onto
    from budwood.serve.bound import ReleaseBody
    from budwood.store import ReleaseRow, Store

Form = Literal["peft", "merged", "gguf", "archive", "oci"]
FACTS = "budwood.json"
"""Beside the files of others' formats: which release they are, on which base, and the sha256 of each."""


@dataclass(frozen=True)
class Converted:
    """What a conversion to plain LoRA cost: the largest share of a layer's change that was lost, and how far answers moved."""

    rank: int
    most_lost: float
    divergence: "Divergence"


@dataclass(frozen=True)
class Exported:
    """What was written: `digest` is the sha256 of an archive, a manifest or a GGUF file, and that of `FACTS` for a folder."""

    place: str
    form: Form
    release: Digest
    digest: Digest
    size: int
    converted: "Converted | None" = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Wish:
    """How an export is wanted.

    Args:
        form: what is written.
        with_data: rows along with an archive or layout.
        with_base: the base's files along with it.
        onto: which weights of a quantised base a merge goes onto.
        max_rank: a PEFT folder of plain LoRA with this rank, for servers that read no other; 0: the adapter as it is.
    """

    form: Form
    with_data: bool = False
    with_base: bool = False
    onto: "Onto" = "original"
    max_rank: int = 0


def export_release(store: "Store", row: "ReleaseRow", to: Path, wish: Wish, *, report: Reporter) -> Exported:
    """Write a release to a place where nothing is yet; it is there whole, or not at all.

    Raises:
        ReleaseError: something is there, the release has no such form, or the disk refuses.
        ServeError: its base is needed and is not found, or is another.
        StoreError: a part of it is gone or damaged.
    """
    from budwood.serve.bound import read_body

    refuse_existing(to)
    body = read_body(store.manifest(row.digest).body, where=f"release {short(row.digest)}…")
    _check_whole(store, row.digest, body)
    converted = None
    with _writing(to):
        if wish.max_rank:
            digest, converted = _plain(store, row, body, to, wish, report)
        elif wish.form in ("archive", "oci"):
            digest = _portable(store, row, body, to, wish)
        elif wish.form == "gguf":
            digest = _gguf(store, row, body, to)
        else:
            digest = _folder(store, row, body, to, wish, report)
    size = to.stat().st_size if to.is_file() else sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    report(Event("release", f"Exported {row.name}@{row.version} as {wish.form}"))
    return Exported(str(to), wish.form, row.digest, digest, size, converted)


def _check_whole(store: "Store", release: Digest, body: "ReleaseBody") -> None:
    for digest in (release, body.result):
        faults = store.faults(digest) if digest is not None else []
        if faults:
            raise ReleaseError(f"{short(digest or '')}… is damaged: {faults[0]}.", mend="Read `budwood verify`.")


def _portable(store: "Store", row: "ReleaseRow", body: "ReleaseBody", to: Path, wish: Wish) -> Digest:
    from budwood.release.archive import write_archive
    from budwood.release.bundle import bundle
    from budwood.release.oci import write_layout

    folder = _base(store, body).folder if wish.with_base else None
    made = bundle(store, row.digest, row.name, row.version, with_data=wish.with_data, base_folder=folder)
    return write_archive(made, to) if wish.form == "archive" else write_layout(made, to)


def _folder(store: "Store", row: "ReleaseRow", body: "ReleaseBody", to: Path, wish: Wish, report: Reporter) -> Digest:
    """Write an adapter's own files, or a whole model, with `FACTS` beside them."""
    if wish.form == "peft":
        _expect_adapter(body, row, "a PEFT folder")
    with new_folder(to) as folder:
        if wish.form == "merged" and body.kind == "adapter":
            _merge(store, row.digest, folder, wish, report)
        elif body.result is None:
            raise ReleaseError(f"{row.name}@{row.version} is a plain base: there is nothing to merge.", mend="Use its files.")
        else:
            source = store.folder(body.result)
            for entry in store.manifest(body.result).files:
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / entry.path, target)
        return _put_facts(folder, row, body)


def _put_facts(folder: Path, row: "ReleaseRow", body: "ReleaseBody", **more: Any) -> Digest:
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in _files(folder)}
    facts = {"release": row.digest, "name": row.name, "version": row.version, "files": files, "base": _bound(body), **more}
    (folder / FACTS).write_bytes(canonical_json(facts) + b"\n")
    return digest_file(folder / FACTS)


def _plain(
    store: "Store", row: "ReleaseRow", body: "ReleaseBody", to: Path, wish: Wish, report: Reporter
) -> tuple[Digest, Converted]:
    """Write the adapter as plain LoRA of one rank, measured on the release's golden prompts against what is served."""
    from tempfile import TemporaryDirectory

    from budwood.engine.base import skeleton
    from budwood.engine.divergence import divergence, recorded
    from budwood.engine.lora import load_adapter, save_adapter
    from budwood.engine.lora.plain_form import plain_form
    from budwood.pipeline.merging import load_float32, probe_rows, served

    result = _expect_adapter(body, row, "a PEFT folder")
    if wish.form != "peft":
        raise ReleaseError("--max-rank is for --as peft.", where="--max-rank", mend="Leave it out.")
    ref = _base(store, body)
    adapter = load_adapter(store.folder(result), skeleton(ref))
    rows = probe_rows(store, row.digest)
    plain, lost = plain_form(load_float32(ref, body.quantization).model, adapter, wish.max_rank)
    with new_folder(to) as folder, TemporaryDirectory() as scratch:
        report(Event("release", "Running the release as it is served"))
        wanted = recorded(served(ref, body.quantization, adapter), rows, Path(scratch))
        report(Event("release", "Running it as plain LoRA"))
        found = divergence(wanted, served(ref, body.quantization, plain), rows)
        save_adapter(plain, folder, base_id=body.base_id, revision=body.revision)
        converted = Converted(wish.max_rank, max(lost.values()), found)
        return _put_facts(folder, row, body, converted=asdict(converted)), converted


def _merge(store: "Store", release: Digest, folder: Path, wish: Wish, report: Reporter) -> None:
    from budwood.pipeline.merging import merge_release

    inner = folder / "merged"
    merge_release(store, release, inner, wish.onto, report=report)
    for path in list(inner.iterdir()):
        os.replace(path, folder / path.name)
    inner.rmdir()


def _gguf(store: "Store", row: "ReleaseRow", body: "ReleaseBody", to: Path) -> Digest:
    from budwood.engine.base import read_config, skeleton
    from budwood.engine.lora import load_adapter
    from budwood.engine.lora.gguf_file import GgufBase, write_gguf

    result = _expect_adapter(body, row, "a GGUF adapter")
    ref = _base(store, body)
    adapter = load_adapter(store.folder(result), skeleton(ref))
    facts = {"release": row.digest, "name": f"{row.name}@{row.version}", **_bound(body)}
    made = to.with_name(f".{to.name}.{os.getpid()}.new")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(adapter, GgufBase.of(read_config(ref)), made, facts=facts)
        digest = digest_file(made)
        os.link(made, to)
    finally:
        made.unlink(missing_ok=True)
    return digest


def _expect_adapter(body: "ReleaseBody", row: "ReleaseRow", what: str) -> str:
    if body.kind != "adapter" or body.result is None:
        raise ReleaseError(
            f"{row.name}@{row.version} has no adapter: its result is a {body.kind}, which is no {what.partition(' ')[2]}.",
            mend="Export it as merged, archive or oci.",
        )
    return body.result


def _base(store: "Store", body: "ReleaseBody") -> "BaseRef":
    from budwood.serve.bound import find_base

    return find_base(store, body, (), "the release")


def _bound(body: "ReleaseBody") -> dict[str, str]:
    return {
        "base": body.base_id,
        "base_revision": body.revision or "",
        "base_weights": body.weights_digest,
        "quantization": body.quantization,
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def _writing(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReleaseError(
            f"The export was not written: {error.strerror or error}.", where=str(to), mend="Nothing was left there."
        ) from error
