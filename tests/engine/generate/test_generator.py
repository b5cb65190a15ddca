"""The generator on tiny random bases with two adapters that matter.

The reference for parity is a second model: transformers' own eager code with an adapter's delta added to its weights, one
request, no cache. Where it prefers a token by less than 1e-4, another order of the same float32 sums may prefer the other:
such ties end a comparison, are counted, and must be rare.
"""

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from budwood.engine.base import LoadedBase, load_base, resolve_base
from budwood.engine.generate import GenerationError, Generator, Request, generate, reference_generate, score
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, new_adapter, target_paths

VOCAB = 264
CONTEXT = 256
END = 256


@dataclass
class Grown:
    """A base with its bank (slots 0 and 1 in `slots`), and where its files are."""

    base: LoadedBase
    bank: AdapterBank
    slots: list[int]
    folder: Path

    def reference(self, adapter: int | None) -> nn.Module:
        """Transformers' eager model with the delta of adapter 0 or 1 in its weights."""
        model: Any = AutoModelForCausalLM.from_pretrained(self.folder, attn_implementation="eager")
        if adapter is not None:
            for path, pair in self.bank.adapter(f"adapter {adapter}").pairs.items():
                module = model.get_submodule(path)
                delta = pair.delta() if isinstance(module, nn.Linear) else pair.delta().T
                module.weight.data += delta
        evaluated: nn.Module = model.eval()
        return evaluated


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and an end token; the model has a few ids more than it."""
    vocab = {character: place for place, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocab, "<end>": END}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")  # type: ignore[no-untyped-call]


def config_of(family: str) -> PreTrainedConfig:
    # Wide initial weights: a random model must prefer some tokens clearly, or greedy answers hang on rounding.
    shared: dict[str, Any] = {
        "vocab_size": VOCAB,
        "initializer_range": 0.3,
        "bos_token_id": END,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    if family == "gpt2":
        return GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, **shared)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    grouped: dict[str, Any] = {**sizes, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    if family == "gemma2":
        return Gemma2Config(head_dim=8, sliding_window=8, **grouped, **shared)
    return LlamaConfig(**grouped, **shared)


def loud_adapter(base: LoadedBase, rank: int, seed: int) -> Adapter:
    """An adapter whose B is not zero."""
    fresh = new_adapter(base.model, LoraConfig(rank, 8.0, targets=target_paths(base.model, "all-linear")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.1, pair.scaling)
        for path, pair in fresh.pairs.items()
    }
    return Adapter(fresh.config, pairs, fresh.fan_in_fan_out)


@pytest.fixture(scope="module")
def grow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Grown]:
    made: dict[str, Grown] = {}

    def make(family: str) -> Grown:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            torch.manual_seed(1)
            AutoModelForCausalLM.from_config(config_of(family)).save_pretrained(folder)  # type: ignore[no-untyped-call]
            byte_tokenizer().save_pretrained(folder)
            base = load_base(resolve_base(str(folder)))
            bank = AdapterBank.attach(base.model)
            slots = [bank.add(f"adapter {n}", loud_adapter(base, rank, n)) for n, rank in enumerate((4, 7))]
            made[family] = Grown(base, bank, slots, folder)
        return made[family]

    return make


@pytest.fixture
def llama(grow: Callable[[str], Grown]) -> Grown:
    return grow("llama")


def prompts(count: int, *, seed: int = 0, longest: int = 40) -> list[tuple[int, ...]]:
    numbers = random.Random(seed)
    return [tuple(numbers.randrange(END) for _ in range(numbers.randint(1, longest))) for _ in range(count)]


@torch.no_grad()
def check_against(model: nn.Module, prompt: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether each token is the reference's choice; a tie ends the comparison and gives False."""
    text = list(prompt)
    for token in answer:
        best = model(torch.tensor([text])).logits[0, -1].topk(2)
        if int(best.indices[0]) != token:
            assert float(best.values[0] - best.values[1]) < 1e-4, f"token {len(text) - len(prompt)} differs"
            return False
        text.append(token)
    return True


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_mixed_batches_give_what_each_request_gives_alone(grow: Callable[[str], Grown], family: str) -> None:
    grown = grow(family)
    # Small limits, so that requests wait, join in the middle, read prompts in chunks and move between slots.
    generator = Generator(grown.base, grown.bank, max_batch=5, prefill_tokens=16)
    adapters = [None, 0, 1]
    numbers = random.Random(2)
    chosen = [adapters[place % 3] for place in range(24)]
    requests = [
        Request(prompt, -1 if adapter is None else grown.slots[adapter], numbers.randint(1, 24), stop_ids=(END, 7))
        for prompt, adapter in zip(prompts(24), chosen, strict=True)
    ]
    answers = generate(generator, requests)
    references = {adapter: grown.reference(adapter) for adapter in adapters}
    ties = 0
    for request, adapter, answer in zip(requests, chosen, answers, strict=True):
        tokens = answer.tokens if answer.stop_id is None else (*answer.tokens, answer.stop_id)
        ties += not check_against(references[adapter], request.prompt, tokens)
        assert answer.finish == ("stop" if answer.stop_id is not None else "length")
        assert answer.finish == "stop" or len(answer.tokens) == request.max_new_tokens
    assert ties <= 1
    assert len({answer.tokens for answer in answers}) > 12


