"""Merged files are the base's own but for the weights that change, and those are what a merge in memory gives."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.lora.conftest import make_adapter
from tests.engine.tiny import CASES, Case, tiny_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from budwood.engine.lora import (
    Adapter,
    LoraConfig,
    base_rows,
    merged_model_files,
    merged_weights,
    new_adapter,
    plain,
    principal_start,
    save_adapter,
    target_paths,
    token_tables,
    with_magnitudes,
)
from budwood.engine.quant import Form, quantize_linears
from budwood.engine.weights import INDEX, read_tensors, weight_files
from budwood.errors import AdapterError

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "merge_memory.py"
GPT2 = next(case for case in CASES if case.model_type == "gpt2")


def made(folder: Path, case: Case = CASES[0], dtype: torch.dtype = torch.bfloat16, shard: str = "20KB") -> nn.Module:
    """Write a base and give it as transformers reads it."""
    tiny_model(case, "eager").to(dtype).save_pretrained(folder, max_shard_size=shard)  # type: ignore[operator]
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return model


def trained(model: nn.Module, **settings: Any) -> Adapter:
    return make_adapter(model, LoraConfig(4, 8, targets=target_paths(model, "all-linear"), **settings), seed=1)


def with_lengths(model: nn.Module, adapter: Adapter) -> Adapter:
    """A trained DoRA: the lengths have left where they began."""
    fresh = with_magnitudes(model, adapter)
    pairs = {
        path: replace(pair, magnitude=pair.magnitude * 1.25) for path, pair in fresh.pairs.items() if pair.magnitude is not None
    }
    return replace(fresh, config=replace(fresh.config, dora=True), pairs=pairs)


def with_tokens(model: nn.Module, adapter: Adapter, named: Sequence[int] | dict[str, list[int]]) -> Adapter:
    """Rows of tokens that are not the base's."""
    tables = token_tables(model)
    assert tables is not None
    rows = base_rows(model, tables.resolve(named, where="test"))
    return replace(adapter, rows={path: replace(one, values=one.values * 1.3 + 0.1) for path, one in rows.items()})


def stored(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in weight_files(folder) for name, tensor in load_file(file).items()}


def resaved(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """What transformers writes of a merge in memory."""
    model.load_state_dict({name: tensor for name, tensor in weights.items() if name.endswith(".weight")}, strict=False)
    model.save_pretrained(folder)  # type: ignore[operator]  # transformers' models have it
    return stored(folder)


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_family_has_the_bytes_of_a_merge_in_memory(case: Case, kind: str, tmp_path: Path) -> None:
    model = made(tmp_path / "base", case)
    adapter = trained(model, rslora=kind == "rslora")
    if kind == "dora":
        adapter = with_lengths(model, adapter)
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    found = stored(tmp_path / "out")
    wanted = resaved(model, merged_weights(model, adapter), tmp_path / "wanted")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == torch.bfloat16 for name in wanted)
    before = stored(tmp_path / "base")
    assert sum(not torch.equal(found[name], before[name]) for name in before) == len(adapter.pairs)


@pytest.mark.parametrize("named", [[0, 17, 90, 95], {"embed_tokens": [3, 4], "lm_head": [95]}], ids=["embedding", "both"])
@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_rows_of_tokens_are_in_every_table_that_uses_them(case: Case, named: Any, tmp_path: Path) -> None:
    if case is CASES[1]:
        named = [0, 17, 90, 95] if isinstance(named, list) else {"lm_head": [0, 95], "embed_tokens": [0, 95]}
    model = made(tmp_path / "base", case)
    adapter = with_tokens(model, trained(model), named)
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    found = stored(tmp_path / "out")
    wanted = resaved(model, merged_weights(model, adapter), tmp_path / "wanted")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_tied_table_is_changed_under_whatever_names_the_files_have_it(tmp_path: Path) -> None:
    model = made(tmp_path / "base", CASES[1], shard="1GB")
    adapter = with_tokens(model, trained(model), [5])
    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    table = tensors.pop("model.embed_tokens.weight")
    merged_model_files(tmp_path / "base", adapter, tmp_path / "wanted")
    wanted = stored(tmp_path / "wanted")["model.embed_tokens.weight"]
    assert not torch.equal(wanted, table)
    for place, names in enumerate((["lm_head"], ["lm_head", "model.embed_tokens"])):
        save_file(tensors | {f"{name}.weight": table.clone() for name in names}, file, metadata={"format": "pt"})
        merged_model_files(tmp_path / "base", adapter, tmp_path / str(place))
        found = stored(tmp_path / str(place))
        assert all(torch.equal(found[f"{name}.weight"], wanted) for name in names)
    save_file(tensors, file)
    with pytest.raises(AdapterError, match=r"lacks lm_head\.weight, model\.embed_tokens\.weight"):
        merged_model_files(tmp_path / "base", adapter, tmp_path / "out")


