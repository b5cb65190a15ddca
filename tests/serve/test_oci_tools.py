"""An OCI layout in the hands of others: what ModelPack asks of it, skopeo's copies of it, and a registry in between."""

import json
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Nursery
from tests.serve.test_portable import export, take

from budwood.store import open_store

MODEL = "application/vnd.cncf.model"
CONFIG_KEYS = {"descriptor", "modelfs", "config"}
"""Of ModelPack's config schema: all are required, and there may be no others."""


@pytest.fixture
def layout(nursery: Nursery, tmp_path: Path) -> Path:
    """A layout of a release, with its base's files."""
    row = nursery.release("support", 0, changes={"object": nursery.base_object()})
    export(nursery, row, tmp_path / "layout", "oci", with_base=True)
    return tmp_path / "layout"


def manifest_of(layout: Path) -> dict[str, Any]:
    entries = json.loads(layout.joinpath("index.json").read_bytes())["manifests"]
    assert len(entries) == 1
    found: dict[str, Any] = json.loads(blob(layout, entries[0]).read_bytes())
    return found


def blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    path = layout / "blobs" / "sha256" / str(descriptor["digest"]).removeprefix("sha256:")
    assert path.stat().st_size == descriptor["size"]
    return path


def test_the_manifest_is_modelpacks(layout: Path) -> None:
    manifest = manifest_of(layout)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == f"{MODEL}.manifest.v1+json"
    assert manifest["config"]["mediaType"] == f"{MODEL}.config.v1+json"
    kinds = [layer["mediaType"] for layer in manifest["layers"]]
    assert set(kinds) == {f"{MODEL}.weight.v1.tar", f"{MODEL}.weight.config.v1.tar"}
    assert kinds.count(f"{MODEL}.weight.v1.tar") == 2  # the adapter and the base
    config = json.loads(blob(layout, manifest["config"]).read_bytes())
    assert set(config) == CONFIG_KEYS
    assert set(config["descriptor"]) <= {"name", "version", "revision"}
    # Layers are not compressed, so what they are when unpacked is what they are.
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}


def test_layers_are_plain_tars_that_say_nothing_of_this_machine(layout: Path) -> None:
    for layer in manifest_of(layout)["layers"]:
        with tarfile.open(blob(layout, layer), "r:") as archive:
            members = archive.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}
        place = layer["annotations"]["org.cncf.model.filepath"]
        assert place == "." or all(member.name.startswith(f"{place}/") for member in members)


def skopeo(*arguments: str) -> str:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    done = subprocess.run([program, "--insecure-policy", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_copies_it_and_the_copy_is_taken_in(nursery: Nursery, layout: Path, tmp_path: Path) -> None:
    name = f"oci:{layout}:support-1"
    assert json.loads(skopeo("inspect", "--raw", name)) == manifest_of(layout)
    skopeo("copy", name, f"dir:{tmp_path / 'flat'}")
    skopeo("copy", f"dir:{tmp_path / 'flat'}", f"oci:{tmp_path / 'again'}:other-name")
    taken_in(nursery, layout, tmp_path / "again", tmp_path / "other")


def test_a_registry_gives_back_what_it_was_given(nursery: Nursery, layout: Path, tmp_path: Path, registry: str) -> None:
    place = f"docker://{registry}/models/support:1"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:support-1", place)
    skopeo("copy", "--src-tls-verify=false", place, f"oci:{tmp_path / 'pulled'}:1")
    taken_in(nursery, layout, tmp_path / "pulled", tmp_path / "other")


def taken_in(nursery: Nursery, layout: Path, copy: Path, store: Path) -> None:
    """The copy has the layout's manifest and bytes, and an import of it is the release."""
    assert manifest_of(copy) == manifest_of(layout)
    row = nursery.store.find_release("support@1")
    with open_store(store) as other:
        done = take(other, copy)
        assert (done.name, done.version, done.digest) == ("support", 1, row.digest)
        assert done.base is not None
        assert other.verify().problems == ()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Host and port of a registry of this test's own, as Debian's package docker-registry has it."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log)
        try:
            answers(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def answers(port: int, process: "subprocess.Popen[bytes]") -> None:
    tick = threading.Event()
    for _ in range(600):
        assert process.poll() is None, "the registry ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        tick.wait(0.1)
    raise AssertionError("the registry does not answer")
