"""Token rows in parity with peft: loss and gradients, files both ways, tied and untied heads; mixed batches; merging."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.tiny import GROUPED, VOCAB, Case, byte_tokenizer, save_tiny, tiny_model
from torch import Tensor, nn

from budwood.engine.attention import register_attention
from budwood.engine.base import head_weight, hidden_states, load_base, logit_softcap, logits, resolve_base
from budwood.engine.fused import fuse
from budwood.engine.generate import Generator, Request, generate, reference_generate, score
from budwood.engine.lora import (
    Adapter,
    AdapterBank,
    LoraConfig,
    Pair,
    Segments,
    TokenRows,
    base_rows,
    head_parts,
    linear_shapes,
    load_adapter,
    merged_weights,
    named_ids,
    new_adapter,
    save_adapter,
    target_paths,
    token_tables,
)
from budwood.engine.lora.compose import Settings, compose
from budwood.engine.loss import supervised_loss
from budwood.engine.native.build import Missing, kernels
from budwood.engine.packed import Encoded, PackedBatch, pack
from budwood.engine.quant import quantize_linears
from budwood.errors import AdapterError

peft: Any = pytest.importorskip("peft", reason="the second witness")

TIED = {"tie_word_embeddings": True}
CASES = {
    "llama": Case("llama", "llama", GROUPED),
    "llama tied": Case("llama tied", "llama", GROUPED | TIED),
    "qwen2": Case("qwen2", "qwen2", GROUPED),
    "qwen2 tied": Case("qwen2 tied", "qwen2", GROUPED | TIED),
    "gemma2": Case(
        "gemma2", "gemma2", GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 20, "final_logit_softcapping": 0.9} | TIED
    ),
    "gpt2": Case("gpt2", "gpt2", {"n_inner": 48}),
}
EMBEDDINGS = ("embed_tokens", "wte")
IDS = torch.tensor([[3, 90, 17, 8, 90, 41, 5, 17, 60, 90, 11, 3]])
TOKENS = (90, 17, 70)
"""Two that occur, one of them thrice, and one that occurs only as a wrong answer of the head."""
WANTED = torch.tensor([[-100, -100, 17, 8, 90, 41, 5, 17, 60, 90, 11, 3]])


@pytest.fixture(autouse=True)
def attention() -> None:
    register_attention()


def model_of(name: str, *, packed: bool = False) -> nn.Module:
    return tiny_model(CASES[name], "budwood" if packed else "eager")


def table(name: str) -> str:
    return "wte" if name == "gpt2" else "embed_tokens"


def living(
    model: nn.Module, named: Sequence[int] | Mapping[str, Sequence[int]] = TOKENS, *, seed: int = 0, apart: float = 1.0
) -> Adapter:
    """Pairs and rows away from their start."""
    made = new_adapter(model, LoraConfig(3, 6, targets=target_paths(model, "all-linear")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = {p: replace(pair, b=torch.randn(pair.b.shape, generator=generator) * 0.3) for p, pair in made.pairs.items()}
    tables = token_tables(model)
    assert tables is not None
    rows = {
        path: replace(one, values=one.values + apart * torch.randn(one.values.shape, generator=generator) * one.values.std())
        for path, one in base_rows(model, tables.resolve(named, where="test")).items()
    }
    return replace(made, pairs=pairs, rows=rows)


def outputs(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids).logits
    return found


def in_peft(model: nn.Module, folder: Path, *, trainable: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        return peft.PeftModel.from_pretrained(model, folder, is_trainable=trainable)


def row(ids: Tensor = IDS, wanted: Tensor = WANTED) -> PackedBatch:
    return pack([Encoded(tuple(ids[0].tolist()), tuple((wanted[0] >= 0).tolist()))])


def packed_loss(model: nn.Module, batch: PackedBatch, *, chunk: int | None = None) -> Tensor:
    hidden = hidden_states(model, batch, only=batch.supervised)
    total = torch.zeros(())
    for part in head_parts(model, len(hidden), batch.supervised):
        rows = None if part.rows is None else (part.rows.ids, part.rows.values)
        states, targets = part.of(hidden), part.of(batch.targets)
        total = total + supervised_loss(
            states, head_weight(model), targets, softcap=logit_softcap(model), rows=rows, chunk=chunk
        )
    return total


NAMED: list[tuple[str, Any]] = [
    *((name, TOKENS) for name in CASES),
    ("llama", {"embed_tokens": [90, 17], "lm_head": [3, 17, 60]}),
    ("qwen2", {"lm_head": [90, 17]}),
    ("llama tied", {"embed_tokens": [90, 17], "lm_head": [90, 17]}),
]


@pytest.mark.parametrize(("name", "named"), NAMED, ids=str)
def test_loss_and_gradients_are_those_of_peft(name: str, named: Any, tmp_path: Path) -> None:
    model = model_of(name, packed=True)
    adapter = living(model, named)
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    theirs = in_peft(model_of(name), tmp_path, trainable=True)
    wanted = torch.nn.functional.cross_entropy(theirs(IDS).logits[0, :-1], WANTED[0, 1:], reduction="sum")
    wanted.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    bank = AdapterBank.attach(model)
    with bank.use(bank.add("a", adapter, trainable=True)):
        found = packed_loss(model, row(), chunk=3)
    found.backward()  # type: ignore[no-untyped-call]  # torch has no types here
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-6, atol=0)
    named_theirs = {key.replace(".default", ""): parameter for key, parameter in theirs.named_parameters()}
    seen = 0
    for key, parameter in bank.named_parameters("a").items():
        path, _, kind = key.rpartition(".")
        other = "token_adapter.trainable_tokens_delta" if kind == "token_rows" else f"{kind}.weight"
        gradient = named_theirs[f"base_model.model.{path}.{other}"].grad
        assert gradient is not None
        assert parameter.grad is not None
        if kind == "token_rows":
            # peft holds them in the order of its file, which is ours.
            seen += 1
            assert bool(gradient.any())
        scale = float(gradient.abs().max())
        torch.testing.assert_close(parameter.grad / scale, gradient / scale, rtol=1e-5, atol=1e-5, msg=key)
    assert seen == len(adapter.rows)


@pytest.mark.parametrize("name", CASES)
def test_ours_in_peft(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    adapter = living(model)
    save_adapter(adapter, tmp_path, base_id="org/base", revision=None)
    before = outputs(model)
    theirs = outputs(in_peft(model_of(name), tmp_path))
    without = with_bank(model_of(name), replace(adapter, rows={}))
    ours = with_bank(model, adapter)
    assert float((ours - before).abs().max()) > 0.05
    assert float((ours - without).abs().max()) > 0.05
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    (key,) = [key for key in tensors if "trainable" in key]
    assert key.endswith(f".{table(name)}.token_adapter.trainable_tokens_delta")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["trainable_token_indices"] == {
        table(name): sorted(TOKENS)
    }


def with_bank(model: nn.Module, adapter: Adapter, *, trainable: bool = False) -> Tensor:
    bank = AdapterBank.attach(model)
    with bank.use(bank.add("a", adapter, trainable=trainable)):
        return outputs(model)


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("llama", [90, 17, 70]),
        ("llama tied", [90, 17, 70]),
        ("llama tied", {"embed_tokens": [90, 17], "lm_head": [90, 17]}),
        ("qwen2", {"embed_tokens": [90, 17], "lm_head": [60, 3]}),
        ("qwen2", {"lm_head": [60, 3]}),
        ("gpt2", [5, 90]),
    ],
)
def test_theirs_here(name: str, indices: Any, tmp_path: Path) -> None:
    targets = ["c_attn"] if name == "gpt2" else ["q_proj"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = peft.LoraConfig(r=2, target_modules=targets, trainable_token_indices=indices, task_type="CAUSAL_LM")
        theirs = peft.get_peft_model(model_of(name), config).eval()
        torch.manual_seed(5)
        with torch.no_grad():
            for key, parameter in theirs.named_parameters():
                if "lora_B" in key or "trainable_tokens_delta" in key:
                    parameter.normal_(std=0.3)
        theirs.save_pretrained(tmp_path)
    loaded = load_adapter(tmp_path, model_of(name))
    assert sum(len(one.ids) for one in loaded.rows.values()) == sum(
        len(ids) for ids in (indices.values() if isinstance(indices, dict) and name != "llama tied" else [TOKENS[:2]])
    ) or not isinstance(indices, dict)
    torch.testing.assert_close(with_bank(model_of(name), loaded), outputs(theirs), rtol=1e-5, atol=1e-5)
    # And once more through our own file.
    save_adapter(loaded, tmp_path / "again", base_id="org/base", revision=None)
    torch.testing.assert_close(outputs(in_peft(model_of(name), tmp_path / "again")), outputs(theirs), rtol=1e-5, atol=1e-5)


def test_trained_and_fixed_give_the_same() -> None:
    adapter = living(model_of("llama tied"))
    fixed, live = (with_bank(model_of("llama tied"), adapter, trainable=trainable) for trainable in (False, True))
    torch.testing.assert_close(fixed, live)


def test_the_base_s_own_rows_change_nothing() -> None:
    model = model_of("llama tied")
    before = outputs(model)
    adapter = living(model, apart=0.0)
    zero = {path: Pair(pair.a, torch.zeros_like(pair.b), pair.scaling) for path, pair in adapter.pairs.items()}
    torch.testing.assert_close(with_bank(model, replace(adapter, pairs=zero)), before)


def test_a_bank_copies_out_what_it_was_given_and_leaves_the_model_as_it_was() -> None:
    model = model_of("llama tied")
    before, names = outputs(model), list(model.state_dict())
    adapter = living(model)
    bank = AdapterBank.attach(model)
    empty = bank.size_bytes
    bank.add("a", adapter)
    assert bank.size_bytes - empty > 3 * 32 * 4
    found = bank.adapter("a")
    assert found.parameters == adapter.parameters
    for path, one in adapter.rows.items():
        assert found.rows[path].ids == one.ids
        assert torch.equal(found.rows[path].values, one.values)
    bank.remove("a")
    assert bank.size_bytes == empty
    torch.testing.assert_close(outputs(model), before)
    bank.detach(model)
    assert list(model.state_dict()) == names
    assert torch.equal(outputs(model), before)


@pytest.mark.parametrize("name", ["llama", "llama tied"])
@pytest.mark.parametrize("trainable", [False, True])
def test_a_batch_of_mixed_adapters(name: str, trainable: bool) -> None:
    """Each run of tokens meets its own rows, in the embedding and in the head, whichever tokens are asked for."""
    model = model_of(name, packed=True)
    both = None if name == "llama tied" else {"embed_tokens": [90, 3], "lm_head": [17, 60]}
    made = [living(model, both or [90, 3]), living(model, [17, 90], seed=4), replace(living(model, seed=9), rows={})]
    bank = AdapterBank.attach(model)
    slots = [bank.add(str(index), adapter, trainable=trainable) for index, adapter in enumerate(made)]
    one = Encoded(tuple(IDS[0].tolist()), (False,) * 6 + (True,) * 6)
    order = [slots[1], -1, slots[0], slots[2]]
    batch = pack([one] * 4)
    asked = torch.tensor([1, 4, 11, 12, 20, 25, 30, 47])
    with torch.no_grad(), bank.use(Segments((0, 12, 24, 36, 48), order)):
        hidden = hidden_states(model, batch)
        every, some = logits(model, hidden), logits(model, hidden[asked], asked)
    for index, slot in enumerate(order):
        with torch.no_grad(), bank.use(slot):
            alone = logits(model, hidden_states(model, pack([one])))
        torch.testing.assert_close(every[12 * index : 12 * index + 12], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(some, every[asked], rtol=1e-6, atol=1e-6)


def test_gradients_of_a_batch_of_mixed_adapters_are_those_alone() -> None:
    model = model_of("llama tied", packed=True)
    bank = AdapterBank.attach(model)
    slots = [bank.add(str(seed), living(model, [90, 17 + seed], seed=seed), trainable=True) for seed in (0, 1)]

    def gradients(what: int | Segments, batch: PackedBatch, index: int) -> dict[str, Tensor]:
        with bank.use(what):
            packed_loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        found = {}
        for number in (0, 1):
            for key, parameter in bank.named_parameters(str(number)).items():
                if number == index and parameter.grad is not None:
                    found[key] = parameter.grad
                parameter.grad = None
        return found

    one = Encoded(tuple(IDS[0].tolist()), (False,) * 6 + (True,) * 6)
    for index, slot in enumerate(slots):
        alone = gradients(slot, pack([one]), index)
        mixed = gradients(Segments((0, 12, 24, 36), (slots[0], -1, slots[1])), pack([one] * 3), index)
        assert alone.keys() == mixed.keys()
        assert any(key.endswith(".token_rows") for key in alone)
        for key, wanted in alone.items():
            torch.testing.assert_close(mixed[key], wanted, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", CASES)
def test_merging_gives_the_same_logits(name: str) -> None:
    model = model_of(name)
    adapter = living(model)
    wanted = with_bank(model_of(name), adapter)
    attached = model_of(name)
    AdapterBank.attach(attached)
    state = merged_weights(attached, adapter)
    assert list(state) == list(model.state_dict())
    model.load_state_dict(state)
    torch.testing.assert_close(outputs(model), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"token rows do not fit: .*embed_tokens\.token_adapter\.trainable_tokens_delta is missing"),
        ("stray", r"lm_head\.token_adapter\.trainable_tokens_delta is for no targeted module"),
        ("shape", r"is \(2, 32\), needs \(3, 32\)"),
        ("switched off", r"is token rows without trainable_token_indices"),
        ("beyond", rf"token 96 is no row of this base, which has {VOCAB}"),
        ("negative", r"token -1 is no row of this base"),
        ("twice", r"token 17 is named twice"),
        ("empty", r"trainable_token_indices, embed_tokens: no token is named"),
        ("table", r'"embed_tokenz" is no embedding or output head of this base'),
        ("kind", r"trainable_token_indices is \[true\], not null, a list of token ids"),
        ("nan", r"NaN or infinity in .*trainable_tokens_delta"),
    ],
)
def test_damaged_files_are_refused(change: str, message: str, tmp_path: Path) -> None:
    model = model_of("llama")
    save_adapter(living(model), tmp_path, base_id="org/base", revision=None)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    key = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    values = tensors[key]
    if change == "missing":
        del tensors[key]
    elif change == "stray":
        tensors["base_model.model.lm_head.token_adapter.trainable_tokens_delta"] = values.clone()
    elif change == "shape":
        tensors[key] = values[:2].clone()
    elif change == "nan":
        values[0, 0] = float("nan")
    indices: Any = {
        "switched off": None,
        "beyond": {"embed_tokens": [17, 90, 96]},
        "negative": {"embed_tokens": [17, 90, -1]},
        "twice": {"embed_tokens": [17, 90, 17]},
        "empty": {"embed_tokens": []},
        "table": {"embed_tokenz": [17, 70, 90]},
        "kind": [True],
    }.get(change, [17, 70, 90])
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trainable_token_indices": indices}))
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=message):
        load_adapter(tmp_path, model)


def test_a_tied_head_has_no_rows_of_its_own(tmp_path: Path) -> None:
    model = model_of("llama tied")
    tables = token_tables(model)
    assert tables is not None
    for named in ({"embed_tokens": [3], "lm_head": [4]}, {"lm_head": [3]}):
        with pytest.raises(AdapterError, match="embedding and output head of this base are one tensor"):
            tables.resolve(named, where="test")


def test_shapes_alone_cannot_tell_whether_rows_fit(tmp_path: Path) -> None:
    model = model_of("llama")
    save_adapter(living(model), tmp_path, base_id="org/base", revision=None)
    with pytest.raises(AdapterError, match="It has token rows, and what it was compared with has no embedding"):
        load_adapter(tmp_path, linear_shapes(model))


def test_rows_of_another_base_are_refused_by_the_bank() -> None:
    adapter = living(model_of("llama"))
    path = "model.embed_tokens"
    wide = TokenRows((3,), torch.ones(1, 33))
    beyond = TokenRows((3, VOCAB), torch.ones(2, 32))
    model = model_of("llama tied")
    bank = AdapterBank.attach(model)
    for rows, message in (
        ({path: wide}, r"1 tokens with rows \(1, 33\), 32 wide here"),
        ({path: beyond}, rf"rows of tokens beyond {VOCAB - 1}"),
        ({"lm_head": TokenRows((3,), torch.ones(1, 32))}, "lm_head is no table whose rows"),
    ):
        with pytest.raises(AdapterError, match=message):
            bank.add("a", replace(adapter, rows=rows))
    assert bank.keys == ()


def test_tokens_are_named_by_text_or_id() -> None:
    tokenizer = byte_tokenizer()
    assert named_ids(["<|im_end|>", 7, "hello"], tokenizer, where="t") == (2, 7, tokenizer.convert_tokens_to_ids("hello"))
    found = named_ids({"embed_tokens": ["<|im_start|>"], "lm_head": [5]}, tokenizer, where="t")
    assert found == {"embed_tokens": (1,), "lm_head": (5,)}
    with pytest.raises(AdapterError, match=r'not single tokens of this base\'s tokenizer: "<\|call\|>" is 7 tokens, "" is 0'):
        named_ids(["<|im_end|>", "<|call|>", ""], tokenizer, where="t")


def test_one_unknown_word_is_no_token() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<|unk|>": 0, "plus": 1}, unk_token="<|unk|>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<|unk|>")  # type: ignore[no-untyped-call]
    assert named_ids(["plus", "<|unk|>"], tokenizer, where="t") == (1, 0)
    with pytest.raises(AdapterError, match='"minus" is unknown'):
        named_ids(["minus"], tokenizer, where="t")


def test_fused_layers_in_bfloat16_give_the_gradients_of_float32() -> None:
    found = kernels()
    if isinstance(found, Missing):
        pytest.skip(f"no C kernels on this machine: {found.reason}")
    case = Case("llama wide", "llama", GROUPED | TIED | {"head_dim": 32})
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model(case, "budwood").bfloat16().to(dtype)
        bank = AdapterBank.attach(model)
        slot = bank.add("a", living(tiny_model(case, "budwood").bfloat16().float()), trainable=True)
        assert fuse(model) == (dtype == torch.bfloat16)
        with bank.use(slot):
            packed_loss(model, row()).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        gradients.append(bank.named_parameters("a")["model.embed_tokens.token_rows"].grad)
    wide, narrow = gradients
    assert wide is not None
    assert narrow is not None
    assert narrow.dtype == torch.float32
    # bfloat16 keeps 8 bits, and three layers of weights six times as large as usual pass them on.
    assert float((narrow - wide).norm() / wide.norm()) < 0.1


@pytest.mark.parametrize("form", ["nf4", "int8"])
def test_over_a_quantised_base(form: Any) -> None:
    model = model_of("llama tied")
    quantize_linears(model, form)
    adapter = living(model)
    bank = AdapterBank.attach(model)
    with bank.use(bank.add("a", adapter, trainable=True)):
        model(IDS).logits.square().mean().backward()
        attached = outputs(model)
    assert all(parameter.grad is not None for parameter in bank.parameters("a"))
    bank.detach(model)
    merged = model_of("llama tied")
    merged.load_state_dict(merged_weights(model, adapter))
    torch.testing.assert_close(attached, outputs(merged), rtol=1e-4, atol=1e-4)


def rows_of(adapter: Adapter, path: str = "model.embed_tokens") -> dict[int, Tensor]:
    return dict(zip(adapter.rows[path].ids, adapter.rows[path].values, strict=True))


def test_composing_takes_rows_over_as_they_are() -> None:
    model = model_of("llama tied")
    first, second = living(model, [90, 17]), living(model, [3, 41, 70], seed=2)
    both = compose([first, second, replace(first, rows={})], Settings("concatenate", (0.5, -2.0, 1.0))).adapter
    found = rows_of(both)
    assert list(found) == [3, 17, 41, 70, 90]
    for token, values in (rows_of(first) | rows_of(second)).items():
        assert torch.equal(found[token], values)
    assert rows_of(compose([first, first], Settings("svd", (0.5, 0.5))).adapter).keys() == {17, 90}


def test_rows_that_contradict_each_other_are_not_composed() -> None:
    model = model_of("llama tied")
    made = [living(model, [90, 17]), living(model, [3, 17], seed=2)]
    with pytest.raises(AdapterError, match=r"different rows for the same tokens: 17 in model\.embed_tokens"):
        compose(made, Settings("concatenate", (0.5, 0.5)))


@pytest.mark.parametrize("name", ["llama tied", "llama"])
def test_generating_in_a_mixed_batch_gives_the_tokens_and_numbers_of_each_alone(name: str, tmp_path: Path) -> None:
    base = load_base(resolve_base(str(save_tiny(tmp_path, CASES[name]))))
    named = [90, 17, 70] if name == "llama tied" else {"embed_tokens": [90, 17], "lm_head": list(range(3, 40))}
    bank = AdapterBank.attach(base.model)
    slots = [bank.add(str(seed), living(base.model, named, seed=seed)) for seed in (1, 2)]
    slots.append(bank.add("none", replace(living(base.model, seed=3), rows={})))
    generator = Generator(base, bank)
    prompts = [tuple(IDS[0, at : at + 6].tolist()) for at in range(4)]
    requests = [Request(prompt, slot, 5, logprobs=0) for prompt in prompts for slot in (*slots, -1)]
    changed = 0
    for request, answer in zip(requests, generate(generator, requests), strict=True):
        alone = score(base, bank, request.adapter, request.prompt, answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logprobs), torch.tensor(alone), rtol=1e-4, atol=1e-4)
        wanted, gaps = reference_generate(base, bank, request.adapter, request.prompt, 5)
        assert answer.tokens == wanted or min(gaps) < 1e-3
        changed += score(base, bank, -1, request.prompt, answer.tokens) != alone
    assert changed == 12
