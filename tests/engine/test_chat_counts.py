"""Counting by words that are known gives what encoding gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from budwood import seedling
from budwood.engine import chat_counts
from budwood.engine.chat_counts import GPT2, WordCounts, ascii_pattern

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
NAMED = {"id": 1, "content": "<tool>", "special": False, "single_word": False, "lstrip": False, "rstrip": False}


def cut_by(pattern: str, **more: Any) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} | more
    return {"type": "Sequence", "pretokenizers": [split, BYTES]}


CUTS: dict[str, dict[str, Any] | None] = {
    "its own": None,
    "gpt2": BYTES | {"use_regex": True},
    "gpt2 as a pattern": cut_by(GPT2),
    "llama3": cut_by(LLAMA3),
    "qwen2": cut_by(QWEN2),
}


def state_with(cut: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((Path(seedling.__file__).parent / "tokenizer.json").read_text(encoding="utf-8"))
    return state | ({"pre_tokenizer": cut} if cut else {}) | more


def made(state: dict[str, Any]) -> tuple[Tokenizer, WordCounts]:
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.encode_special_tokens = True
    return tokenizer, WordCounts(tokenizer, state)


@pytest.fixture(params=CUTS, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, WordCounts]:
    state = state_with(CUTS[request.param])
    assert ascii_pattern(state) is not None
    return made(state)


words = st.sampled_from(
    [
        "it's",
        "DON'T",
        "I'LL",
        "HTTPServer",
        "x_1",
        "A-B",
        "#4",
        "  ",
        "\n",
        "\r\n\r\n",
        "\t",
        "12345",
        "…",
        "naïve",
        "a\u0301",
        "ſ",
        "<tool>",
    ]
)
texts = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(max_codepoint=127), max_size=60),
    st.lists(st.one_of(words, st.text(st.characters(max_codepoint=127), max_size=5)), max_size=20).map("".join),
)


@settings(max_examples=300, deadline=None)
@given(given_texts=st.lists(texts, max_size=6))
def test_counts_are_those_of_encoding(pair: tuple[Tokenizer, WordCounts], given_texts: list[str]) -> None:
    tokenizer, counting = pair
    for text, count in zip(given_texts, counting.counts(given_texts), strict=True):
        assert count == len(tokenizer.encode(text, add_special_tokens=False)), repr(text)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.characters(max_codepoint=127), max_size=60) | st.text(st.sampled_from(" \t\r\n'stAB19_#-z"), max_size=30)
)
def test_pieces_are_those_of_the_tokenizer(pair: tuple[Tokenizer, WordCounts], text: str) -> None:
    tokenizer, counting = pair
    assert tokenizer.pre_tokenizer is not None
    theirs = [text[begin:end] for _, (begin, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert counting._cut(text) == theirs


def test_a_text_that_holds_an_added_token_is_encoded() -> None:
    tokenizer, counting = made(state_with(None, added_tokens=[NAMED | {"id": 7168, "normalized": False}]))
    text = "call <tool> now"
    assert counting.counts([text]) == [len(tokenizer.encode(text, add_special_tokens=False))]


@pytest.mark.parametrize(
    "cut",
    [
        cut_by(LLAMA3, behavior="Removed"),
        cut_by(LLAMA3, invert=True),
        cut_by(r"\p{Han}+|."),
        cut_by(r"[[:alpha:]]+|."),
        cut_by(r"(a+)|."),
        cut_by(r"^a+|."),
        cut_by(r"[a-z&&[^b]]+|."),
        cut_by(r"\p{Lo}+|."),
        cut_by(r"\h+|."),
        cut_by(r"\p{N}{1,3}+|."),
        cut_by(r"(?i:ſ)|."),
        {"type": "Sequence", "pretokenizers": [BYTES, BYTES]},
        BYTES | {"use_regex": True, "add_prefix_space": True},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
    ],
)
def test_what_cuts_otherwise_is_left_to_the_tokenizer(cut: dict[str, Any]) -> None:
    assert ascii_pattern(state_with(cut)) is None


def test_other_models_and_normalizers_are_left_to_the_tokenizer() -> None:
    state = state_with(None)
    assert ascii_pattern(state | {"normalizer": {"type": "Lowercase"}}) is None
    assert ascii_pattern(state | {"model": state["model"] | {"dropout": 0.1}}) is None
    assert ascii_pattern(state | {"model": {"type": "Unigram"}}) is None


def test_what_the_pattern_leaves_out_is_encoded() -> None:
    tokenizer, counting = made(state_with(cut_by(r"\p{L}+")))
    assert counting.counts(["a b, c"]) == [len(tokenizer.encode("a b, c", add_special_tokens=False))]


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_counts, "KEPT", 100)
    tokenizer, counting = made(state_with(None))
    for number in range(50):
        text = " ".join(f"word{number}x{more}" for more in range(10))
        assert counting.counts([text]) == [len(tokenizer.encode(text, add_special_tokens=False))]
    assert len(counting._known) < 120
