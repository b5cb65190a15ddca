"""A nursery: a tiny random base, loud adapters, a real store with releases of them, and servers in this process."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from budwood.cli.serve import admin_actions
from budwood.engine.base import BaseRef, LoadedBase, load_base, resolve_base
from budwood.engine.chat import ChatTemplate, chat_template
from budwood.engine.generate import reference_generate, score
from budwood.engine.lora import Adapter, AdapterBank, LoraConfig, Pair, new_adapter, save_adapter, target_paths
from budwood.engine.probes import Probe, ProbeSet
from budwood.identity import Digest
from budwood.recipe import ServeSection
from budwood.serve.access.secret import digest_of, new_secret, prefix_of
from budwood.serve.run import Server
from budwood.store import ReleaseRow, Store, open_store

TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}[{{ call['function'] | tojson }}]{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PATIENCE_S = 60.0


def make_tokenizer() -> PreTrainedTokenizerFast:
    letters = {character: place for place, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], additional_special_tokens=list(SPECIAL[1:])
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_base(folder: Path, *, seed: int = 0, hidden: int = 32, spread: float = 0.3) -> BaseRef:
    """A llama of 27,000 weights; wide initial values make its preferences clear."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=hidden,
        intermediate_size=hidden * 3 // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=spread,
        bos_token_id=256,
        eos_token_id=256,
        pad_token_id=256,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    make_tokenizer().save_pretrained(folder)
    return resolve_base(str(folder))


def loud_adapter(base: LoadedBase, seed: int) -> Adapter:
    """An adapter whose B is not zero: it changes nearly every answer."""
    fresh = new_adapter(base.model, LoraConfig(4, 8.0, targets=target_paths(base.model, "all-linear")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=generator) * 0.2, pair.scaling)
        for path, pair in fresh.pairs.items()
    }
    return Adapter(fresh.config, pairs, fresh.fan_in_fan_out)


