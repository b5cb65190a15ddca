"""What a recipe trains is held against the backend that it names, before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from budwood.errors import ReleaseError
from budwood.pipeline.servability import check_recipe, problems_of
from budwood.recipe import Recipe, recipe_from_mapping


def recipe(train: dict[str, Any], *, backend: str = "vllm", rank: int = 16) -> Recipe:
    made = recipe_from_mapping({"name": "support", "source": [{"path": "rows.jsonl"}], "train": train}, folder=Path("."))
    serve = made.serve.model_copy(update={"backend": backend, "vllm_max_lora_rank": rank})
    return made.model_copy(update={"serve": serve})


@pytest.mark.parametrize(
    ("train", "method", "words"),
    [
        ({"dora": True}, "lora", "DoRA"),
        ({"token_rows": [5]}, "lora", "rows of tokens"),
        ({"rank": 12, "init": "pissa"}, "lora", "rank 24, vLLM takes 16"),
        ({"rank": 8, "rank_pattern": {"q_proj": 32}}, "lora", "rank 32"),
        ({"bits": 8}, "qlora", "8 bits"),
    ],
)
def test_what_vllm_would_not_serve_is_refused(train: dict[str, Any], method: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        check_recipe(recipe(train), method)
    check_recipe(recipe(train, backend="embedded"), method)
    check_recipe(recipe(train), "full")


def test_what_it_serves_is_not() -> None:
    assert problems_of(recipe({"rank": 16}), "lora") == []
    check_recipe(recipe({"rank": 64}, rank=64), "lora")
    check_recipe(recipe({"rank": 8, "alpha_pattern": {"q_proj": 32}}), "lora")
