"""Adapters that were trained elsewhere, made into releases: PEFT's files, bound to a base, and judged by nobody yet."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.serve.conftest import Nursery
from typer.testing import CliRunner, Result

from budwood.cli.main import build_app
from budwood.engine.lora import load_adapter, save_adapter
from budwood.engine.probes import read_probes
from budwood.errors import AdapterError, BaseError, BudwoodError, DataError, ReleaseError
from budwood.events import silent
from budwood.identity import digest_bytes
from budwood.pipeline.adopting import Adopted, Adoption, adopt
from budwood.pipeline.exporting import Wish, export_release
from budwood.release.lineage import lineage
from budwood.release.promote import promote
from budwood.serve.loader import Loader


@pytest.fixture
def folder(nursery: Nursery, tmp_path: Path) -> Path:
    """An adapter as PEFT has it on disk."""
    save_adapter(nursery.soil.adapters[0], tmp_path / "peft", base_id="org/base", revision="main")
    return tmp_path / "peft"


def take(nursery: Nursery, folder: Path, name: str = "support", **more: Any) -> Adopted:
    wish = Adoption(name, **{"base": str(nursery.soil.ref.folder), **more})
    return adopt(nursery.store, folder, wish, who="anna", reason="from TRL", report=silent)


def test_it_is_bound_proved_and_not_judged(nursery: Nursery, folder: Path) -> None:
    done = take(nursery, folder)
    row = nursery.store.find_release("support@1")
    body = nursery.store.manifest(row.digest).body
    assert (row.digest, done.named_base, done.modules) == (done.digest, "org/base", len(nursery.soil.adapters[0].pairs))
    assert body["base"]["weights_digest"] == nursery.soil.base.identity.weights_digest
    assert (body["snapshot"], body["report"], body["verdict"], body["run"]) == (None, None, None, done.run)
    run = nursery.store.manifest(done.run).body
    assert run["method"] == "import"
    assert run["files"] == {name: digest_bytes((folder / name).read_bytes()) for name in run["files"]}
    assert len(run["files"]) == 2
    assert run["says"] == {"base": "org/base", "revision": "main", "peft_version": None}
    probes = read_probes(nursery.store.file(row.digest, "probes.json")).probes
    assert all(probe.distance_to_base and probe.distance_to_base > 0.1 for probe in probes)
    assert lineage(nursery.store, row.digest).data is None
    assert any("imported from PEFT files" in line for line in lineage(nursery.store, row.digest).lines())
    assert nursery.store.verify().problems == ()
    with pytest.raises(ReleaseError, match="was never judged"):
        promote(nursery.store, "support@1", who="anna", reason="")
    promote(nursery.store, "support@1", who="anna", reason="", override="the customer's own adapter")
    assert nursery.store.history("support")[-1].override
    loader = Loader(nursery.store, nursery.settings(), [nursery.soil.ref], silent)
    try:
        assert loader.load(row).digest == row.digest
    finally:
        loader.close()


def test_export_and_import_give_the_same_tensors_and_the_same_release(nursery: Nursery, folder: Path, tmp_path: Path) -> None:
    done = take(nursery, folder)
    export_release(nursery.store, nursery.store.find_release("support@1"), tmp_path / "out", Wish("peft"), report=silent)
    first, second = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "out"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = take(nursery, tmp_path / "out", "copy")
    assert again.adapter == done.adapter
    assert take(nursery, folder).version == done.version


def spoilt(folder: Path, name: str) -> None:
    """One damage a case; PEFT loads most of them with a warning or none."""
    config_file, tensor_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    config, tensors = json.loads(config_file.read_bytes()), load_file(tensor_file)
    some = sorted(tensors)[0]
    if name == "a tensor for no layer":
        tensors[some.replace("layers.0", "layers.7")] = tensors[some].clone()
    elif name == "a target without tensors":
        del tensors[some]
        del tensors[some.replace("lora_A", "lora_B")]
    elif name == "another rank":
        config["r"] = 2
    elif name == "NaN":
        tensors[some][0, 0] = float("nan")
    elif name == "a start that changes the base":
        config["init_lora_weights"] = "pissa"
    elif name == "saved modules":
        config["modules_to_save"] = ["lm_head"]
    elif name == "a pickle":
        tensor_file.unlink()
        (folder / "adapter_model.bin").write_bytes(b"x")
        return
    config_file.write_text(json.dumps(config))
    save_file(tensors, tensor_file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a tensor for no layer", "is no layer of this base"),
        ("a target without tensors", "is targeted but has no tensors"),
        ("another rank", "do not fit rank 2"),
        ("NaN", "NaN or infinity"),
        ("a start that changes the base", "init_lora_weights"),
        ("saved modules", "modules_to_save"),
        ("a pickle", "as a pickle"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(nursery: Nursery, folder: Path, name: str, words: str) -> None:
    spoilt(folder, name)
    with pytest.raises(AdapterError, match=words):
        take(nursery, folder)
    assert nursery.store.releases() == []
    assert not [*nursery.store.objects()]


def test_names_bases_and_prompts_that_are_none_are_refused(nursery: Nursery, folder: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], type[BudwoodError], str]] = [
        ({"name": "Support!"}, ReleaseError, "no name of a release"),
        ({"base": str(tmp_path / "nowhere")}, BaseError, "no base folder"),
        ({"prompts": tmp_path / "none.jsonl"}, DataError, "cannot be read"),
    ]
    for more, error, words in cases:
        with pytest.raises(error, match=words):
            take(nursery, folder, **more)
    (tmp_path / "bad.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="no records"):
        take(nursery, folder, prompts=tmp_path / "bad.jsonl")
    (tmp_path / "mute.jsonl").write_text('{"messages": [{"role": "assistant", "content": "x"}]}\n')
    with pytest.raises(DataError, match="asks nothing"):
        take(nursery, folder, prompts=tmp_path / "mute.jsonl")
    assert not [*nursery.store.objects()]


def test_probes_are_chosen_from_the_prompts_that_are_given(nursery: Nursery, folder: Path, tmp_path: Path) -> None:
    # A line separator may stand in a JSON text as it is, and ends no line of JSONL.
    rows = '{"prompt": "alpha", "completion": "x\u2028y"}\n{"prompt": "beta", "completion": "y"}\r\n'
    (tmp_path / "rows.jsonl").write_bytes(rows.encode())
    done = take(nursery, folder, prompts=tmp_path / "rows.jsonl", system="Be brief.")
    template = nursery.soil.template
    wanted = [
        tuple(template.encode_prompt([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]))
        for text in ("alpha", "beta")
    ]
    probes = read_probes(nursery.store.file(done.digest, "probes.json")).probes
    assert sorted(probe.prompt_ids for probe in probes) == sorted(wanted)


def run(nursery: Nursery, *words: str) -> Result:
    return CliRunner().invoke(build_app(), ["release", "import", *words, "--store", str(nursery.store.root)])


def test_the_command_asks_for_what_it_needs(nursery: Nursery, folder: Path, tmp_path: Path) -> None:
    base = str(nursery.soil.ref.folder)
    for words, told in (
        ([str(folder)], "--base"),
        ([str(folder), "--base", base], "--as-name"),
        ([str(tmp_path / "none.tar"), "--base", base], "a release binds its own"),
    ):
        done = run(nursery, *words)
        assert done.exit_code != 0
        assert told in (str(done.exception) + done.output)
    done = run(nursery, str(folder), "--base", base, "--as-name", "support")
    assert done.exit_code == 0, done.output
    assert "not judged yet" in done.output
    assert "--override" in done.output
    assert "its file names the base 'org/base'" in " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "rslora", "patterns", "dora", "bfloat16"])
def test_what_peft_writes_is_taken_in(nursery: Nursery, tmp_path: Path, kind: str) -> None:
    """The release's adapter gives peft's own logits."""
    peft = pytest.importorskip("peft", reason="peft is of the extra [bench]")
    from transformers import AutoModelForCausalLM

    from budwood.engine.lora import AdapterBank

    kinds: dict[str, dict[str, Any]] = {
        "plain": {"target_modules": ["q_proj", "v_proj"]},
        "rslora": {"target_modules": "all-linear", "use_rslora": True},
        "patterns": {
            "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"down_proj": 2},
            "alpha_pattern": {"q_proj": 3},
        },
        "dora": {"target_modules": ["q_proj", "v_proj"], "use_dora": True},
        "bfloat16": {"target_modules": ["q_proj", "v_proj"]},
    }
    torch.manual_seed(0)
    ids = torch.tensor([[5, 9, 77, 3]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(
            AutoModelForCausalLM.from_pretrained(nursery.soil.ref.folder),
            peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **kinds[kind]),
        )
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape) * 0.2)
                if kind == "bfloat16" and "lora_" in name:
                    weight.data = weight.data.to(torch.bfloat16).float()
            theirs = model(ids).logits
        model.save_pretrained(tmp_path / "peft")
    if kind == "bfloat16":
        file = tmp_path / "peft" / "adapter_model.safetensors"
        save_file({name: value.to(torch.bfloat16) for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    done = take(nursery, tmp_path / "peft")
    assert nursery.store.manifest(done.run).body["says"]["peft_version"] == peft.__version__
    from budwood.engine.base import hidden_states, load_base, logits
    from budwood.engine.packed import Encoded, pack

    base = load_base(nursery.soil.ref, dtype=torch.float32)
    bank = AdapterBank.attach(base.model)
    slot = bank.add("it", load_adapter(nursery.store.folder(done.adapter), base.model))
    with torch.no_grad(), bank.use(slot):
        hidden = hidden_states(base.model, pack([Encoded(tuple(ids[0].tolist()), (False,) * 4)]))
        ours = logits(base.model, hidden, torch.arange(4))
    torch.testing.assert_close(ours, theirs[0], rtol=1e-4, atol=1e-4)
    shutil.rmtree(tmp_path / "peft")
