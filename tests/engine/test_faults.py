"""Faulty bases: whatever is wrong in the folder, the refusal names the file, and nothing else reaches the terminal."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_base import change_config
from tests.engine.tiny import CASES, Case, save_tiny

from budwood.engine.base import BaseRef, identify_base, load_base, load_tokenizer, skeleton
from budwood.engine.chat import chat_template
from budwood.engine.text_identity import template_file
from budwood.errors import BaseError

Check = Callable[[BaseRef], object]


def refused(folder: Path, check: Check) -> str:
    with pytest.raises(BaseError) as caught:
        check(BaseRef("x", folder, None))
    assert str(folder) in caught.value.where
    return caught.value.what


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "abc"}, "Field 'hidden_size' expected int, got str (value: 'abc')."),
        ({"num_hidden_layers": 2.5}, "Field 'num_hidden_layers' expected int, got float (value: 2.5)."),
        ({"vocab_size": None}, "Field 'vocab_size' expected int, got NoneType (value: None)."),
        ({"rope_scaling": "x"}, "Field 'rope_parameters' with value 'x'"),
        ({"rope_scaling": {"rope_type": "zzz"}}, "config.json cannot be used: KeyError: 'zzz'."),
        ({"num_attention_heads": 7}, "The hidden size (32) is not a multiple of the number of attention heads (7)."),
        ({"num_attention_heads": 0}, "config.json has impossible values: num_attention_heads = 0."),
        ({"num_key_value_heads": 0, "vocab_size": -1}, "impossible values: vocab_size = -1, num_key_value_heads = 0."),
        ({"hidden_size": -32}, "config.json has impossible values: hidden_size = -32."),
        ({"num_hidden_layers": 10**7}, "config.json has impossible values: num_hidden_layers = 10,000,000."),
        ({"architectures": 5}, "config.json has impossible values: architectures = 5."),
        ({"hidden_act": "nonsense"}, "config.json cannot be used: KeyError: 'nonsense'."),
    ],
)
@pytest.mark.parametrize("check", [identify_base, skeleton])
def test_a_config_with_an_impossible_value(tmp_path: Path, changes: dict[str, Any], said: str, check: Check) -> None:
    save_tiny(tmp_path)
    change_config(tmp_path, **changes)
    assert said in refused(tmp_path, check)


def test_weights_of_other_shapes_are_found_by_their_headers(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    change_config(tmp_path, intermediate_size=50)
    assert refused(tmp_path, identify_base) == (
        "Weights and config do not fit: model.layers.0.mlp.down_proj.weight is (32, 48), needs (32, 50); "
        "model.layers.0.mlp.gate_proj.weight is (48, 32), needs (50, 32) and 7 more."
    )


def test_weights_of_other_shapes_are_refused_in_few_words_when_they_are_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path)
    known = identify_base(BaseRef("x", tmp_path, None))
    change_config(tmp_path, intermediate_size=50)
    capfd.readouterr()
    said = refused(tmp_path, lambda ref: load_base(ref, identity=known))
    assert said == "Weights and config do not fit: 9 have another shape, first model.layers.0.mlp.down_proj.weight."
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_bases_of_every_family_pass(tmp_path: Path, case: Case) -> None:
    identify_base(BaseRef("x", save_tiny(tmp_path, case), None))


def test_names_without_the_models_prefix_are_compared_too(tmp_path: Path) -> None:
    """As in GPT-2's own files."""
    from safetensors.torch import load_file, save_file

    save_tiny(tmp_path, next(case for case in CASES if case.name == "gpt2"))
    path = tmp_path / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}, path)
    identify_base(BaseRef("x", tmp_path, None))
    change_config(tmp_path, n_inner=50)
    assert "h.0.mlp.c_fc.bias is (48,), needs (50,)" in refused(tmp_path, identify_base)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", "{", "tokenizer.json cannot be read: its JSON is broken"),
        ("tokenizer.json", "{}", "tokenizer.json holds no tokenizer: Model missing"),
        ("special_tokens_map.json", "{", "special_tokens_map.json cannot be read: its JSON is broken"),
        ("added_tokens.json", "[", "added_tokens.json cannot be read: its JSON is broken"),
        ("tokenizer_config.json", '{"added_tokens_decoder": 5}', "The tokenizer cannot be loaded: "),
    ],
)
def test_a_broken_tokenizer(tmp_path: Path, name: str, text: str, said: str) -> None:
    save_tiny(tmp_path)
    (tmp_path / name).write_text(text)
    assert said in refused(tmp_path, load_tokenizer)


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1 / 0 }}", "division by zero."),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{% for i in range(10 ** 8) %}{% endfor %}", "Range too big."),
        ("{{ 'a' * 10 ** 12 }}", "more than 16,777,216 characters"),
        ("{% if", "unexpected 'end of template'."),
    ],
)
def test_a_template_that_fails(tmp_path: Path, template: str, said: str, separate: bool) -> None:
    save_tiny(tmp_path)
    if separate:
        (tmp_path / "chat_template.jinja").write_text(template)
    else:
        (tmp_path / "chat_template.jinja").unlink()
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    tokenizer = load_tokenizer(BaseRef("x", tmp_path, None))
    with pytest.raises(BaseError) as caught:
        chat_template(tokenizer, where=str(template_file(tmp_path)))
    assert said in caught.value.what
    assert caught.value.where == str(tmp_path / ("chat_template.jinja" if separate else "tokenizer_config.json"))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save_tiny(tmp_path)
    opened = Path.open

    def locked(path: Path, *arguments: Any, **options: Any) -> Any:
        # Root may read anything, so the refusal of the system is played.
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", locked)
    assert refused(tmp_path, identify_base) == f"{name} cannot be read: Permission denied."