@pytest.mark.parametrize("form", ["nf4", "int8"])
@pytest.mark.parametrize("case", [CASES[0], GPT2, *CASES[-2:]], ids=lambda case: case.name)
def test_onto_expanded_weights_as_in_memory(case: Case, form: Form, tmp_path: Path) -> None:
    model = made(tmp_path / "base", case)
    first = next(iter(target_paths(model, "all-linear")))
    adapter = make_adapter(model, LoraConfig(4, 8, targets=(first,)), seed=1)
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out", onto=form)
    few = made(tmp_path / "base", case)
    quantize_linears(few, form)
    found = stored(tmp_path / "out")
    wanted = resaved(model, merged_weights(few, adapter), tmp_path / "wanted")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_the_merge_leaves_alone_is_the_base_byte_for_byte(tmp_path: Path) -> None:
    model = made(tmp_path / "base")
    (tmp_path / "base" / "vocab.txt").write_text("made up")
    adapter = trained(model)
    nothing = replace(adapter, pairs={path: replace(pair, b=torch.zeros_like(pair.b)) for path, pair in adapter.pairs.items()})
    merged_model_files(tmp_path / "base", nothing, tmp_path / "out")
    before, after = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("base", "out"))
    assert INDEX in before
    assert after == before
    merged_model_files(tmp_path / "base", adapter, tmp_path / "more")
    entries = [
        [replace(entry, file=Path(entry.file.name)) for entry in read_tensors(weight_files(tmp_path / name))]
        for name in ("base", "more")
    ]
    assert entries[0] == entries[1]


def test_files_of_a_body_without_its_name_in_front_are_merged(tmp_path: Path) -> None:
    """As GPT-2's own: h.0.attn.c_attn.weight for transformer.h.0.attn.c_attn.weight."""
    model = made(tmp_path / "base", GPT2, shard="1GB")
    adapter = trained(model)
    merged_model_files(tmp_path / "base", adapter, tmp_path / "wanted")
    file = tmp_path / "base" / "model.safetensors"
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    save_file(bare, file.with_name("other.safetensors"), metadata={"format": "pt"})
    file.unlink()
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    wanted, found = stored(tmp_path / "wanted"), load_file(tmp_path / "out" / "model.safetensors")
    assert {f"transformer.{name}" for name in found} == wanted.keys()
    assert all(torch.equal(tensor, wanted[f"transformer.{name}"]) for name, tensor in found.items())


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora", "patterns"])
def test_the_weights_are_those_of_peft(kind: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = made(tmp_path / "base", dtype=torch.float32)
    settings: dict[str, Any] = {"rslora": True} if kind == "rslora" else {}
    if kind == "patterns":
        own = target_paths(model, ["q_proj"])
        settings = {"rank_pattern": dict.fromkeys(own, 2), "alpha_pattern": dict.fromkeys(own, 3.0)}
    adapter = trained(model, **settings)
    if kind == "dora":
        adapter = with_lengths(model, adapter)
    save_adapter(adapter, tmp_path / "adapter", base_id="x", revision=None)
    merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for names that it will drop
        wanted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    assert found.keys() == wanted.keys()
    for name in wanted:  # peft adds up in float32
        assert torch.allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6), name


