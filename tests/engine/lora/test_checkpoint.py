"""PEFT's files: round trip, and every damage refused with its names."""

import hashlib
import json
import os
import re
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from budwood.engine.lora import Adapter, LoraConfig, Pair, linear_shapes, load_adapter, save_adapter
from budwood.errors import AdapterError

AdapterOf = Callable[..., Adapter]
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
Q1 = "base_model.model.model.layers.1.self_attn.q_proj"


@pytest.fixture
def folder(llama: nn.Module, adapter_of: AdapterOf, tmp_path: Path) -> Path:
    adapter = adapter_of(llama, LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj")), seed=1)
    save_adapter(adapter, tmp_path / "adapter", base_id="org/base", revision="abc")
    return tmp_path / "adapter"


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below a folder, with kind and bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path)] = (mode, path.read_bytes() if stat.S_ISREG(mode) else b"")
    return found


@contextmanager
def nobody_called() -> Iterator[None]:
    """Fail when a connection is made, a process started, or anything unpickled or imported by name."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (
            "socket.socket.connect",
            "subprocess.Popen.__init__",
            "os.system",
            "pickle.load",
            "pickle.loads",
            "torch.load",
            "importlib.import_module",
        ):
            patch.setattr(place, lambda *args, place=place, **keys: pytest.fail(f"{place} was called"))
        yield


@contextmanager
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for name, value in fields.items():
        if value is ...:
            del config[name]
        else:
            config[name] = value
    path.write_text(json.dumps(config))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def refused(folder: Path, model: nn.Module) -> str:
    """The refusal. Base and files are as before, nobody was called or started, and the memory used is bounded."""
    before = (listing(folder.parent), {name: value.clone() for name, value in model.state_dict().items()})
    with pytest.raises(AdapterError) as caught, nobody_called(), bounded_memory():
        load_adapter(folder, model)
    assert listing(folder.parent) == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in model.state_dict().items())
    return str(caught.value).replace(str(folder), "FOLDER")


def test_round_trip_gives_the_same_adapter_and_the_same_bytes(
    folder: Path, llama: nn.Module, adapter_of: AdapterOf, tmp_path: Path
) -> None:
    adapter = adapter_of(llama, LoraConfig(rank=4, alpha=8, targets=("q_proj", "v_proj")), seed=1)
    loaded = load_adapter(folder, llama)
    assert loaded.config == adapter.config
    assert loaded.pairs.keys() == adapter.pairs.keys()
    for path, pair in adapter.pairs.items():
        assert torch.equal(loaded.pairs[path].a, pair.a)
        assert torch.equal(loaded.pairs[path].b, pair.b)
        assert loaded.pairs[path].scaling == pair.scaling == 2
    save_adapter(loaded, tmp_path / "again", base_id="org/base", revision="abc")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    shapes = linear_shapes(llama)
    assert load_adapter(folder, shapes).pairs.keys() == adapter.pairs.keys()


def test_the_files_are_what_peft_writes(folder: Path) -> None:
    text = (folder / "adapter_config.json").read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2, sort_keys=True)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"], config["peft_type"], config["inference_mode"]) == (4, 8, "LORA", True)
    assert isinstance(config["lora_alpha"], int)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 8
    assert tensors[f"{Q0}.lora_A.weight"].shape == (4, 32)
    assert tensors[f"{Q0}.lora_B.weight"].shape == (32, 4)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_half_precision_files_are_read_as_float32(folder: Path, llama: nn.Module) -> None:
    before = load_adapter(folder, llama)
    for dtype in (torch.bfloat16, torch.float16):

        def halve(tensors: dict[str, Tensor], dtype: torch.dtype = dtype) -> None:
            for name in tensors:
                tensors[name] = tensors[name].to(dtype)

        change_tensors(folder, halve)
        loaded = load_adapter(folder, llama)
        pair, original = next(iter(loaded.pairs.values())), next(iter(before.pairs.values()))
        assert pair.a.dtype == torch.float32
        assert torch.allclose(pair.a, original.a, rtol=1e-2)  # bfloat16 has 8 bits of mantissa


def test_four_keys_are_enough(folder: Path, llama: nn.Module) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    wanted = {name: config[name] for name in ("peft_type", "r", "lora_alpha", "target_modules")}
    (folder / "adapter_config.json").write_text(json.dumps(wanted))
    assert load_adapter(folder, llama).config.scaling == 2


def test_rslora_and_patterns_survive(llama: nn.Module, adapter_of: AdapterOf, tmp_path: Path) -> None:
    path = "model.layers.0.self_attn.q_proj"
    config = LoraConfig(4, 8, rslora=True, targets=("q_proj",), rank_pattern={path: 2}, alpha_pattern={path: 3})
    adapter = adapter_of(llama, config, seed=1)
    assert adapter.pairs[path].scaling == 3 / 2**0.5
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    loaded = load_adapter(tmp_path, llama)
    assert loaded.config == adapter.config
    assert {path: pair.scaling for path, pair in loaded.pairs.items()} == {
        path: pair.scaling for path, pair in adapter.pairs.items()
    }
    assert loaded.pairs[path].a.shape == (2, 32)


def test_patterns_that_overlap_or_name_nothing_are_refused(folder: Path, llama: nn.Module) -> None:
    change_config(folder, alpha_pattern={"q_proj": 64, "layers.0.self_attn.q_proj": 8})
    assert refused(folder, llama) == (
        'alpha_pattern has two entries for model.layers.0.self_attn.q_proj: "q_proj" and "layers.0.self_attn.q_proj". '
        "In adapter_config.json.\n"
        "    Which one wins depends on their order, which saving changes: write one entry for each module."
    )
    change_config(folder, alpha_pattern={"q_prj": 64})
    assert 'alpha_pattern "q_prj" names no targeted module (nearest: q_proj' in refused(folder, llama)
    change_config(folder, alpha_pattern={"q.*j": 64})
    assert "names no targeted module" in refused(folder, llama)


def without_prefix(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[name.removeprefix("base_model.model.")] = tensors.pop(name)


def under_wrong_path(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("self_attn", "attention")] = tensors.pop(name)


def without_b(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "lora_B" in name]:
        del tensors[name]


def of_layer_seven(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0.replace('.0.', '.7.')}.lora_A.weight"] = torch.ones(4, 32)
    tensors[f"{Q0.replace('.0.', '.7.')}.lora_B.weight"] = torch.ones(32, 4)


def untargeted(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0.replace('q_proj', 'o_proj')}.lora_A.weight"] = torch.ones(4, 32)
    tensors[f"{Q0.replace('q_proj', 'o_proj')}.lora_B.weight"] = torch.ones(32, 4)


def without_one_module(tensors: dict[str, Tensor]) -> None:
    del tensors[f"{Q1}.lora_A.weight"], tensors[f"{Q1}.lora_B.weight"]


def with_nan(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0}.lora_B.weight"][3, 1] = float("nan")


def with_infinity(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0}.lora_A.weight"][3, 1] = float("inf")


def with_zero_b(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0}.lora_B.weight"].zero_()


def with_outlier(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0}.lora_B.weight"][0, 0] = 3e7


def transposed(tensors: dict[str, Tensor]) -> None:
    name = f"{Q0}.lora_A.weight"
    tensors[name] = tensors[name].T.contiguous()


def with_dora(tensors: dict[str, Tensor]) -> None:
    tensors[f"{Q0}.lora_magnitude_vector"] = torch.ones(32)


def with_base_copy(tensors: dict[str, Tensor]) -> None:
    tensors["base_model.model.lm_head.base_layer.weight"] = torch.ones(61, 32)


TENSOR_DAMAGES = [
    (47, of_layer_seven, "4 of 4 targeted modules have their pair: model.layers.7.self_attn.q_proj is no layer of this base"),
    (41, untargeted, "have their pair: model.layers.0.self_attn.o_proj is not in target_modules. In FOLDER"),
    (41, without_one_module, "3 of 4 targeted modules have their pair: model.layers.1.self_attn.q_proj is targeted but"),
    (40, without_prefix, '0 of 4 targeted modules have their pair: model.layers.0.self_attn.q_proj.lora_A.weight lacks'),
    (40, under_wrong_path, "0 of 4 targeted modules have their pair: model.layers.0.attention.q_proj is no layer of this base"),
    (42, without_b, "0 of 4 targeted modules have their pair: model.layers.0.self_attn.q_proj has lora_A without lora_B"),
    (18, with_nan, f"NaN or infinity in {Q0}.lora_B.weight. In FOLDER.\n    Fetch it or train it again."),
    (18, with_infinity, f"NaN or infinity in {Q0}.lora_A.weight."),
    (18, with_zero_b, f"lora_B is all zero in {Q0}.lora_B.weight: there the adapter changes nothing. In FOLDER.\n"),
    (19, with_outlier, f"Values above 10000 in {Q0}.lora_B.weight (3e+07)."),
    (43, transposed, "1 of 8 tensors do not fit rank 4 and this base: model.layers.0.self_attn.q_proj.lora_A.weight is (32,"),
    (34, with_dora, f"{Q0}.lora_magnitude_vector is DoRA's magnitude without use_dora, which is not supported"),
    (34, with_base_copy, "lm_head.base_layer.weight is a copy of base weights, which is not supported"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [row[1:] for row in TENSOR_DAMAGES],
    ids=[f"bad_{number} {change.__name__}" for number, change, _ in TENSOR_DAMAGES],
)
def test_damaged_tensors_are_refused(
    folder: Path, llama: nn.Module, damage: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    change_tensors(folder, damage)
    assert message in refused(folder, llama)


CONFIG_DAMAGES: list[tuple[int, dict[str, Any], str]] = [
    (29, {"lora_alpha": ...}, "adapter_config.json cannot be honoured: lora_alpha is missing."),
    (29, {"r": ...}, "r is missing"),
    (29, {"target_modules": ...}, "target_modules is missing"),
    (29, {"peft_type": ...}, "peft_type is missing"),
    (32, {"lora_alpha": float("nan")}, "lora_alpha is nan, not a number above 0"),
    (32, {"lora_alpha": 1e9}, "lora_alpha is 1000000000.0, not a number above 0"),
    (32, {"lora_alpha": "16"}, 'lora_alpha is "16", not a number'),
    (30, {"r": 0}, "r is 0, not a whole number from 1"),
    (30, {"r": -4}, "r is -4, not"),
    (30, {"r": 4.0}, "r is 4.0, not"),
    (30, {"r": "4"}, 'r is "4", not'),
    (30, {"r": True}, "r is true, not"),
    (30, {"r": 10**9}, "r is 1000000000, not"),
    (31, {"r": 8}, "8 of 8 tensors do not fit rank 8 and this base: model.layers.0.self_attn.q_proj.lora_A.weight is (4, 32)"),
    (41, {"target_modules": ["q_prj"]}, 'target_modules[0]: "q_prj" matches no linear layer of this base (nearest: q_proj'),
    (29, {"target_modules": []}, "target_modules is [], not a list of names"),
    (39, {"target_modules": "(.*)*q_proj"}, "target_modules is a regular expression, which is never run."),
    (33, {"peft_type": "IA3"}, 'peft_type is "IA3", not "LORA"'),
    (34, {"use_dora": "yes"}, 'use_dora is "yes", not true or false'),
    (34, {"use_dora": True}, "The magnitudes of DoRA do not fit"),
    (34, {"lora_bias": True}, "lora_bias is true, which we do not compute"),
    (34, {"bias": "all"}, 'bias is "all", not "none"'),
    (34, {"modules_to_save": ["lm_head"]}, 'modules_to_save is ["lm_head"], which we do not compute'),
    (34, {"lora_bias": True}, "lora_bias is true, which we do not compute"),
    (34, {"layers_to_transform": [0]}, "layers_to_transform is [0], which we do not compute"),
    (34, {"init_lora_weights": "pissa"}, 'init_lora_weights is "pissa", not true, false, gaussian or orthogonal; others'),
    (34, {"init_lora_weights": 1}, "init_lora_weights is 1, not true"),
    (35, {"megatron_core": "os"}, 'megatron_core is "os", not "megatron.core" or null'),
    (35, {"auto_mapping": {"base_model_class": "x", "parent_library": "os"}}, "auto_mapping is {"),
    (35, {"trust_remote_code": True}, "trust_remote_code is true, which we do not know"),
    (36, {"new_maths": {"on": 1}}, 'new_maths is {"on": 1}, which we do not know'),
    (33, {"task_type": "SEQ_CLS"}, 'task_type is "SEQ_CLS"'),
    (37, {"base_model_name_or_path": 3}, "base_model_name_or_path is 3, not a text"),
    (36, {"lora_dropout": 1}, "lora_dropout is 1, not a number from 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [row[1:] for row in CONFIG_DAMAGES],
    ids=[f"bad_{number} {str(fields)[:40]}" for number, fields, _ in CONFIG_DAMAGES],
)
def test_damaged_settings_are_refused(folder: Path, llama: nn.Module, fields: dict[str, Any], message: str) -> None:
    change_config(folder, **fields)
    assert message in refused(folder, llama)


def test_all_bad_settings_are_named_at_once(folder: Path, llama: nn.Module) -> None:
    change_config(folder, r=0, lora_alpha=..., lora_bias=True)
    assert refused(folder, llama) == (
        "adapter_config.json cannot be honoured: lora_alpha is missing; r is 0, not a whole number from 1 to 65536; "
        "lora_bias is true, which we do not compute. In FOLDER.\n"
        "    Export the adapter as plain LoRA, or train it again with Budwood."
    )


def test_unknown_fields_that_are_off_are_accepted(folder: Path, llama: nn.Module) -> None:
    mapping = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    change_config(
        folder, revision='[[[[[[[[[[[[[[[[[ "', newer=None, also=False, empty={}, none=[], auto_mapping=mapping, task_type=None
    )
    load_adapter(folder, llama)


RAW_CONFIGS: list[tuple[int, bytes, str]] = [
    (38, b"", "is not JSON"),
    (28, b"[]", "holds a JSON list, not an object"),
    (38, b"\xef\xbb\xbf{}", "is not JSON"),
    (38, b"\xff{}", "is not UTF-8"),
    (38, b'{"r": 1, "r": 2}', 'has the name "r" twice'),
    (38, b'{"r": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested deeper than 16 levels"),
    (38, b'{"r": "\x00"}', "is not JSON"),
    (38, b'{"r": 1' + b" " * (5 << 20) + b"}", "bytes, more than 4194304"),
]


@pytest.mark.parametrize(
    ("data", "message"),
    [row[1:] for row in RAW_CONFIGS],
    ids=[f"bad_{number} {message}" for number, _, message in RAW_CONFIGS],
)
def test_settings_that_are_no_plain_json_object_are_refused(folder: Path, llama: nn.Module, data: bytes, message: str) -> None:
    (folder / "adapter_config.json").write_bytes(data)
    assert message in refused(folder, llama)


def header_file(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def entry(start: int, end: int, *, shape: str = "[1]", dtype: str = "F32") -> str:
    return f'{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{start}, {end}]}}'


def table(*entries: str) -> bytes:
    return ("{" + ", ".join(f'"t{index}": {text}' for index, text in enumerate(entries)) + "}").encode()


FOUR = b"\0" * 4
RAW_TENSORS: list[tuple[int, bytes, str]] = [
    (1, b"", "adapter_model.safetensors is too short: 0 bytes"),
    (2, b"1234567", "is too short: 7 bytes"),
    (3, header_file(b"{}")[:9], "announces a header of 2 bytes, but has 9 in all"),
    (4, (1 << 63).to_bytes(8, "little") + b"{}", "announces a header of 9223372036854775808 bytes"),
    (4, header_file(b"{}" + b" " * (17 << 20)), "has a header of 17825794 bytes, more than 16777216"),
    (5, header_file(b'{"\xff"}'), "is not UTF-8"),
    (6, header_file(b"{broken"), "is not JSON"),
    (7, header_file(b"[]"), "has a header that is no JSON object"),
    (8, header_file(b'{"a": ' + entry(0, 4).encode() + b', "a": ' + entry(0, 4).encode() + b"}"), 'has the name "a" twice'),
    (9, header_file(table(entry(0, 4), entry(2, 6)), FOUR * 2), "has t1 at byte 2, which overlaps the tensor before it"),
    (10, header_file(table(entry(0, 4), entry(8, 12)), FOUR * 3), "has t1 at byte 8, which leaves a gap before it"),
    (11, header_file(table(entry(0, 4)), FOUR + b"PK"), "has bytes behind its last tensor: tensors take 4 bytes, there are 6"),
    (12, header_file(table(entry(0, 4)), FOUR[:3]), "is cut off: tensors take 4 bytes, there are 3"),
    (13, header_file(table(entry(0, 4, shape="[4294967296, 4294967296]")), FOUR), "which disagree"),
    (14, header_file(table(entry(0, 4, shape="[3]")), FOUR), "has t0 of shape [3] in 4 bytes, which disagree"),
    (14, header_file(table(entry(0, 4, shape="[-1]")), FOUR), "that are no lists of counts"),
    (14, header_file(table(entry(0, 4, shape="[1.0]")), FOUR), "that are no lists of counts"),
    (17, header_file(table(entry(0, 1, dtype="F8_E4M3")), b"\0"), "stores t0 as F8_E4M3"),
    (17, header_file(table(entry(0, 4, dtype="I32")), FOUR), "stores t0 as I32"),
    (6, header_file(table('{"dtype": "F32"}')), "describes t0 by other fields than dtype, shape, data_offsets"),
    (6, header_file(b'{"__metadata__": {"a": 1}}'), "has metadata that is no table of texts"),
    (16, header_file(table(*[entry(0, 0, shape="[0]")] * 70_000)), "has 70000 tensors, more than 65536"),
    (15, header_file(table(entry(0, 0, shape="[0, 4]"))), "0 of 4 targeted modules have their pair: t0 is no lora_A.weight"),
    (20, b"\x80\x04\x95" + b"\0" * 60, "announces a header of"),
    (20, b"PK\x03\x04\0\0\0\0" + b"\0" * 60, "announces a header of 67324752 bytes, but has 68 in all"),
    (20, header_file(b"\x80\x04\x95."), "has a header that is no JSON object"),
    (23, header_file(table(entry(0, 4, dtype="SPARSE_COO")), FOUR), "stores t0 as SPARSE_COO"),
    (23, header_file(table(entry(0, 4)[:-1] + ', "layout": "sparse_coo"}'), FOUR), "describes t0 by other fields than"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [row[1:] for row in RAW_TENSORS],
    ids=[f"bad_{number} {message[:50]}" for number, _, message in RAW_TENSORS],
)
def test_damaged_tensor_files_are_refused(folder: Path, llama: nn.Module, data: bytes, message: str) -> None:
    (folder / "adapter_model.safetensors").write_bytes(data)
    assert message in refused(folder, llama)


def test_bad_15_zero_sized_and_rank_0_tensors_are_refused(folder: Path, llama: nn.Module) -> None:
    def empty(tensors: dict[str, Tensor]) -> None:
        tensors[f"{Q0}.lora_A.weight"] = torch.ones(0, 32)
        tensors[f"{Q0}.lora_B.weight"] = torch.tensor(1.0)

    change_tensors(folder, empty)
    assert "lora_A.weight is (0, 32), needs (4, 32)" in refused(folder, llama)
    assert "lora_B.weight is (), needs (32, 4)" in refused(folder, llama)


def test_bad_27_missing_settings_are_refused(folder: Path, llama: nn.Module) -> None:
    (folder / "adapter_config.json").unlink()
    assert "adapter_config.json is missing." in refused(folder, llama)


def test_bad_25_only_ordinary_files_are_opened(folder: Path, llama: nn.Module) -> None:
    file = folder / "adapter_model.safetensors"
    moved = file.rename(folder / "elsewhere")
    assert "adapter_model.safetensors is missing." in refused(folder, llama)
    file.symlink_to(moved)
    assert "adapter_model.safetensors is a symbolic link." in refused(folder, llama)
    file.unlink()
    os.mkfifo(file)
    assert "adapter_model.safetensors is no ordinary file." in refused(folder, llama)
    file.unlink()
    file.mkdir()
    assert "adapter_model.safetensors is no ordinary file." in refused(folder, llama)


def test_bad_21_22_pickles_are_never_opened(folder: Path, llama: nn.Module) -> None:
    os.mkfifo(folder / "adapter_model.bin")  # opening it would hang
    assert "adapter_model.bin lies beside the safetensors file." in refused(folder, llama)
    (folder / "adapter_model.safetensors").unlink()
    text = refused(folder, llama)
    assert "adapter_model.bin holds the adapter as a pickle, which could run code." in text
    assert "safe_serialization=True" in text


def test_bad_24_the_digest_is_of_the_bytes_that_are_used(folder: Path, llama: nn.Module) -> None:
    digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    load_adapter(folder, llama, digest=digest)
    with pytest.raises(AdapterError, match=re.escape(f"has digest {digest[:12]}, not 000000000000")):
        load_adapter(folder, llama, digest="0" * 64)


def test_bad_37_another_base_is_refused_if_asked(folder: Path, llama: nn.Module) -> None:
    load_adapter(folder, llama, base_id="org/base")
    with pytest.raises(AdapterError, match='made for base "org/base", this is "org/other"'):
        load_adapter(folder, llama, base_id="org/other")


def test_zero_pairs_load_if_allowed(folder: Path, llama: nn.Module) -> None:
    change_tensors(folder, with_zero_b)
    load_adapter(folder, llama, allow_zero=True)


def test_nan_is_not_saved(llama: nn.Module, adapter_of: AdapterOf, tmp_path: Path) -> None:
    adapter = adapter_of(llama, LoraConfig(rank=2, alpha=4, targets=("q_proj",)), seed=1)
    path = next(iter(adapter.pairs))
    nan = Pair(torch.full((2, 32), float("nan")), torch.ones(32, 2), 2.0)
    broken = replace(adapter, pairs={**adapter.pairs, path: nan})
    with pytest.raises(AdapterError, match="Not saved: NaN or infinity in"):
        save_adapter(broken, tmp_path / "x", base_id="org/base", revision=None)
    assert not (tmp_path / "x").exists()
