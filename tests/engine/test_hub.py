"""Bases from a hub, with the real client against a server on the loopback."""

from pathlib import Path

import pytest
from tests.engine.hub_server import Hub, serving
from tests.engine.tiny import save_tiny

from budwood.engine.base import load_base, resolve_base
from budwood.errors import BaseError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save_tiny(tmp_path_factory.mktemp("hub"))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    return kept | {"pytorch_model.bin": b"pickle", "modeling_tiny.py": b"code", "original/consolidated.safetensors": b"twice"}


def hub(files: dict[str, bytes]) -> Hub:
    return Hub(files, COMMIT, {"main": COMMIT, "v1": COMMIT})


@pytest.mark.parametrize("id", ["org/tiny", "org/tiny@v1", f"org/tiny@{COMMIT}"])
def test_a_revision_is_pinned_to_its_commit(files: dict[str, bytes], tmp_path: Path, id: str) -> None:
    with serving(hub(files)) as served:
        ref = resolve_base(id, cache=tmp_path, endpoint=served.endpoint)
    assert (ref.id, ref.revision) == ("org/tiny", COMMIT)
    assert load_base(ref).identity.revision == COMMIT


def test_pickles_code_and_second_copies_are_not_downloaded(files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(hub(files)) as served:
        ref = resolve_base("org/tiny", cache=tmp_path, endpoint=served.endpoint)
    assert {path.name for path in ref.folder.rglob("*")} == {name for name in files if name in _wanted(files)}
    assert not [path for path in served.asked if "pytorch_model" in path or "modeling" in path or "original" in path]


def _wanted(files: dict[str, bytes]) -> set[str]:
    return {name for name in files if not name.endswith((".bin", ".py")) and "/" not in name}


def test_a_commit_that_was_fetched_needs_no_hub(files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(hub(files)) as served:
        first = resolve_base("org/tiny", cache=tmp_path, endpoint=served.endpoint)
        endpoint = served.endpoint
    assert resolve_base(f"org/tiny@{COMMIT}", cache=tmp_path, endpoint=endpoint).folder == first.folder


@pytest.mark.parametrize("id", ["org/other", "org/tiny@v2"])
def test_what_the_hub_does_not_have_is_refused(files: dict[str, bytes], tmp_path: Path, id: str) -> None:
    with serving(hub(files)) as served, pytest.raises(BaseError) as caught:
        resolve_base(id, cache=tmp_path, endpoint=served.endpoint)
    assert str(caught.value) == (
        f"The hub has no {id!r} that can be read (HTTP 404). In [base] id.\n"
        "    Check name and revision; a gated repository needs HF_TOKEN in the environment."
    )


def test_a_hub_that_cannot_be_reached_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    with serving(hub(files)) as served:
        endpoint = served.endpoint
    with pytest.raises(BaseError, match=r"The hub cannot be reached for 'org/tiny@v1' \(ConnectError\)"):
        resolve_base("org/tiny@v1", cache=tmp_path, endpoint=endpoint)


@pytest.mark.parametrize("id", ["tiny", "org/tiny@", "org/ti ny", "-org/tiny", "org/tiny@a@b/../c"])
def test_other_forms_are_refused(id: str, tmp_path: Path) -> None:
    with pytest.raises(BaseError):
        resolve_base(id, start=tmp_path, cache=tmp_path, endpoint="http://127.0.0.1:9")