@dataclass
class Soil:
    """What does not change between tests: the base, and two adapters loaded beside it as reference."""

    ref: BaseRef
    base: LoadedBase
    bank: AdapterBank
    adapters: list[Adapter]
    template: ChatTemplate
    known: dict[tuple[Any, ...], tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=dict)

    def slot(self, adapter: int | None) -> int:
        return -1 if adapter is None else self.bank.slot(str(adapter))

    def probes(self, adapter: int | None, *, shift: float = 0.0) -> ProbeSet:
        probes = []
        for text in ("alpha", "beta"):
            prompt = self.template.encode_prompt([{"role": "user", "content": text}])
            tokens, _ = reference_generate(self.base, self.bank, self.slot(adapter), prompt, 6)
            logprobs = score(self.base, self.bank, self.slot(adapter), prompt, tokens)
            probes.append(Probe(tuple(prompt), tokens, tuple(value + shift for value in logprobs)))
        return ProbeSet(1e-3, 1e-5, tuple(probes), tolerances={"float32": 1e-3})

    def reference(self, adapter: int | None, prompt: Sequence[int], tokens: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Greedy tokens of one request alone, without cache, and how clear each choice was."""
        key = (adapter, tuple(prompt), tokens)
        if key not in self.known:
            stops = self.template.stop_ids
            self.known[key] = reference_generate(self.base, self.bank, self.slot(adapter), prompt, tokens, stop_ids=stops)
        return self.known[key]

    def text(self, tokens: Sequence[int]) -> str:
        kept = [token for token in tokens if token not in self.template.stop_ids]
        return str(self.base.tokenizer.decode(kept, skip_special_tokens=True))


@dataclass
class Nursery:
    """A store with releases, and servers over it."""

    soil: Soil
    store: Store
    adapter_of: dict[Digest, int | None] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)

    def base_object(self) -> Digest:
        with self.store.draft("base") as draft:
            return draft.commit(body=self.soil.base.identity.as_body())

    def adapter_object(self, adapter: int) -> Digest:
        with self.store.draft("adapter") as draft:
            save_adapter(self.soil.adapters[adapter], draft.folder, base_id=self.soil.ref.id, revision=None)
            return draft.commit(parents=[self.base_object()], body={"adapter": adapter})

    def release(
        self,
        name: str,
        adapter: int | None,
        *,
        shift: float = 0.0,
        note: str = "",
        changes: dict[str, Any] | None = None,
        verdict: dict[str, Any] | None = None,
        system: str = "",
    ) -> ReleaseRow:
        """Register a release of an adapter, or of the base alone; `shift` spoils its probes, `changes` what it binds."""
        identity = self.soil.base.identity
        result = None if adapter is None else self.adapter_object(adapter)
        bound = {key: getattr(identity, key) for key in ("id", "revision", "weights_digest", "tokenizer_digest")}
        body = {
            "name": name,
            "base": {**bound, "template_digest": identity.template_digest, "quantization": "none", **(changes or {})},
            "result": {"kind": "none" if adapter is None else "adapter", "digest": result},
            "decoding": {"temperature": 0.0, "max_new_tokens": 16, "stop_ids": list(self.soil.template.stop_ids)},
            "note": note,
            "system": system,
            **({"verdict": verdict} if verdict else {}),
        }
        with self.store.draft("release") as draft:
            (draft.folder / "release.json").write_text(json.dumps(body))
            (draft.folder / "probes.json").write_bytes(self.soil.probes(adapter, shift=shift).encode())
            (draft.folder / "template.jinja").write_bytes(self.soil.template.source.encode())
            parents = [self.base_object()] if result is None else [self.base_object(), result]
            digest = draft.commit(parents=parents, body=body)
        self.store.add_release(name, digest, who="test", reason="test")
        self.adapter_of[digest] = adapter
        return self.store.find_release(digest)

    def promote(self, row: ReleaseRow, alias: str = "production") -> None:
        self.store.move_alias(row.name, alias, row.digest, who="test", reason="test")

    def token(self, name: str, *scopes: str, models: Sequence[str] = (), days: float = 1.0) -> str:
        """Make an access token and give it."""
        secret = new_secret()
        until = datetime.now(UTC) + timedelta(days=days)
        self.store.access.add(
            name,
            prefix=prefix_of(secret) or "",
            digest=digest_of(secret),
            scopes=scopes,
            models=models,
            expires_at=until,
            who="test",
        )
        return secret

    def settings(self, **changes: Any) -> ServeSection:
        return ServeSection(**{"port": 0, "poll_s": 0.01, "max_batch": 16, "max_new_tokens": 64, **changes})

    @contextmanager
    def serving(self, **settings: Any) -> Iterator[Server]:
        given = self.settings(**settings)
        with Server(self.store, given, admin=admin_actions(self.store), report=self.events.append) as server:
            assert server.synced.wait(PATIENCE_S)
            yield server


@pytest.fixture(scope="session")
def soil(tmp_path_factory: pytest.TempPathFactory) -> Soil:
    return make_soil(make_base(tmp_path_factory.mktemp("bases") / "tiny"))


def make_soil(ref: BaseRef) -> Soil:
    base = load_base(ref)
    adapters = [loud_adapter(base, seed) for seed in (1, 2)]
    bank = AdapterBank.attach(base.model)
    for place, adapter in enumerate(adapters):
        bank.add(str(place), adapter)
    return Soil(ref, base, bank, adapters, chat_template(base.tokenizer))


@pytest.fixture
def nursery(soil: Soil, tmp_path: Path) -> Iterator[Nursery]:
    with open_store(tmp_path / ".budwood") as store:
        yield Nursery(soil, store)


@pytest.fixture(scope="module")
def garden(soil: Soil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Server]]:
    """A server with three releases that nothing moves: support (adapter 0, staging: adapter 1) and plain (the base)."""
    with open_store(tmp_path_factory.mktemp("garden") / ".budwood") as store:
        nursery = Nursery(soil, store)
        nursery.promote(nursery.release("support", 0))
        nursery.promote(nursery.release("support", 1), "staging")
        nursery.promote(nursery.release("plain", None))
        with nursery.serving() as server:
            yield nursery, server