def test_the_own_reference_is_transformers(llama: Grown) -> None:
    prompt = prompts(1, seed=5)[0]
    for adapter in (None, 0):
        slot = -1 if adapter is None else llama.slots[adapter]
        tokens, gaps = reference_generate(llama.base, llama.bank, slot, prompt, 12)
        assert check_against(llama.reference(adapter), prompt, tokens)
        assert len(gaps) == 12
        assert min(gaps) >= 0


def test_score_and_forced_tokens_give_the_references_logprobs(llama: Grown) -> None:
    prompt, continuation = prompts(1, seed=3)[0], prompts(1, seed=4)[0][:10]
    with torch.no_grad():
        table = llama.reference(1)(torch.tensor([[*prompt, *continuation]])).logits[0].double().log_softmax(-1)
    expected = [float(table[len(prompt) - 1 + place, token]) for place, token in enumerate(continuation)]
    scored = score(llama.base, llama.bank, llama.slots[1], prompt, continuation)
    forced = Request(prompt, llama.slots[1], len(continuation), logprobs=2, forced=continuation)
    generator = Generator(llama.base, llama.bank, prefill_tokens=8)
    answer = generate(generator, [forced, Request(prompts(1, seed=9)[0], -1, 20)])[0]
    # float32 through two layers.
    assert scored == pytest.approx(expected, abs=1e-4)
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)
    assert answer.tokens == continuation
    assert all(len(top) == 2 and top[0][1] >= top[1][1] for top in answer.top)


def test_sampled_answers_do_not_depend_on_the_batch(llama: Grown) -> None:
    requests = [
        Request(prompt, llama.slots[place % 2], 15, temperature=1.2, top_p=0.9 if place % 3 else 1.0, seed=place)
        for place, prompt in enumerate(prompts(12, seed=8))
    ]
    together = generate(Generator(llama.base, llama.bank, max_batch=12), requests)
    alone = [generate(Generator(llama.base, llama.bank, max_batch=1), [request])[0] for request in requests]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    again = generate(
        Generator(llama.base, llama.bank), [Request(requests[0].prompt, llama.slots[0], 15, temperature=1.2, seed=99)]
    )
    assert again[0].tokens != together[0].tokens


def test_a_cancelled_request_leaves_the_others_as_they_were(llama: Grown) -> None:
    requests = [Request(prompt, llama.slots[0], 12) for prompt in prompts(6, seed=11)]
    expected = generate(Generator(llama.base, llama.bank), requests)
    generator = Generator(llama.base, llama.bank, max_batch=4)
    ids = [generator.submit(request) for request in requests]
    found: dict[int, list[int]] = {request_id: [] for request_id in ids}
    for _ in range(3):
        for token in generator.step():
            found[token.request].append(token.token)
    assert generator.cancel(ids[0])
    assert generator.cancel(ids[5])
    assert not generator.cancel(ids[0])
    while generator.active:
        for token in generator.step():
            found[token.request].append(token.token)
    assert len(found[ids[0]]) == 3
    assert found[ids[5]] == []
    assert [tuple(found[ids[place]]) for place in (1, 2, 3, 4)] == [expected[place].tokens for place in (1, 2, 3, 4)]


