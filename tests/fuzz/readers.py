"""Fuzzes what reads files of strangers: adapters (settings and tensors) and exported releases. Run by test_readers.py.

    python tests/fuzz/readers.py CORPUS -max_total_time=60

Whatever the bytes are, a reader gives a result or one of our own errors; anything else ends the run with the input.
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris
import torch
from safetensors.torch import save

with atheris.instrument_imports(include=["budwood"]):
    from budwood.engine.lora.checkpoint import CONFIG_FILE, TENSOR_FILE, load_adapter
    from budwood.errors import BudwoodError
    from budwood.release.archive import read_archive
    from budwood.release.bundle import read_bundle

SHAPES = {"model.layers.0.self_attn.q_proj": (6, 4), "model.layers.0.mlp.up_proj": (8, 4)}
SETTINGS, TENSORS, ARCHIVE = 0, 1, 2
"""First byte of an input: what the rest stands for."""


def good_settings() -> bytes:
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"], "rank_pattern": {}}
    return json.dumps(fields).encode()


def good_tensors() -> bytes:
    tensors = {}
    for path, (d_out, d_in) in SHAPES.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.ones(2, d_in)
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.ones(d_out, 2)
    return save(tensors)


def good_archive() -> bytes:
    """An archive whose outer form is right; its one object is not, so readers get as far as they can."""
    import io

    from budwood.release.tar_file import add_member, end

    index = {"format": 1, "release": "0" * 64, "name": "a", "version": 1, "objects": ["0" * 64], "left_out": {}, "base": []}
    data = json.dumps({**index, "signed": False}).encode()
    file = io.BytesIO()
    for name, content in (("budwood-release.json", data), (f"objects/{'0' * 64}/manifest.json", b"{}")):
        add_member(file, name, len(content), iter([content]))
    end(file)
    return file.getvalue()


def main() -> None:
    corpus = Path(sys.argv[1])
    for kind, data in ((SETTINGS, good_settings()), (TENSORS, good_tensors()), (ARCHIVE, good_archive())):
        (corpus / f"good-{kind}").write_bytes(bytes([kind]) + data)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        folder, archive = Path(scratch) / "adapter", Path(scratch) / "out.tar"
        folder.mkdir()
        good = {SETTINGS: (folder / CONFIG_FILE, good_settings()), TENSORS: (folder / TENSOR_FILE, good_tensors())}

        def one(data: bytes) -> None:
            if not data:
                return
            kind = data[0] % 3
            try:
                if kind == ARCHIVE:
                    archive.write_bytes(data[1:])
                    read_bundle(read_archive(archive))
                    return
                for other, (path, content) in good.items():
                    path.write_bytes(data[1:] if other == kind else content)
                load_adapter(folder, SHAPES)
            except BudwoodError:
                pass

        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
