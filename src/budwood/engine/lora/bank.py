"""AdapterBank: many adapters over one base, each token its own.

    bank = AdapterBank.attach(model)                 # once; freezes the base
    slot = bank.add("support", adapter)              # at any time between two forward passes
    with bank.use(slot): ...                         # one adapter for all tokens
    with bank.use(Segments((0, 3, 9), (slot, -1))):  # flat batch: three tokens with it, six with the base alone

Room: knows modules and tensors, nothing of names in a registry or of requests. One thread calls forward; `add`, `remove`
and `replace` are called in that same thread, between two passes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from budwood.engine.lora.adapter import Adapter, Pair, check_fit
from budwood.engine.lora.dora import row_scale
from budwood.engine.lora.frozen import AttachedLinear
from budwood.engine.lora.layer import Current, LoraLinear, SlotPair
from budwood.engine.lora.pairs import RunPair
from budwood.engine.lora.segments import Plan, Segments, plan_all, plan_segments
from budwood.engine.lora.targets import linear_sites
from budwood.engine.lora.token_layers import LiveRows, RowTable, attach_tables, detach_tables
from budwood.engine.lora.token_rows import Tables, TokenRows, token_tables
from budwood.engine.quant.load import replace_module
from budwood.errors import AdapterError


@dataclass
class _Entry:
    slot: int
    adapter: Adapter  # settings and paths; its tensors are the live ones
    trainable: bool


class AdapterBank:
    """Adapters of mixed rank and mixed targets over one base.

    A slot number is never given twice, so whoever holds one of a removed adapter gets an error and never another adapter's
    numbers; the memory is freed at once.
    """

    def __init__(
        self, layers: dict[str, LoraLinear], tables: Tables | None, rows: dict[str, RowTable], current: Current
    ) -> None:
        self._layers = layers
        self._tables = tables
        self._rows = rows
        self._current = current
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[int, str] = {}
        self._next_slot = 0

    @classmethod
    def attach(cls, model: nn.Module) -> "AdapterBank":
        """Put a LoraLinear in the place of every linear layer that can carry a pair, and freeze the model.

        Embedding and output head get stand-ins as well, with room for token rows.

        Raises:
            AdapterError: a bank is attached already, or the model has no such layer.
        """
        sites = linear_sites(model)
        if any(isinstance(module, AttachedLinear) for module in sites.values()):
            raise AdapterError("A bank is attached to this base already.", mend="Use that bank, or detach it first.")
        if not sites:
            raise AdapterError("This base has no linear layer that could carry an adapter.", mend="Use a supported family.")
        model.requires_grad_(False)
        current = Current()
        layers: dict[str, LoraLinear] = {}
        for path, module in sites.items():
            layers[path] = LoraLinear(module, path, current).train(module.training)
            replace_module(model, path, layers[path])
        tables = token_tables(model)
        return cls(layers, tables, {} if tables is None else attach_tables(model, tables, current), current)

    def detach(self, model: nn.Module) -> None:
        """Put the base's own layers back; the bank is empty afterwards."""
        for key in list(self._entries):
            self.remove(key)
        for path, layer in self._layers.items():
            replace_module(model, path, layer.base)
        if self._tables is not None:
            detach_tables(model, self._tables)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._entries)

    @property
    def size_bytes(self) -> int:
        """Memory that the adapters take, copies in the compute dtype included."""
        pairs = sum(layer.size_bytes for layer in self._layers.values())
        return pairs + sum(table.size_bytes for table in self._rows.values())

    def size_of(self, key: str) -> int:
        """Memory of one adapter, copies in the compute dtype included, what is stacked up from several aside."""
        entry = self._entry(key)
        rows = sum(self._rows[path].slots[entry.slot].size_bytes for path in entry.adapter.rows)
        return rows + sum(self._layers[path].size_of(entry.slot) for path in entry.adapter.pairs)

    def add(self, key: str, adapter: Adapter, *, trainable: bool = False) -> int:
        """Copy an adapter in, to the base's device, and give its slot.

        Raises:
            AdapterError: the key is taken, or a pair or token rows fit nothing of this base. Nothing was changed.
        """
        if key in self._entries:
            raise AdapterError(f'The bank has an adapter "{key}" already.', mend="Remove or replace it.")
        self._check_fit(key, adapter)
        if not trainable and any(pair.anchor is not None for pair in adapter.pairs.values()):
            raise AdapterError(
                f'Adapter "{key}" has frozen copies of its start, which only training needs.', mend="Convert it with `plain`."
            )
        slot = self._next_slot
        self._next_slot += 1
        with torch.inference_mode(False):
            pairs = {path: self._put_pair(slot, path, pair, trainable) for path, pair in adapter.pairs.items()}
            rows = {path: self._put_rows(slot, path, one, trainable) for path, one in adapter.rows.items()}
        self._entries[key] = _Entry(slot, replace(adapter, pairs=pairs, rows=rows), trainable)
        self._keys[slot] = key
        return slot

    def remove(self, key: str) -> None:
        """Take an adapter out. Its slot is an error from now on.

        Raises:
            AdapterError: there is none of this name.
        """
        entry = self._entry(key)
        for path in entry.adapter.pairs:
            self._layers[path].drop(entry.slot)
        for path in entry.adapter.rows:
            del self._rows[path].slots[entry.slot]
        del self._entries[key], self._keys[entry.slot]

    def replace(self, key: str, adapter: Adapter, *, trainable: bool = False) -> int:
        """Put another adapter under a key and give its slot, a new one.

        Raises:
            AdapterError: there is none of this name, or the new one does not fit: then the old one stays.
        """
        self._entry(key)
        self._check_fit(key, adapter)
        self.remove(key)
        return self.add(key, adapter, trainable=trainable)

    def slot(self, key: str) -> int:
        """Give the slot of a key, or raise AdapterError."""
        return self._entry(key).slot

    def adapter(self, key: str) -> Adapter:
        """Copy an adapter out as it stands now, on the CPU in float32."""
        live = self._entry(key).adapter
        pairs = {path: _copied(pair) for path, pair in live.pairs.items()}
        rows = {path: TokenRows(one.ids, _copy(one.values)) for path, one in live.rows.items()}
        return replace(live, pairs=pairs, rows=rows)

    def parameters(self, key: str) -> list[nn.Parameter]:
        """Give a trainable adapter's tensors, A before B, in the order of its pairs, and its token rows after them.

        Raises:
            AdapterError: there is none of this name, or it was not added as trainable.
        """
        return list(self.named_parameters(key).values())

    def named_parameters(self, key: str) -> dict[str, nn.Parameter]:
        """Give the same under "<module path>.lora_A", ".lora_B", with DoRA ".lora_magnitude", and ".token_rows"."""
        entry = self._entry(key)
        if not entry.trainable:
            raise AdapterError(f'Adapter "{key}" is not trainable.', mend="Add it with trainable=True.")
        named: dict[str, nn.Parameter] = {}
        for path, pair in entry.adapter.pairs.items():
            named[f"{path}.lora_A"] = cast(nn.Parameter, pair.a)
            named[f"{path}.lora_B"] = cast(nn.Parameter, pair.b)
            if pair.magnitude is not None:
                named[f"{path}.lora_magnitude"] = cast(nn.Parameter, pair.magnitude)
        for path, rows in entry.adapter.rows.items():
            named[f"{path}.token_rows"] = cast(nn.Parameter, rows.values)
        return named

    @contextmanager
    def use(self, what: "Segments | int | None", *, dropout: torch.Generator | None = None) -> Iterator[None]:
        """Say which tokens use which adapter in the forward passes inside this context.

        Backward may run inside or after it; whoever computes a forward pass again in backward (checkpointing) asks `note`.

        Args:
            what: a slot for all tokens, segments of a flat batch, or None or -1 for the base alone.
            dropout: where this pass's masks come from. One seed is drawn for each adapter with dropout when the context
                opens, so use one context for each forward pass. None: nothing is dropped.

        Raises:
            AdapterError: a slot is unknown or removed, the segments do not cover the tokens, or a trainable adapter with
                dropout would be trained without a generator.
        """
        with self._planned(self._plan(what, dropout)):
            yield

    def note(self) -> Callable[[], AbstractContextManager[None]]:
        """Note what is in use now; what this gives brings it back, for layers that are computed again on the way back."""
        plan = self._current.plan
        return lambda: self._planned(plan)

    @contextmanager
    def _planned(self, plan: Plan | None) -> Iterator[None]:
        before, self._current.plan = self._current.plan, plan
        try:
            yield
        finally:
            self._current.plan = before

    def _plan(self, what: "Segments | int | None", generator: torch.Generator | None) -> Plan | None:
        if what is None or what == -1:
            return None
        slots = [what] if isinstance(what, int) else [slot for slot in what.adapter if slot != -1]
        for slot in slots:
            if slot not in self._keys:
                raise AdapterError(
                    f"The bank has no adapter in slot {slot}.", mend="Use a slot that `add` gave; -1 is the base."
                )
        plan = plan_all(what) if isinstance(what, int) else plan_segments(what, self._device())
        return replace(plan, dropout=self._dropout(slots, generator))

    def _dropout(self, slots: list[int], generator: torch.Generator | None) -> dict[int, tuple[float, int]]:
        seeds: dict[int, tuple[float, int]] = {}
        for slot in sorted(set(slots)):
            entry = self._entries[self._keys[slot]]
            share = entry.adapter.config.dropout
            if share == 0 or not entry.trainable or not torch.is_grad_enabled():
                continue
            if generator is None:
                raise AdapterError(
                    f'Adapter "{self._keys[slot]}" has dropout {share}, but no generator to draw from.',
                    mend="Give use(…, dropout=generator) in training, or compute without gradients.",
                )
            seeds[slot] = (share, int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
        return seeds

    def _device(self) -> torch.device:
        layer = next(iter(self._layers.values()))
        return next(iter((*layer.base.parameters(), *layer.base.buffers()))).device

    def _entry(self, key: str) -> _Entry:
        if key not in self._entries:
            raise AdapterError(f'The bank has no adapter "{key}".', mend=f"It has: {', '.join(self._entries) or 'none'}.")
        return self._entries[key]

    def _put_pair(self, slot: int, path: str, pair: Pair, trainable: bool) -> Pair:
        layer = self._layers[path]
        home = next(iter((*layer.base.parameters(), *layer.base.buffers())))
        a, b = (tensor.detach().to(home.device, torch.float32, copy=True).contiguous() for tensor in (pair.a, pair.b))
        anchor = None
        if pair.anchor is not None:
            a0, b0 = (tensor.detach().to(home.device, torch.float32, copy=True).contiguous() for tensor in pair.anchor)
            anchor = (a0, b0)
        magnitude = None
        if pair.magnitude is not None:
            magnitude = pair.magnitude.detach().to(home.device, torch.float32, copy=True).contiguous()
        if trainable:
            a, b = nn.Parameter(a), nn.Parameter(b)
            magnitude = None if magnitude is None else nn.Parameter(magnitude)
            layer.put(slot, SlotPair(a, b, pair.scaling, a, b, fixed=False, anchor=anchor, magnitude=magnitude))
        else:
            dtype = home.dtype if home.is_floating_point() else torch.float32
            scale = None
            if magnitude is not None:
                scale = row_scale(layer.base, RunPair(0, None, a, b, pair.scaling), magnitude)
            fixed = SlotPair(a, b, pair.scaling, a.to(dtype), b.to(dtype), fixed=True, magnitude=magnitude, row_scale=scale)
            layer.put(slot, fixed)
        return Pair(a, b, pair.scaling, anchor, magnitude)

    def _put_rows(self, slot: int, path: str, rows: TokenRows, trainable: bool) -> TokenRows:
        device = self._device()
        values = rows.values.detach().to(device, torch.float32, copy=True).contiguous()
        values = nn.Parameter(values) if trainable else values
        self._rows[path].slots[slot] = LiveRows(torch.tensor(rows.ids, device=device), values)
        return TokenRows(rows.ids, values)

    def _check_fit(self, key: str, adapter: Adapter) -> None:
        shapes = {path: (layer.out_features, layer.in_features) for path, layer in self._layers.items()}
        check_fit(adapter, shapes, self._tables, name=f'Adapter "{key}"')


def _copied(pair: Pair) -> Pair:
    anchor = None if pair.anchor is None else (_copy(pair.anchor[0]), _copy(pair.anchor[1]))
    magnitude = None if pair.magnitude is None else _copy(pair.magnitude)
    return Pair(_copy(pair.a), _copy(pair.b), pair.scaling, anchor, magnitude)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
