"""[serve]: which backend, and whether it can serve what [train] makes."""

from typing import Any

import pytest
from pydantic import ValidationError

from budwood.recipe import Recipe, ServeSection


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"backend": "vllm"}, "needs either vllm_urls"),
        ({"backend": "vllm", "vllm_urls": ("http://a",), "vllm_python": "p"}, "needs either vllm_urls"),
        ({"vllm_urls": ("http://a",)}, 'no use with backend = "embedded"'),
        ({"backend": "vllm", "vllm_urls": ("ftp://a",)}, "does not begin with http"),
        (
            {"backend": "vllm", "vllm_urls": ("http://a",), "vllm_arguments": ("--x",)},
            "vllm_arguments is of no use with vllm_urls",
        ),
        ({"backend": "vllm", "vllm_python": "p", "vllm_key_env": "KEY"}, "vllm_key_env is of no use with vllm_python"),
        ({"backend": "vllm", "vllm_python": "p", "vllm_max_lora_rank": 24}, "Input should be"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ServeSection(**given)


VLLM = {"backend": "vllm", "vllm_python": "python"}


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"dora": True}, "vLLM does not know DoRA"),
        ({"token_rows": ("<|call|>",)}, "does not know trained token rows"),
        ({"method": "qlora"}, "cannot hold the base as it would be judged"),
        ({"rank": 32}, "rank = 32: it is above"),
        ({"rank": 16, "init": "pissa"}, "rank = 16, which pissa doubles"),
        ({"rank_pattern": {"q_proj": 64}}, "rank = 64: it is above"),
    ],
)
def test_what_vllm_cannot_serve_is_said_before_it_is_trained(train: dict[str, Any], told: str) -> None:
    source = ({"path": "rows.jsonl"},)
    Recipe.model_validate({"name": "x", "source": source, "train": train})
    with pytest.raises(ValidationError, match=told):
        Recipe.model_validate({"name": "x", "source": source, "train": train, "serve": VLLM})


def test_a_full_model_has_no_rank() -> None:
    train = {"method": "full", "rank": 64}
    Recipe.model_validate({"name": "x", "source": ({"path": "rows.jsonl"},), "train": train, "serve": VLLM})
