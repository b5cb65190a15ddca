"""Answers on the real engine, on a base of two tiny layers, against the plain path without cache or batch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from budwood.engine.base import BaseRef, load_base, resolve_base
from budwood.engine.chat import chat_template
from budwood.engine.generate import reference_generate
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, new_adapter, save_adapter
from budwood.errors import DataError, EvaluationError
from budwood.evaluate.answering import Answerers
from budwood.evaluate.suite import Case, Decoding

WORDS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|unk|>", *[f"w{number}" for number in range(59)]]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ ' <|end|>' }}{% endif %}{{ ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)
GREEDY = Decoding(temperature=0.0, max_new_tokens=6, seed=0)
CASES = [
    Case(f"{number:064x}", str(number), ({"role": "user", "content": f"w{number} w{number + 7}"},), "w1", {})
    for number in range(5)
]


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> BaseRef:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers
        tokenizer_object=words,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return resolve_base(str(folder))


@pytest.fixture(scope="module")
def adapter(ref: BaseRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = _adapter(ref)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(made, folder, base_id="tiny", revision=None)
    return folder


def _adapter(ref: BaseRef) -> Adapter:
    model = load_base(ref).model
    made = new_adapter(model, LoraConfig(rank=4, alpha=8.0, rslora=False, dropout=0.0, targets=("q_proj", "down_proj")), seed=0)
    for pair in made.pairs.values():
        torch.nn.init.normal_(pair.b, std=0.5, generator=torch.Generator().manual_seed(3))
    return made


def by_reference(ref: BaseRef, adapter: Adapter | None) -> list[str]:
    base = load_base(ref)
    template = chat_template(base.tokenizer)
    bank = AdapterBank.attach(base.model)
    slot = -1 if adapter is None else bank.add("one", adapter)
    texts = []
    for case in CASES:
        prompt = template.encode_prompt(case.messages)
        tokens, _ = reference_generate(base, bank, slot, prompt, 6, stop_ids=template.stop_ids)
        texts.append(template.decode([token for token in tokens if token not in template.stop_ids]))
    return texts


def ignore(done: int, total: int) -> None:
    pass


def test_base_and_adapter_answer_from_one_loaded_base_as_they_do_alone(ref: BaseRef, adapter: Path) -> None:
    answerers = Answerers(max_batch=3)
    plain = answerers.of(ref, quantization="none", precision="float32", adapter=None)
    tuned = answerers.of(ref, quantization="none", precision="float32", adapter=adapter)
    seen: list[tuple[int, int]] = []
    before = plain(CASES, GREEDY, ignore)
    answers = tuned(CASES, GREEDY, lambda done, total: seen.append((done, total)))
    assert [answer.output for answer in before] == by_reference(ref, None)
    assert [answer.output for answer in answers] == by_reference(ref, _adapter(ref))
    assert [answer.output for answer in before] != [answer.output for answer in answers]
    assert [answer.output for answer in plain(CASES, GREEDY, ignore)] == [answer.output for answer in before]
    assert seen[-1] == (5, 5)
    for answer in answers:
        assert answer.finish in ("stop", "length")
        assert answer.tokens <= 6
        assert answer.seconds >= 0
        assert answer.first_token_s > 0


def test_a_case_with_tools_is_asked_with_them(ref: BaseRef) -> None:
    # This base's template writes no tools, so a case that has some cannot be asked in silence.
    answer = Answerers().of(ref, quantization="none", precision="float32", adapter=None)
    tool = {"type": "function", "function": {"name": "w3"}}
    with pytest.raises(DataError, match="leaves out the name of function 1 of the tools"):
        answer([replace(CASES[0], tools=(tool,))], GREEDY, ignore)


def test_sampled_answers_depend_on_case_and_seed_alone(ref: BaseRef) -> None:
    answer = Answerers(max_batch=4).of(ref, quantization="none", precision="float32", adapter=None)
    warm = replace(GREEDY, temperature=2.0)
    together = [one.output for one in answer(CASES, warm, ignore)]
    alone = [answer([case], warm, ignore)[0].output for case in CASES]
    assert together == alone
    assert together != [one.output for one in answer(CASES, replace(warm, seed=1), ignore)]
    twins = [replace(CASES[0], case_id=f"{number:064x}") for number in range(8)]
    assert len({one.output for one in answer(twins, warm, ignore)}) > 1


def test_an_answer_never_runs_past_the_context(ref: BaseRef) -> None:
    answer = Answerers().of(ref, quantization="none", precision="float32", adapter=None)
    long = replace(CASES[0], messages=({"role": "user", "content": " ".join(["w5"] * 26)},))
    (found,) = answer([long], replace(GREEDY, max_new_tokens=20), ignore)
    assert found.tokens <= 4
    full = replace(CASES[0], messages=({"role": "user", "content": " ".join(["w5"] * 40)},))
    with pytest.raises(EvaluationError) as error:
        answer([full], GREEDY, ignore)
    assert str(error.value) == (
        "The prompt of case 00000000 has 42 tokens, which fill the context of 32. In the test split.\n"
        "    Lower [prepare] max_tokens, so that such rows are rejected with a record."
    )
