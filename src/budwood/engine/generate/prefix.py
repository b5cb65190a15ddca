"""Keys and values of prompts' beginnings, so that a prompt that begins as an earlier one did is not read again.

They are kept in blocks of 32 tokens. A block's name is a digest over everything that its numbers depend on: the key that the
request gives (who answers: a release's digest, never a name that could come to mean another), all tokens before it, and its
own. So there is nothing to invalidate: what another release or another text would have made has another name. The least
recently used blocks go first when the memory is full.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from torch import Tensor

from budwood.engine.generate.cache import SlotCache

BLOCK = 32


@dataclass(frozen=True)
class PrefixFigures:
    """How much prefix caches hold, how many prompt tokens they were asked for, and how many they had."""

    size_bytes: int = 0
    asked_tokens: int = 0
    found_tokens: int = 0

    def __add__(self, other: "PrefixFigures") -> "PrefixFigures":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return PrefixFigures(*(one + another for one, another in pairs))


class PrefixCache:
    """Blocks of keys and values by name, least recently used first.

    Args:
        limit_bytes: most memory for blocks; 0: nothing is kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.asked_tokens = 0
        """Prompt tokens of the requests that gave a key."""
        self.found_tokens = 0
        """How many of them did not have to be read."""
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def figures(self) -> PrefixFigures:
        return PrefixFigures(self.size_bytes, self.asked_tokens, self.found_tokens)

    def __len__(self) -> int:
        return len(self._blocks)

    def fill(self, cache: SlotCache, slot: int, key: str, prompt: Sequence[int]) -> int:
        """Copy what is known of a prompt's beginning into a slot; give how many tokens that are: never all of them."""
        if not key or not self.limit_bytes:
            return 0
        self.asked_tokens += len(prompt)
        known = 0
        for number, name in enumerate(_names(key, prompt, (len(prompt) - 1) // BLOCK)):
            block = self._blocks.get(name)
            if block is None:
                break
            self._blocks.move_to_end(name)
            cache.put(slot, number * BLOCK, block)
            known += BLOCK
        self.found_tokens += known
        return known

    def keep(self, cache: SlotCache, slot: int, key: str, prompt: Sequence[int]) -> None:
        """Keep a slot's blocks of a prompt that has been read."""
        if not key or not self.limit_bytes:
            return
        for number, name in enumerate(_names(key, prompt, len(prompt) // BLOCK)):
            if name in self._blocks:
                self._blocks.move_to_end(name)
                continue
            block = cache.copy(slot, number * BLOCK, (number + 1) * BLOCK)
            if block.nbytes > self.limit_bytes:
                return
            self._blocks[name] = block
            self.size_bytes += block.nbytes
        while self.size_bytes > self.limit_bytes:
            _, gone = self._blocks.popitem(last=False)
            self.size_bytes -= gone.nbytes


def _names(key: str, prompt: Sequence[int], blocks: int) -> list[bytes]:
    """Name the first blocks of a prompt, each by all that comes before."""
    name, names = hashlib.sha256(key.encode()).digest(), []
    for start in (BLOCK * number for number in range(blocks)):
        name = hashlib.sha256(name + array("q", prompt[start : start + BLOCK]).tobytes()).digest()
        names.append(name)
    return names
