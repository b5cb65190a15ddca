"""The system message that training put before each row is put before each conversation that brings none."""

from typing import Any

import httpx
import pytest

ASKED = {"role": "user", "content": "Where is my parcel?"}


@pytest.mark.parametrize(
    ("sent", "rendered"),
    [
        ([ASKED], [{"role": "system", "content": "Be brief."}, ASKED]),
        ([{"role": "system", "content": "Be long."}, ASKED], [{"role": "system", "content": "Be long."}, ASKED]),
        ([{"role": "developer", "content": "Be long."}, ASKED], [{"role": "system", "content": "Be long."}, ASKED]),
    ],
)
def test_the_bound_system_message_comes_first_unless_one_is_sent(
    nursery: Any, sent: list[dict[str, str]], rendered: list[dict[str, str]]
) -> None:
    nursery.promote(nursery.release("support", 0, system="Be brief."))
    soil = nursery.soil
    prompt = soil.template.encode_prompt(rendered)
    tokens, _ = soil.reference(0, prompt, 16)
    with nursery.serving() as server:
        body = {"model": "support", "messages": sent}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["usage"]["prompt_tokens"] == len(prompt)
    assert answer["choices"][0]["message"]["content"] == soil.text(tokens)
