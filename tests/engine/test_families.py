"""Packed rows against transformers' own forward pass, row by row, for every family."""

import pytest
import torch
from tests.engine.tiny import CASES, VOCAB, Case, tiny_model
from torch import Tensor, nn

from budwood.engine.attention import register_attention
from budwood.engine.base import head_weight, hidden_states, logit_softcap, logits
from budwood.engine.families import SUPPORTED, check_family, check_settings, context_length
from budwood.engine.loss import supervised_loss
from budwood.engine.packed import Encoded, pack
from budwood.errors import BaseError

LENGTHS = (9, 3, 14, 1, 9, 2, 12)
# Float32: the same sums in another order; the largest values here are about 10.
RELATIVE, ABSOLUTE = 1e-5, 5e-6


def rows(seed: int = 0) -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in LENGTHS:
        ids = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        marks = (torch.rand(length, generator=generator) < 0.6).tolist()
        made.append(Encoded(tuple(ids), tuple(marks)))
    return made


def plain_loss(model: nn.Module, given: list[Encoded]) -> Tensor:
    """One row at a time through transformers' own forward pass with its head, labels and all."""
    total = torch.zeros(())
    for row in given:
        output = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
        for place, marked in enumerate(row.supervised):
            if marked and place > 0:
                total = total + torch.nn.functional.cross_entropy(output[place - 1], torch.tensor(row.ids[place]))
    return total


def packed_loss(model: nn.Module, given: list[Encoded]) -> Tensor:
    batch = pack(given)
    hidden = hidden_states(model, batch)[batch.supervised]
    return supervised_loss(hidden, head_weight(model), batch.targets, softcap=logit_softcap(model))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packed_loss_and_gradients_are_those_of_single_rows(case: Case) -> None:
    register_attention()
    ours, theirs = tiny_model(case, "budwood"), tiny_model(case, "eager")
    loss, expected = packed_loss(ours, rows()), plain_loss(theirs, rows())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    expected.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    found, wanted = gradients(ours), gradients(theirs)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        scale = gradient.abs().max()
        torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=RELATIVE, atol=ABSOLUTE, msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_are_those_of_transformers(case: Case) -> None:
    register_attention()
    ours, theirs = tiny_model(case, "budwood"), tiny_model(case, "eager")
    row = rows()[2]
    with torch.no_grad():
        found = logits(ours, hidden_states(ours, pack([row])))
        wanted = theirs(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
    torch.testing.assert_close(found, wanted, rtol=RELATIVE, atol=ABSOLUTE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_does_not_see_its_neighbours(case: Case) -> None:
    register_attention()
    model = tiny_model(case, "budwood")
    mine, others = rows(0), rows(1)
    with torch.no_grad():
        first = hidden_states(model, pack([mine[0], *others[1:]]))[: LENGTHS[0]]
        second = hidden_states(model, pack([mine[0], *mine[1:]]))[: LENGTHS[0]]
    torch.testing.assert_close(first, second, rtol=0, atol=2e-6)


def test_every_supported_family_is_held_to_transformers() -> None:
    assert {case.model_type for case in CASES} == set(SUPPORTED)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(BaseError) as caught:
        check_family("qwen22", where="config.json")
    assert str(caught.value) == (
        "The model family 'qwen22' is not supported. Nearest: qwen2. In config.json.\n"
        "    Supported: llama, mistral, qwen2, qwen3, gemma2, gemma3_text, phi3, gpt2, gpt_neox, olmo2, mixtral, qwen2_moe."
    )


@pytest.mark.parametrize(
    ("model_type", "settings", "named"),
    [
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("llama", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
    ],
)
def test_a_setting_that_would_be_computed_wrongly_is_refused(model_type: str, settings: dict[str, object], named: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, **settings)
    with pytest.raises(BaseError, match=named):
        check_settings(config, where="config.json")


def test_length_dependent_rotary_tables_are_held_to_the_original_context() -> None:
    from transformers import AutoConfig

    table = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 16,
    }
    shape = {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
    config = AutoConfig.for_model("phi3", **shape, rope_parameters=table, original_max_position_embeddings=16)
    assert context_length(config) == 16


def test_a_row_beyond_the_context_is_refused() -> None:
    register_attention()
    model = tiny_model(CASES[0], "budwood")
    with pytest.raises(BaseError, match="A row has 65 tokens; this base can do 64"):
        hidden_states(model, pack([Encoded((5,) * 65, (False,) * 65)]))
