"""A base, adapters that do something, and a store that has a release of each: what every side of a serving benchmark serves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peers.shapes import SHAPES, make_base

if TYPE_CHECKING:
    from torch import nn

    from budwood.engine.base import LoadedBase
    from budwood.engine.generate import Generator
    from budwood.engine.lora import Adapter
    from budwood.store import ReleaseRow, Store

RANK = 16
PROBE_TOKENS = 8


def make_garden(shape: str, adapters: int, folder: Path) -> None:
    """Write `base`, `adapter-0` … and `store`, where release `a0` … are the adapters' and `plain` the base's."""
    import torch

    from budwood.engine.base import load_base, resolve_base
    from budwood.engine.lora import save_adapter
    from budwood.store import open_store

    if not (folder / "base").exists():
        make_base(SHAPES[shape], folder / "base")
    base = load_base(resolve_base(str(folder / "base")), dtype=torch.bfloat16)
    made = [loud_adapter(base.model, number) for number in range(adapters)]
    for number, adapter in enumerate(made):
        save_adapter(adapter, _fresh(folder / f"adapter-{number}"), base_id=base.identity.id, revision=None)
    with open_store(folder / "store") as store:
        named = {"plain": None, **{f"a{number}": adapter for number, adapter in enumerate(made)}}
        for row in make_releases(store, base, list(named.items()), precision="bfloat16"):
            store.move_alias(row.name, "production", row.digest, who="benchmark", reason="benchmark")


def make_releases(
    store: "Store",
    base: "LoadedBase",
    named: "Sequence[tuple[str, Adapter | None]]",
    *,
    precision: str,
    new_tokens: int = 64,
    kinds: int = 0,
) -> "list[ReleaseRow]":
    """Register a release of each adapter under its name, with golden probes in the precision that will be served.

    With `kinds` the adapters repeat after so many, but for what no probe can tell: all have the probes of the first ones.
    """
    from budwood.engine.chat import chat_template
    from budwood.engine.generate import Generator
    from budwood.engine.lora import AdapterBank, save_adapter

    identity, bank = base.identity, AdapterBank.attach(base.model)
    generator, template = Generator(base, bank), chat_template(base.tokenizer)
    bound = {key: getattr(identity, key) for key in ("id", "revision", "weights_digest", "tokenizer_digest", "template_digest")}
    with store.draft("base") as draft:
        base_object = draft.commit(body=identity.as_body())
    rows, probes = [], dict[int, bytes]()
    for number, (name, adapter) in enumerate(named):
        result, kind = None, number % kinds if kinds else number
        if kind not in probes:
            slot = -1 if adapter is None else bank.add("probed", adapter)
            probes[kind] = _probes(generator, slot, identity.vocab, precision)
            if adapter is not None:
                generator.remove_adapter("probed")
        if adapter is not None:
            with store.draft("adapter") as draft:
                save_adapter(adapter, draft.folder, base_id=identity.id, revision=identity.revision)
                result = draft.commit(parents=[base_object], body={"adapter": number})
        body = {
            "name": name,
            "base": {**bound, "object": base_object, "quantization": "none"},
            "result": {"kind": "none" if result is None else "adapter", "digest": result},
            "decoding": {"temperature": 0.0, "max_new_tokens": new_tokens, "stop_ids": []},
        }
        with store.draft("release") as draft:
            (draft.folder / "release.json").write_text(json.dumps(body))
            (draft.folder / "probes.json").write_bytes(probes[kind])
            (draft.folder / "template.jinja").write_bytes(template.source.encode())
            digest = draft.commit(parents=[base_object, *([result] if result else [])], body=body)
        store.add_release(name, digest, who="benchmark", reason="benchmark")
        rows.append(store.find_release(digest))
    bank.detach(base.model)
    return rows


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def loud_adapter(model: "nn.Module", number: int, *, rank: int = RANK, loudness: float = 0.05) -> "Adapter":
    """Give an adapter on all linear layers that changes answers."""
    import torch

    from budwood.engine.lora import Adapter, LoraConfig, Pair, new_adapter, target_paths

    fresh = new_adapter(model, LoraConfig(rank, 2.0 * rank, targets=target_paths(model, "all-linear")), seed=number)
    draw = torch.Generator().manual_seed(number)
    pairs = {
        path: Pair(pair.a, loudness * torch.randn(pair.b.shape, generator=draw), pair.scaling)
        for path, pair in fresh.pairs.items()
    }
    return Adapter(fresh.config, pairs, fresh.fan_in_fan_out)


def _probes(generator: "Generator", slot: int, vocab: int, precision: str) -> bytes:
    """One prompt with the tokens that the adapter gives, whose tolerance is half of what the base alone differs by."""
    from budwood.engine.generate import Request, generate
    from budwood.engine.probes import Probe, ProbeSet, largest_difference

    prompt = tuple(4 + place * 37 % (vocab - 4) for place in range(12))
    found = generate(generator, [Request(prompt, adapter=slot, max_new_tokens=PROBE_TOKENS, logprobs=0)])[0]
    without = generate(generator, [Request(prompt, max_new_tokens=PROBE_TOKENS, logprobs=0, forced=found.tokens)])[0]
    tolerance = largest_difference(found.logprobs, without.logprobs) / 2 if slot >= 0 else 0.5
    probe = Probe(prompt, found.tokens, found.logprobs)
    return ProbeSet(tolerance, tolerance / 10, (probe,), tolerances={precision: tolerance}).encode()
