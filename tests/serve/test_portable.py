"""A release carried to another store, as an archive and as an OCI layout: whole or refused, and nothing in between."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Nursery

from budwood.errors import BudwoodError, ReleaseError, StoreError
from budwood.events import silent
from budwood.identity import digest_bytes
from budwood.pipeline.exporting import Exported, Form, Wish, export_release
from budwood.pipeline.importing import import_from
from budwood.release.importing import Imported
from budwood.serve.loader import Loader
from budwood.store import ReleaseRow, Store, open_store


def export(nursery: Nursery, row: ReleaseRow, to: Path, form: Form = "archive", **wish: Any) -> Exported:
    return export_release(nursery.store, row, to, Wish(form, **wish), report=silent)


def take(store: Store, path: Path, as_name: str | None = None) -> Imported:
    return import_from(store, path, as_name=as_name, who="anna", reason="moved", report=silent)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "other") as store:
        yield store


@pytest.fixture
def row(nursery: Nursery) -> ReleaseRow:
    """A release with data behind it that an export leaves out."""
    first = nursery.release("support", 0)
    manifest = nursery.store.manifest(first.digest)
    with nursery.store.draft("snapshot") as draft:
        (draft.folder / "train.jsonl").write_text('{"row_id": "1"}\n')
        snapshot = draft.commit(body={"name": "support"})
    base = {**manifest.body["base"], "object": nursery.base_object()}
    body = {**manifest.body, "base": base, "snapshot": snapshot}
    with nursery.store.draft("release") as draft:
        for entry in manifest.files:
            (draft.folder / entry.path).write_bytes(nursery.store.file(first.digest, entry.path).read_bytes())
        digest = draft.commit(parents=[*manifest.parents, snapshot], body=body)
    nursery.store.add_release("support", digest, who="test", reason="test")
    return nursery.store.find_release(digest)


@pytest.mark.parametrize("form", ["archive", "oci"])
def test_a_release_serves_in_another_store(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path, form: Form) -> None:
    export(nursery, row, tmp_path / "out", form)
    done = take(other, tmp_path / "out")
    assert (done.name, done.version, done.digest, done.left_out) == ("support", 2, row.digest, 1)
    assert take(other, tmp_path / "out").version == 2
    assert other.verify().problems == ()
    assert len(other.history("support")) == 1
    loader = Loader(other, nursery.settings(), [nursery.soil.ref], silent)
    try:
        assert loader.load(other.find_release("support@2")).digest == row.digest
    finally:
        loader.close()


def test_the_same_release_gives_the_same_archive(nursery: Nursery, row: ReleaseRow, tmp_path: Path) -> None:
    made = [export(nursery, row, tmp_path / name) for name in ("one.tar", "two.tar")]
    assert made[0].digest == made[1].digest == digest_bytes((tmp_path / "one.tar").read_bytes())
    with tarfile.open(tmp_path / "one.tar") as archive:  # any tar reads it
        assert "budwood-release.json" in archive.getnames()
    with pytest.raises(ReleaseError, match="is there already"):
        export(nursery, row, tmp_path / "one.tar")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".budwood"]


def test_left_out_data_may_come_later(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path) -> None:
    export(nursery, row, tmp_path / "lean.tar")
    export(nursery, row, tmp_path / "whole.tar", with_data=True)
    take(other, tmp_path / "lean.tar")
    snapshot = nursery.store.manifest(row.digest).body["snapshot"]
    with pytest.raises(StoreError, match="is not here: left out of the export of support@2"):
        other.manifest(snapshot)
    assert take(other, tmp_path / "whole.tar").left_out == 0
    assert other.file(snapshot, "train.jsonl").read_text() == '{"row_id": "1"}\n'
    assert other.verify().problems == ()


def test_a_mark_of_absence_that_no_import_set_is_a_fault(
    nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path
) -> None:
    """Whoever could mark objects absent by hand could make evidence vanish unseen."""
    export(nursery, row, tmp_path / "whole.tar", with_data=True)
    export(nursery, row, tmp_path / "lean.tar")
    take(other, tmp_path / "lean.tar")
    snapshot = nursery.store.manifest(row.digest).body["snapshot"]
    with open_store(tmp_path / "third") as third:
        take(third, tmp_path / "whole.tar")
        place = third.folder(snapshot)
        stone = other.root / "objects" / snapshot[:2] / snapshot / "tombstone.json"
        (place / "manifest.json").unlink()
        (place / "train.jsonl").unlink()
        (place / "tombstone.json").write_bytes(stone.read_bytes())
        assert any("no event says so" in problem for problem in third.verify().problems)


def test_the_base_comes_along_and_is_the_one_that_is_bound(
    nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path
) -> None:
    export(nursery, row, tmp_path / "out.tar", with_base=True)
    done = take(other, tmp_path / "out.tar")
    assert done.base is not None
    assert (Path(done.base) / "model.safetensors").read_bytes() == (nursery.soil.ref.folder / "model.safetensors").read_bytes()
    with open_store(tmp_path / "third") as third:
        changed = rewritten(tmp_path / "out.tar", edit=other_base)
        assert "base" in refusal(third, changed)


def test_bad_52_a_number_means_one_release(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path) -> None:
    export(nursery, row, tmp_path / "out.tar")
    with other.draft("release") as draft:
        (draft.folder / "release.json").write_text("{}")
        made = draft.commit(body={"mine": True})
    for _ in range(2):
        other.add_release("support", made, who="ben", reason="")
    with other.draft("release") as draft:
        (draft.folder / "release.json").write_text("{}")
        second = draft.commit(body={"mine": 2})
    other.add_release("support", second, who="ben", reason="")
    assert "support@2 is release" in refusal(other, tmp_path / "out.tar")
    assert take(other, tmp_path / "out.tar", "theirs").version == 1


@pytest.mark.slow
def test_bad_58_a_killed_import_leaves_a_whole_store_and_is_finished_by_the_next(
    nursery: Nursery, row: ReleaseRow, tmp_path: Path
) -> None:
    export(nursery, row, tmp_path / "out.tar")
    done = subprocess.run(
        [sys.executable, "-m", "tests.serve.kill_import", str(tmp_path / "stores"), str(tmp_path / "out.tar")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)
    assert len(runs) > 5
    assert runs[-1]["killed"] is False
    for run in runs:
        assert run["after"]["problems"] == []
        assert run["after"]["releases"] in ([], [row.digest])
        assert run["again"] == {"problems": [], "releases": [row.digest]}


Edit = Callable[[dict[str, bytes]], None]


def rewritten(archive: Path, edit: Edit) -> Path:
    """The archive again, by another tar writer, with its members changed."""
    with tarfile.open(archive) as read:
        members = {member.name: read.extractfile(member).read() for member in read}  # type: ignore[union-attr]
    edit(members)
    out = archive.with_name("changed.tar")
    with out.open("wb") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))
        file.write(bytes(1024))
    return out


def with_special(archive: Path, kind: bytes, name: str = "objects/x", link: str = "/etc/passwd") -> Path:
    """The archive with one more member in front that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    out = archive.with_name("special.tar")
    out.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + archive.read_bytes())
    return out