def test_a_request_whose_logits_are_not_finite_fails_alone(llama: Grown) -> None:
    broken = loud_adapter(llama.base, 2, seed=5)
    pairs = {path: Pair(pair.a, pair.b * float("inf"), pair.scaling) for path, pair in broken.pairs.items()}
    slot = llama.bank.add("broken", Adapter(broken.config, pairs))
    # The short one moves into the broken one's slot, and the long one beside it makes the padded product read past its end.
    short, long = Request((5, 6, 7), llama.slots[0], 10), Request((1, 2, 3) * 18, llama.slots[0], 10)
    expected = [answer.tokens for answer in generate(Generator(llama.base, llama.bank), [short, long])]
    generator = Generator(llama.base, llama.bank, max_batch=2)
    ids = [generator.submit(request) for request in (Request((1, 2, 3) * 20, slot, 10), short, long)]
    events = [token for _ in range(30) for token in generator.step()]
    llama.bank.remove("broken")
    assert [(token.token, token.finish) for token in events if token.request == ids[0]] == [(-1, "failed")]
    for request_id, tokens in zip(ids[1:], expected, strict=True):
        assert tuple(token.token for token in events if token.request == request_id) == tokens


def test_long_prompts_are_read_in_pieces_while_others_go_on(llama: Grown) -> None:
    generator = Generator(llama.base, llama.bank, prefill_tokens=16)
    running = generator.submit(Request((1, 2, 3), -1, 20))
    generator.step()
    reading = generator.submit(Request((4,) * 100, -1, 20))
    steps = [{token.request for token in generator.step()} for _ in range(7)]
    assert steps == [{running}] * 6 + [{running, reading}]
    ahead = generator.submit(Request((5,) * 3, -1, 1), urgent=True)
    assert {token.request for token in generator.step()} == {running, reading, ahead}


def test_the_cache_bound_makes_requests_wait_and_refuses_what_never_fits(llama: Grown) -> None:
    requests = [Request(prompt, llama.slots[0], 20) for prompt in prompts(10, seed=12)]
    expected = generate(Generator(llama.base, llama.bank), requests)
    small = Generator(llama.base, llama.bank, max_tokens_cached=130)
    most = 0
    ids = [small.submit(request) for request in requests]
    found: dict[int, list[int]] = {request_id: [] for request_id in ids}
    while small.active:
        for token in small.step():
            found[token.request].append(token.token)
        most = max(most, small.cache_bytes)
    # 2 layers, keys and values, 2 heads of 8, 4 bytes.
    assert most <= 130 * 2 * 2 * 2 * 8 * 4
    assert [tuple(tokens) for tokens in found.values()] == [answer.tokens for answer in expected]
    with pytest.raises(GenerationError, match="the cache holds 130"):
        small.submit(Request((1,) * 100, -1, 50))


def test_progress_counts_every_answer(llama: Grown) -> None:
    seen: list[tuple[int, int]] = []
    requests = [Request(prompt, -1, place + 1) for place, prompt in enumerate(prompts(5))]
    answers = generate(
        Generator(llama.base, llama.bank), requests, report_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (5, 5)
    assert all(0 < answer.first_token_s <= answer.total_s for answer in answers)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Request((), -1, 4), "The prompt is empty"),
        (Request((VOCAB,), -1, 4), "a token id lies outside 0..263"),
        (Request((1,), -1, 0), "max_new_tokens = 0 is below 1"),
        (Request((1,), -1, 4, temperature=float("nan")), "temperature = nan is not a finite number"),
        (Request((1,), -1, 4, top_p=0.0), "top_p = 0.0 is not within"),
        (Request((1,), -1, 4, logprobs=65), "logprobs = 65 is not within 0..64"),
        (Request((1,) * 250, -1, 7), "The prompt has 250 tokens and 7 new ones are asked for; the context holds 256."),
        (Request((1,), -1, 4, json_schema='{"pattern": "a*"}'), 'The schema uses "pattern", which is not enforced here.'),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_computed(llama: Grown, request_: Request, text: str) -> None:
    generator = Generator(llama.base, llama.bank)
    with pytest.raises(GenerationError) as caught:
        generator.submit(request_)
    assert text.lower() in str(caught.value).lower()
    assert generator.active == 0