def test_an_adapter_with_frozen_copies_is_merged_as_what_is_saved_of_it(tmp_path: Path) -> None:
    model = made(tmp_path / "base", dtype=torch.float32)
    fresh = new_adapter(model, LoraConfig(4, 8, targets=target_paths(model, "all-linear")), seed=1)
    start = principal_start(model, fresh, seed=1)
    adapter = replace(start, pairs={path: replace(pair, b=pair.b * 1.5) for path, pair in start.pairs.items()})
    for name, one in (("out", adapter), ("wanted", plain(adapter))):
        merged_model_files(tmp_path / "base", one, tmp_path / name)
    found, wanted = stored(tmp_path / "out"), stored(tmp_path / "wanted")
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-6, atol=1e-7), name


def test_a_base_that_lacks_a_weight_or_is_quantised_is_refused(tmp_path: Path) -> None:
    adapter = trained(made(tmp_path / "base", shard="1GB"))
    file, config = tmp_path / "base" / "model.safetensors", tmp_path / "base" / "config.json"
    whole = load_file(file)
    gone = "model.layers.1.mlp.up_proj.weight"
    save_file({name: tensor for name, tensor in whole.items() if name != gone}, file)
    with pytest.raises(AdapterError, match=f"lacks {gone}"):
        merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    save_file(whole, file)
    told = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": told}))
    with pytest.raises(AdapterError, match="is quantised"):
        merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_full_disk_leaves_nothing_and_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = trained(made(tmp_path / "base"))
    files = weight_files(tmp_path / "base")
    real = Path.open

    class Full:
        """A file on a disk that takes no more."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

    def opened(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = real(path, mode, *given, **named)
        return Full(file) if mode == "xb" and path.name == files[1].name else file

    monkeypatch.setattr(Path, "open", opened)
    size = sum(path.stat().st_size for path in files)
    with pytest.raises(AdapterError, match=rf"No space left on device\. Its weights take {size:,} bytes\.") as caught:
        merged_model_files(tmp_path / "base", adapter, tmp_path / "out")
    assert caught.value.mend == "Nothing was left there. Free some space, then merge again."
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "replace"])
def test_a_kill_leaves_no_model_or_a_whole_one_and_the_next_merge_clears_up(call: str, tmp_path: Path) -> None:
    """Each child kills itself at one more call than the one before, until one lives."""
    adapter = trained(made(tmp_path / "base"))
    number, killed = 0, True
    while killed:
        number += 1
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        killed = dies(lambda out=out: merged_model_files(tmp_path / "base", adapter, out), call, number)  # type: ignore[misc]
        if not out.exists():
            assert killed
            merged_model_files(tmp_path / "base", adapter, out)
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        assert len(stored(out)) == len(stored(tmp_path / "base"))
    assert number > 1


def dies(work: Callable[[], None], call: str, number: int) -> bool:
    """Do the work in a child that kills itself at its `number`th call of a function of `os`; whether it did."""
    child = os.fork()
    if child == 0:
        left, real = [number], getattr(os, call)

        def counted(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)

        setattr(os, call, counted)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_the_memory_is_that_of_a_weight_and_not_of_the_model(tmp_path: Path) -> None:
    """In a process of its own, with the libraries loaded before it is measured."""
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 32, "num_attention_heads": 8}
    model = made(tmp_path / "base", Case("deep", "llama", sizes), shard="1GB")
    save_adapter(trained(model), tmp_path / "adapter", base_id="x", revision=None)
    given = ["--base", str(tmp_path / "base"), "--adapter", str(tmp_path / "adapter"), "--onto", "nf4"]
    done = subprocess.run([sys.executable, str(BENCHMARK), *given], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    (whole,) = (path.stat().st_size for path in weight_files(tmp_path / "base"))
    assert found["most"] < whole / 3, (found, whole)