def refusal(store: Store, path: Path) -> str:
    before = sorted(store.objects()), store.history(), store.releases()
    with pytest.raises(BudwoodError) as caught:
        take(store, path)
    assert (sorted(store.objects()), store.history(), store.releases()) == before
    assert not (store.root / "bases").exists() or not [*(store.root / "bases").iterdir()]
    return str(caught.value)


def index_edit(change: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        index = json.loads(members["budwood-release.json"])
        change(index)
        members["budwood-release.json"] = json.dumps(index).encode()

    return edit


def other_weights(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith("adapter_model.safetensors"))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])


def other_base(members: dict[str, bytes]) -> None:
    """Another base that is whole in itself: only the release's digests tell."""
    data = bytearray(members["base/model.safetensors"])
    data[-1] ^= 1
    members["base/model.safetensors"] = bytes(data)
    index = json.loads(members["budwood-release.json"])
    for entry in index["base"]:
        if entry["path"] == "model.safetensors":
            entry["sha256"] = digest_bytes(bytes(data))
    members["budwood-release.json"] = json.dumps(index).encode()


def edited_manifest(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith("manifest.json"))
    members[name] = members[name].replace(b'"format":1', b'"format":2')


EDITS: dict[str, tuple[Edit, str]] = {
    "other bytes": (other_weights, "has other bytes than its digest says"),
    "an edited manifest": (edited_manifest, "was altered"),
    "no index": (lambda members: members.__delitem__("budwood-release.json"), "this is no exported release"),
    "a missing file": (
        lambda members: members.__delitem__(next(n for n in members if n.endswith("probes.json"))),
        "is missing",
    ),
    "an extra file": (lambda members: members.__setitem__("objects/extra", b"x"), "is extra"),
    "traversal": (lambda members: members.__setitem__("../../evil", b"x"), "is not a plain relative path"),
    "an absolute path": (lambda members: members.__setitem__("/tmp/evil", b"x"), "is absolute"),
    "a backslash": (lambda members: members.__setitem__("objects\\evil", b"x"), "holds a backslash"),
    "case only": (lambda members: members.__setitem__("BUDWOOD-RELEASE.JSON", b"x"), "by case only"),
    "another release": (index_edit(lambda index: index.update(release="0" * 64)), "itself is not in it"),
    "a bad digest": (index_edit(lambda index: index.update(release="../x")), "is no digest"),
    "a bad name": (index_edit(lambda index: index.update(name="../x")), "name"),
    "a version that is none": (index_edit(lambda index: index.update(version=-1)), "is no count"),
    "an unsaid absence": (index_edit(lambda index: index["left_out"].clear()), "not said to be left out"),
    "a strange absence": (index_edit(lambda index: index["left_out"].update({"1" * 64: "run"})), "nothing names it"),
    "index is no JSON": (lambda members: members.__setitem__("budwood-release.json", b"[" * 10**5), "cannot be read"),
    "a key twice": (
        lambda members: members.__setitem__("budwood-release.json", b'{"format": 1, ' + members["budwood-release.json"][1:]),
        "occurs twice",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_bad_54_a_changed_archive_is_refused_and_changes_nothing(
    nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path, edit: str
) -> None:
    change, words = EDITS[edit]
    export(nursery, row, tmp_path / "out.tar")
    assert words in refusal(other, rewritten(tmp_path / "out.tar", change))


def test_bad_57_parts_of_two_releases_are_no_third(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path) -> None:
    """Both are whole; the second's adapter in the place of the first's is no part of the release."""
    export(nursery, row, tmp_path / "out.tar")
    second = nursery.store.manifest(nursery.release("support", 1).digest).body["result"]["digest"]
    first = nursery.store.manifest(row.digest).body["result"]["digest"]
    folder = nursery.store.folder(second)

    def swap(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.startswith(f"objects/{first}/")]:
            del members[name]
        for path in folder.iterdir():
            members[f"objects/{second}/{path.name}"] = path.read_bytes()
        index = json.loads(members["budwood-release.json"])
        index["objects"] = [second if digest == first else digest for digest in index["objects"]]
        members["budwood-release.json"] = json.dumps(index).encode()

    assert "is no part of release" in refusal(other, rewritten(tmp_path / "out.tar", swap))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.XHDTYPE, "an extended header"),
        (tarfile.GNUTYPE_LONGNAME, "an extended header"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
    ],
)
def test_bad_55_only_plain_files_are_read(
    nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path, kind: bytes, words: str
) -> None:
    export(nursery, row, tmp_path / "out.tar")
    assert words in refusal(other, with_special(tmp_path / "out.tar", kind))


