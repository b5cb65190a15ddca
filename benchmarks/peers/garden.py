"""A base, adapters that do something, and a store that has a release of each: what every side of a serving benchmark serves."""

import json
from pathlib import Path

from peers.shapes import SHAPES, make_base

RANK = 16
PROBE_TOKENS = 8


def make_garden(shape: str, adapters: int, folder: Path) -> None:
    """Write `base`, `adapter-0` … and `store`, where release `a0` … are the adapters' and `plain` the base's."""
    import torch

    from budwood.engine.base import load_base, resolve_base
    from budwood.engine.chat import chat_template
    from budwood.engine.generate import Generator
    from budwood.engine.lora import AdapterBank, save_adapter
    from budwood.store import open_store

    if not (folder / "base").exists():
        make_base(SHAPES[shape], folder / "base")
    ref = resolve_base(str(folder / "base"))
    base = load_base(ref, dtype=torch.bfloat16)
    made = [_loud_adapter(base.model, number) for number in range(adapters)]
    bank = AdapterBank.attach(base.model)
    generator = Generator(base, bank)
    identity = base.identity
    with open_store(folder / "store") as store:
        with store.draft("base") as draft:
            base_object = draft.commit(body=identity.as_body())
        for number, adapter in [(-1, None), *enumerate(made)]:
            name = "plain" if adapter is None else f"a{number}"
            result = None
            if adapter is not None:
                save_adapter(adapter, _fresh(folder / f"adapter-{number}"), base_id=ref.id, revision=None)
                with store.draft("adapter") as draft:
                    save_adapter(adapter, draft.folder, base_id=ref.id, revision=None)
                    result = draft.commit(parents=[base_object], body={"adapter": number})
            bound = {key: getattr(identity, key) for key in ("id", "revision", "weights_digest", "tokenizer_digest")}
            body = {
                "name": name,
                "base": {**bound, "template_digest": identity.template_digest, "quantization": "none"},
                "result": {"kind": "none" if result is None else "adapter", "digest": result},
                "decoding": {"temperature": 0.0, "max_new_tokens": 64, "stop_ids": []},
            }
            slot = -1 if adapter is None else bank.add(name, adapter)
            with store.draft("release") as draft:
                (draft.folder / "release.json").write_text(json.dumps(body))
                (draft.folder / "probes.json").write_bytes(_probes(generator, slot, identity.vocab))
                (draft.folder / "template.jinja").write_bytes(chat_template(base.tokenizer).source.encode())
                digest = draft.commit(parents=[base_object, *([result] if result else [])], body=body)
            store.add_release(name, digest, who="benchmark", reason="benchmark")
            store.move_alias(name, "production", digest, who="benchmark", reason="benchmark")
            if adapter is not None:
                bank.remove(name)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _loud_adapter(model: "object", number: int) -> "object":
    import torch

    from budwood.engine.lora import Adapter, LoraConfig, Pair, new_adapter, target_paths

    fresh = new_adapter(model, LoraConfig(RANK, 2.0 * RANK, targets=target_paths(model, "all-linear")), seed=number)
    draw = torch.Generator().manual_seed(number)
    pairs = {
        path: Pair(pair.a, torch.randn(pair.b.shape, generator=draw) * 0.05, pair.scaling) for path, pair in fresh.pairs.items()
    }
    return Adapter(fresh.config, pairs, fresh.fan_in_fan_out)


def _probes(generator: "object", slot: int, vocab: int) -> bytes:
    """One prompt with the tokens that the adapter gives, whose tolerance is half of what the base alone differs by."""
    from budwood.engine.generate import Request, generate
    from budwood.engine.probes import Probe, ProbeSet, largest_difference

    prompt = tuple(4 + place * 37 % (vocab - 4) for place in range(12))
    found = generate(generator, [Request(prompt, adapter=slot, max_new_tokens=PROBE_TOKENS, logprobs=0)])[0]
    without = generate(generator, [Request(prompt, max_new_tokens=PROBE_TOKENS, logprobs=0, forced=found.tokens)])[0]
    tolerance = largest_difference(found.logprobs, without.logprobs) / 2 if slot >= 0 else 0.5
    probe = Probe(prompt, found.tokens, found.logprobs)
    return ProbeSet(tolerance, tolerance / 10, (probe,), tolerances={"bfloat16": tolerance}).encode()
