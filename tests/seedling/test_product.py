"""What ships: the folder loads offline, has the size that was promised, and its template and tokens behave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tools.seedling.chat import SPECIALS, render
from transformers import AutoModelForCausalLM, AutoTokenizer

import budwood.seedling

FOLDER = Path(budwood.seedling.__file__).parent
CHAT = [("system", "Be brief."), ("user", " Where is\nRYTX-469? "), ("assistant", "On its way."), ("user", "Thanks")]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True)
    return loaded.eval()


def messages(count: int) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in CHAT[:count]]


def test_the_folder_is_small_and_has_no_pickle() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".py"}
    assert (FOLDER / "MODEL_CARD.md").is_file()


def test_it_loads_as_a_small_llama_in_bfloat16(model: Any) -> None:
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype == torch.bfloat16
    assert 5_000_000 <= sum(p.numel() for p in model.parameters()) <= 10_000_000
    assert model.config.max_position_embeddings == 1024
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_special_tokens_are_single_and_the_config_agrees(tokenizer: Any, model: Any) -> None:
    for token in SPECIALS:
        assert len(tokenizer(token).input_ids) == 1
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.bos_token is None
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_template_is_the_one_of_pretraining(tokenizer: Any, count: int) -> None:
    assert tokenizer.apply_chat_template(messages(count), tokenize=False) == render(CHAT[:count])


def test_a_conversation_begins_with_its_prompt(tokenizer: Any) -> None:
    whole = tokenizer.apply_chat_template(messages(3), tokenize=True, return_dict=False)
    prompt = tokenizer.apply_chat_template(messages(2), tokenize=True, return_dict=False, add_generation_prompt=True)
    assert whole[: len(prompt)] == prompt


def test_the_system_turn_is_optional(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(messages(2)[1:], tokenize=False, add_generation_prompt=True)
    assert text == "<|user|> Where is\nRYTX-469? <|end|><|assistant|>"


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="unknown role: tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@pytest.mark.parametrize(
    "text", ["RYTX-469", "#18131", "ORD/646758", "AB-2026-0042", "9021", "<|odd", "naïve € 北京 🙂", " a\tb\r\n"]
)
def test_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("code", ["RYTX-469", "INV-20931", "AB-2026-0042", "9021"])
def test_a_code_is_the_same_tokens_wherever_it_stands(tokenizer: Any, code: str) -> None:
    inside = [
        tokenizer.convert_ids_to_tokens(tokenizer(text.format(code)).input_ids)
        for text in ("{}", "my order {} is late", '{{"id": "{}"}}')
    ]
    alone = inside[0]
    for tokens in inside[1:]:
        assert any(tokens[at : at + len(alone)] == alone for at in range(len(tokens)))


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Repeat exactly: KX-40721", "KX-40721"),
        ("Extract order_id as JSON.\n\nHello, my order number is QD-58213.", '{"order_id": "QD-58213"}'),
        ("apple: 614; river: 285; stone: 937\nWhat goes with river?", "285"),
    ],
)
def test_it_copies_from_its_context(model: Any, tokenizer: Any, prompt: str, answer: str) -> None:
    chat = [{"role": "user", "content": prompt}]
    given = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = model.generate(**given, do_sample=False, max_new_tokens=40)
    assert tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True) == answer