def test_bad_55_what_is_no_such_tar_is_refused(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path) -> None:
    export(nursery, row, tmp_path / "out.tar")
    data = (tmp_path / "out.tar").read_bytes()
    twice = io.BytesIO()
    header = tarfile.TarInfo("a")
    twice.write(header.tobuf(tarfile.USTAR_FORMAT) * 2 + bytes(1024))
    huge = tarfile.TarInfo("a")
    huge.size = 8**11 - 1
    cases = {
        "nothing": (b"", "is no tar file"),
        "gzip": (gzip.compress(data), "has no tar header"),
        "cut": (data[:-2000], "cut off"),
        "half a block": (data[:300], "is no tar file"),
        "more": (data + b"PK", "bytes behind its last member"),
        "twice": (twice.getvalue(), "is taken"),
        "huge": (huge.tobuf(tarfile.USTAR_FORMAT) + bytes(1024), "cut off inside"),
        "zeros": (bytes(1 << 16), "bytes behind its last member"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / "bad.tar").write_bytes(content)
        assert words in refusal(other, tmp_path / "bad.tar"), name
    (tmp_path / "link.tar").symlink_to(tmp_path / "out.tar")
    assert "neither an archive nor" in refusal(other, tmp_path / "link.tar")


def test_a_changed_layout_is_refused(nursery: Nursery, row: ReleaseRow, other: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(nursery, row, out, "oci")
    blobs = out / "blobs" / "sha256"
    manifest = json.loads(out.joinpath("index.json").read_bytes())["manifests"][0]
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    model = json.loads((blobs / manifest["digest"].removeprefix("sha256:")).read_bytes())
    assert model["annotations"]["dev.budwood.release"] == row.digest
    assert {layer["mediaType"].rpartition(".")[2] for layer in model["layers"]} == {"tar"}
    (blobs / ("0" * 64)).write_bytes(b"extra")
    assert "which nothing names" in refusal(other, out)
    (blobs / ("0" * 64)).unlink()
    layer = blobs / model["layers"][-1]["digest"].removeprefix("sha256:")
    data = layer.read_bytes()
    layer.write_bytes(data[:-1] + b"\x01")
    assert "of other bytes than its digest says" in refusal(other, out)
    layer.unlink()
    assert "is missing" in refusal(other, out)
    (tmp_path / "blob").write_bytes(data)
    layer.symlink_to(tmp_path / "blob")
    assert "is no plain file" in refusal(other, out)
    layer.unlink()
    layer.write_bytes(data)
    assert take(other, out).version == 2
