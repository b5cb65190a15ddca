"""Finding, naming and loading bases."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine.tiny import CASES, byte_tokenizer, save_tiny, tiny_model

from budwood.engine.attention import register_attention
from budwood.engine.base import (
    BaseRef,
    hidden_states,
    identify_base,
    load_base,
    load_tokenizer,
    logits,
    resolve_base,
    skeleton,
)
from budwood.engine.chat import chat_template
from budwood.engine.packed import Encoded, pack
from budwood.errors import BaseError

GPT2 = next(case for case in CASES if case.name == "gpt2")
TIED = next(case for case in CASES if case.name == "llama tied")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_base_is_loaded_frozen_and_computes_what_was_saved(tmp_path: Path) -> None:
    ref = resolve_base("tiny", start=save_tiny(tmp_path / "tiny").parent)
    base = load_base(ref)
    assert ref == BaseRef("tiny", (tmp_path / "tiny").resolve(), None)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert (base.quantization, base.dtype, base.device) == ("none", torch.float32, torch.device("cpu"))
    register_attention()
    batch = pack([Encoded((5, 6, 7), (False,) * 3)])
    saved = tiny_model(CASES[0], "budwood")
    with torch.no_grad():
        torch.testing.assert_close(
            logits(base.model, hidden_states(base.model, batch)), logits(saved, hidden_states(saved, batch))
        )


def test_identity_says_what_a_base_is(tmp_path: Path) -> None:
    identity = identify_base(resolve_base(str(save_tiny(tmp_path))))
    assert (identity.model_type, identity.architecture) == ("llama", "LlamaForCausalLM")
    assert (identity.layers, identity.hidden, identity.vocab, identity.context) == (3, 32, 96, 64)
    model = tiny_model(CASES[0], "eager")
    assert identity.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert identity.as_body()["weights_digest"] == identity.weights_digest
    gpt2 = identify_base(resolve_base(str(save_tiny(tmp_path / "gpt2", GPT2))))
    assert (gpt2.layers, gpt2.hidden, gpt2.context) == (3, 32, 64)


@pytest.mark.parametrize("template", ["in the tokenizer's config", "in a file of its own", "none", "with the date"])
def test_template_digest_is_that_of_the_template_in_use(tmp_path: Path, template: str) -> None:
    save_tiny(tmp_path)
    separate = tmp_path / "chat_template.jinja"
    if template != "in a file of its own":
        source = separate.read_text()
        separate.unlink()
        if template != "none":
            text = ("{{ strftime_now('%Y') }}" if template == "with the date" else "") + source
            path = tmp_path / "tokenizer_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": text}))
    ref = resolve_base(str(tmp_path))
    assert identify_base(ref).template_digest == chat_template(load_tokenizer(ref)).digest


def test_tokenizer_digest_follows_ids_and_not_the_template(tmp_path: Path) -> None:
    ref = resolve_base(str(save_tiny(tmp_path)))
    before = identify_base(ref)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    after = identify_base(ref)
    assert after.tokenizer_digest == before.tokenizer_digest
    assert after.template_digest != before.template_digest
    byte_tokenizer(rstrip=True).save_pretrained(tmp_path)
    assert identify_base(ref).tokenizer_digest != before.tokenizer_digest


def test_a_sharded_and_a_tied_base_load_whole(tmp_path: Path) -> None:
    sharded = load_base(resolve_base(str(save_tiny(tmp_path / "sharded", shard="20KB"))))
    single = load_base(resolve_base(str(save_tiny(tmp_path / "single"))))
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert sharded.identity.weights_digest == single.identity.weights_digest
    for one, other in zip(sharded.model.parameters(), single.model.parameters(), strict=True):
        assert torch.equal(one, other)
    tied = load_base(resolve_base(str(save_tiny(tmp_path / "tied", TIED))))
    assert tied.model.get_output_embeddings().weight is tied.model.get_input_embeddings().weight  # type: ignore[operator]


def test_nf4_quantises_the_linear_layers_only(tmp_path: Path) -> None:
    base = load_base(resolve_base(str(save_tiny(tmp_path))), quantization="nf4")
    names = {type(module).__name__ for path, module in base.model.named_modules() if path.endswith("q_proj")}
    assert names == {"Linear4bit"}
    assert type(base.model.get_output_embeddings()).__name__ == "Linear"  # type: ignore[operator]
    batch = pack([Encoded((5, 6, 7), (False,) * 3)])
    with torch.no_grad():
        assert bool(hidden_states(base.model, batch).isfinite().all())


def test_a_skeleton_has_shapes_but_no_weights(tmp_path: Path) -> None:
    model = skeleton(resolve_base(str(save_tiny(tmp_path))))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_the_seedling_is_bundled() -> None:
    ref = resolve_base("seedling")
    identity = identify_base(ref)
    assert ref.revision is None
    assert identity.model_type == "llama"
    assert identity.template_digest == chat_template(load_tokenizer(ref)).digest


@pytest.mark.parametrize("id", ["./nowhere", "/nowhere/at/all", "a/b/c", "~nobody-of-this-name/base"])
def test_a_missing_folder_is_refused(id: str, tmp_path: Path) -> None:
    with pytest.raises(BaseError) as caught:
        resolve_base(id, start=tmp_path)
    assert str(caught.value) == f"There is no base folder {id!r}. In [base] id.\n    Check the path."


def test_a_name_of_no_known_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="neither a folder, nor bundled, nor of the form org/name@revision"):
        resolve_base("seedlin", start=tmp_path)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"The base has no config\.json"):
        identify_base(BaseRef("x", tmp_path, None))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "its JSON is broken"), ("[]", "holds no JSON object"), ('{"a": 1, "a": 2}', "a name occurs twice")],
)
def test_a_broken_config_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BaseError, match=reason):
        identify_base(BaseRef("x", tmp_path, None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "bert"}, "The model family 'bert' is not supported"),
        ({"model_type": None}, "The model family None is not supported"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantization_config"),
        ({"num_hidden_layers": 4}, "Weights and config do not fit: 9 tensors are missing"),
        ({"num_hidden_layers": 2}, "Weights and config do not fit: 9 do not belong"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    save_tiny(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(BaseError, match=reason):
        load_base(BaseRef("x", tmp_path, None))


def test_a_base_without_tokenizer_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BaseError, match="The base has no tokenizer files"):
        load_base(BaseRef("x", tmp_path, None))
