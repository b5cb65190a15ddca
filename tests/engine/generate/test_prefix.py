"""Kept beginnings of prompts: same answers with and without, nothing shared between keys, memory bounded."""

import pytest
import torch
from torch import Tensor

from budwood.engine.generate.cache import SlotCache
from budwood.engine.generate.prefix import BLOCK, PrefixCache


def cache_with(prompt: list[int], slot: int = 0) -> SlotCache:
    """A cache whose numbers say token and layer."""
    cache = SlotCache(max_rows=4, max_columns=256, budget=1024)
    assert cache.reserve(4, 256)
    for layer in range(3):
        keys, values = cache.layer(layer, torch.zeros(0, 2, 8))
        numbers = torch.tensor(prompt, dtype=torch.float32)[:, None] + 1000 * layer
        keys[slot, :, : len(prompt)] = numbers
        values[slot, :, : len(prompt)] = -numbers
    return cache


def positions(cache: SlotCache, slot: int, count: int) -> list[Tensor]:
    return [side[slot, :, :count].clone() for layer in range(3) for side in cache.layer(layer, torch.zeros(0, 2, 8))]


def test_blocks_come_back_as_they_were() -> None:
    prompt = list(range(100))
    cache, prefixes = cache_with(prompt), PrefixCache(1 << 20)
    prefixes.keep(cache, 0, "release", prompt)
    assert prefixes.fill(cache, 2, "release", prompt) == 96
    for found, wanted in zip(positions(cache, 2, 96), positions(cache, 0, 96), strict=True):
        assert torch.equal(found, wanted)
    assert prefixes.found_tokens == 96
    assert prefixes.asked_tokens == 100


@pytest.mark.parametrize(("prompt", "known"), [(list(range(96)), 64), (list(range(97)), 96), ([*range(40), 7], 32), ([5], 0)])
def test_the_last_token_is_always_read_and_only_whole_blocks_are_known(prompt: list[int], known: int) -> None:
    cache, prefixes = cache_with(list(range(100))), PrefixCache(1 << 20)
    prefixes.keep(cache, 0, "release", list(range(100)))
    assert prefixes.fill(cache, 1, "release", prompt) == known


def test_bad_70_another_key_or_another_beginning_finds_nothing() -> None:
    prompt = list(range(100))
    cache, prefixes = cache_with(prompt), PrefixCache(1 << 20)
    prefixes.keep(cache, 0, "release", prompt)
    assert prefixes.fill(cache, 1, "another", prompt) == 0
    assert prefixes.fill(cache, 1, "release", [99, *prompt[1:]]) == 0
    assert prefixes.fill(cache, 1, "", prompt) == 0
    # The second block is the same text, but not after the same text.
    assert prefixes.fill(cache, 1, "release", [*prompt[:31], 99, *prompt[32:]]) == 0


def test_memory_is_bounded_and_the_least_recently_used_goes() -> None:
    prompt = list(range(64))
    cache = cache_with(prompt)
    one = cache.copy(0, 0, BLOCK).nbytes
    prefixes = PrefixCache(3 * one)
    prefixes.keep(cache, 0, "first", prompt[:BLOCK])
    prefixes.keep(cache, 0, "second", prompt)
    prefixes.fill(cache, 1, "first", prompt)
    prefixes.keep(cache, 0, "third", prompt[:BLOCK])
    assert prefixes.size_bytes <= 3 * one
    assert prefixes.fill(cache, 1, "first", prompt) == BLOCK
    assert prefixes.fill(cache, 1, "second", [*prompt, 1]) == 0
    nothing = PrefixCache(one - 1)
    nothing.keep(cache, 0, "first", prompt)
    assert len(nothing) == 0
    assert PrefixCache(0).fill(cache, 1, "first", prompt) == 0
