"""Safetensors read as data: every kind of damage is refused before a tensor is read."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from budwood.engine import weights
from budwood.engine.weights import read_tensors, weight_files, weights_digest
from budwood.errors import BaseError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def raw(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_the_digest_is_the_same_however_tensors_are_shared_out(tmp_path: Path) -> None:
    single, sharded = tmp_path / "single", tmp_path / "sharded"
    single.mkdir()
    sharded.mkdir()
    save_file(TENSORS, single / "model.safetensors", metadata={"format": "pt"})
    save_file({"b": TENSORS["b"]}, sharded / "one.safetensors")
    save_file({"a": TENSORS["a"]}, sharded / "two.safetensors")
    write_index(sharded, {"a": "two.safetensors", "b": "one.safetensors"})
    digests = {weights_digest(read_tensors(weight_files(folder))) for folder in (single, sharded)}
    assert len(digests) == 1
    save_file(TENSORS | {"a": TENSORS["a"] + 1}, single / "model.safetensors")
    assert weights_digest(read_tensors(weight_files(single))) not in digests
    save_file(TENSORS | {"a": TENSORS["a"].reshape(3, 2)}, single / "model.safetensors")
    assert weights_digest(read_tensors(weight_files(single))) not in digests


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has 0 bytes"),
        (b"\0" * 7, "it has 7 bytes"),
        (struct.pack("<Q", 100) + b"{}", "its header claims 100 bytes, the file has 10"),
        (struct.pack("<Q", 1 << 63) + b"{}", "its header claims 9,223,372,036,854,775,808 bytes"),
        (raw(b"\xff\xfe{}"), "its JSON is broken"),
        (raw(b"not json"), "its JSON is broken"),
        (raw(b"[" * 100_000), "its JSON is broken"),
        (raw([]), "it holds no JSON object"),
        (raw(b'{"a": {}, "a": {}}'), "a name occurs twice"),
        (raw({"a": entry(), "b": entry(offsets=(0, 8))}), "tensor 'b' overlaps another"),
        (raw({"a": entry(offsets=(8, 16))}, b"\0" * 16), "tensor 'a' leaves a gap before it"),
        (raw({"a": entry()}, b"\0" * 9), "its tensors end at byte 77, the file at 78"),
        (raw({"a": entry()}, b"\0" * 7), "its tensors end at byte 77, the file at 76"),
        (raw({"a": entry(shape=(1 << 62, 8))}), "but 8 bytes"),
        (raw({"a": entry(shape=(3,))}), r"tensor 'a' has shape \[3\] and dtype F32, but 8 bytes"),
        (raw({"a": entry(shape=(-2,))}), "a shape or offsets that are no counts"),
        (raw({"a": entry(shape=(2.0,))}), "a shape or offsets that are no counts"),
        (raw({"a": entry(offsets=(0, 8, 8))}), "a shape or offsets that are no counts"),
        (raw({"a": {"dtype": "F32"}}), "lacks dtype, shape or data_offsets"),
        (raw({"a": entry(dtype="F8_E4M3")}), "Tensor 'a' has the dtype 'F8_E4M3'"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os", "its header claims"),  # how a pickle begins
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BaseError, match=reason):
        read_tensors(weight_files(tmp_path))


def test_the_whole_text_of_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(BaseError) as caught:
        read_tensors(weight_files(tmp_path))
    assert str(caught.value) == (
        f"model.safetensors is no whole safetensors file: it has 5 bytes. In {tmp_path}.\n    Download it again, whole."
    )


def test_a_header_of_very_many_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_TENSORS", 2)
    header = {str(number): entry((0,), (0, 0)) for number in range(3)}
    (tmp_path / "model.safetensors").write_bytes(raw(header, b""))
    with pytest.raises(BaseError, match="it has 3 tensors, more than 2"):
        read_tensors(weight_files(tmp_path))


def test_a_pipe_in_place_of_the_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(BaseError, match="it is no ordinary file"):
        read_tensors(weight_files(tmp_path))


def test_pickles_are_named_and_never_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(BaseError) as caught:
        weight_files(tmp_path)
    assert str(caught.value) == (
        "The base has its weights as pickles only (pytorch_model.bin), which can run code and are never read. "
        f"In {tmp_path}.\n"
        "    Convert them: load once in a safe place and call save_pretrained(..., safe_serialization=True)."
    )


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"The folder has no weights \(\*\.safetensors\)"):
        weight_files(tmp_path)


def test_two_files_without_an_index_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file(TENSORS, tmp_path / f"{name}.safetensors")
    with pytest.raises(BaseError, match=r"has 2 weight files .* but no model.safetensors.index.json"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        ({"a": "one.safetensors", "b": "gone.safetensors"}, "1 of 2 weight files are missing, first 'gone.safetensors'"),
        ({"a": "../one.safetensors"}, "1 of 1 weight files are missing"),
        ({"a": "one.safetensors", "c": "one.safetensors"}, "1 of 2 tensors are not in the file .* first 'c'"),
        ({}, "has no weight_map"),
        ({"a": 1}, "has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, weight_map: Any, reason: str) -> None:
    save_file(TENSORS, tmp_path / "one.safetensors")
    write_index(tmp_path, weight_map)
    with pytest.raises(BaseError, match=reason):
        weight_files(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file(TENSORS, tmp_path / f"{name}.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    with pytest.raises(BaseError, match=r"Tensor '[ab]' occurs in one\.safetensors and in two\.safetensors"):
        read_tensors(weight_files(tmp_path))