def test_generate_names_the_request_that_failed_and_leaves_nothing_behind(llama: Grown) -> None:
    generator = Generator(llama.base, llama.bank)
    with pytest.raises(GenerationError):
        generate(generator, [Request((1, 2), -1, 5), Request((1,) * 300, -1, 5)])
    assert generator.active == 0


# --- grammar ---

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stop_ids", [(END,), ()])
def test_answers_satisfy_their_schema_beside_free_ones(llama: Grown, stop_ids: tuple[int, ...]) -> None:
    schema = json.dumps(SCHEMA)
    bound = [
        Request(prompt, llama.slots[place % 2], 120, temperature=1.0, seed=place, stop_ids=stop_ids, json_schema=schema)
        for place, prompt in enumerate(prompts(6, seed=20))
    ]
    free = [Request(prompt, -1, 10) for prompt in prompts(3, seed=21)]
    answers = generate(Generator(llama.base, llama.bank, max_batch=9), [*bound, *free])
    expected_free = generate(Generator(llama.base, llama.bank), free)
    for answer in answers[:6]:
        assert answer.finish == "stop"
        value = json.loads(str(llama.base.tokenizer.decode(list(answer.tokens))))
        assert set(value) == {"name", "n"}
        assert len(value["name"]) <= 4
        assert 0 <= value["n"] <= 99
    assert [answer.tokens for answer in answers[6:]] == [answer.tokens for answer in expected_free]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def recursive() -> dict[str, Any]:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["next"] = {"$ref": "#/$defs/a"}  # type: ignore[index]
    schema["$defs"] = {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"type": "array", "items": {"$ref": "#/$defs/a"}}}
    return schema


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("[1]", "The schema is not a JSON object"),
        ("{", "The schema is not JSON"),
        ("[" * 100_000, "at most 65,536 are read"),
        ("[" * 60_000, "The schema is not JSON"),
        (json.dumps(nested(30)), "nested more than 24 deep"),
        (json.dumps(recursive()), "refers to itself by"),
        (json.dumps({"$ref": "https://example.org/s"}), "does not name one of its own definitions"),
        (json.dumps({"$ref": "#/$defs/none"}), "has no '#/$defs/none'"),
        (json.dumps({"type": "string", "maxLength": 10**9}), '"maxLength" is not a whole number from 0 to 1,000'),
        (json.dumps({"anyOf": [{"type": "integer"}] * 2001}), "more than 2,000 parts"),
        (json.dumps({"type": "string", "format": "regex"}), "format 'regex' is not enforced"),
        (json.dumps({"type": "colour"}), "cannot be compiled"),
    ],
)
def test_dangerous_schemas_are_refused(llama: Grown, schema: str, text: str) -> None:
    with pytest.raises(GenerationError) as caught:
        Generator(llama.base, None).submit(Request((1,), -1, 4, json_schema=schema))
    assert text in str(caught.value)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_prompts_with_a_known_beginning_get_the_answers_that_they_get_without(
    grow: Callable[[str], Grown], family: str
) -> None:
    grown = grow(family)
    start = [(7 * place) % 250 for place in range(70)]
    requests = [
        Request((*start[: 70 - 3 * number], number, 5), adapter, max_new_tokens=6, prefix_key=f"{adapter}", logprobs=0)
        for number in range(4)
        for adapter in (-1, *grown.slots)
    ]
    without = generate(Generator(grown.base, grown.bank, prefix_bytes=0), requests)
    generator = Generator(grown.base, grown.bank, max_batch=2)
    first, second = generate(generator, requests), generate(generator, requests)
    assert generator.prefixes.found_tokens > len(requests) * 32
    for answers in (first, second):
        for wanted, found in zip(without, answers, strict=True):
            assert found.tokens == wanted.tokens
            assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
