"""A generation step of a base of the Llama kind through C: one call a step, adapters of mixed rank inside it.

In eager torch a step of sixteen tokens costs some thirty calls a layer, which take longer than reading the weights does. Here
the weights are read once, as they lie, in bfloat16, 4 or 8 bits, and everything else happens while they pass. A token gets the
same bytes whatever shares its step. What this cannot do (other families, DoRA, float32, a CPU without the instructions) goes
the model's own way, and `NativeStep.of` or `takes` says so.

Held to the model's own layers, and those to float64, by tests/engine/generate/test_native_step.py.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from budwood.engine.fused.layer import Buffers
from budwood.engine.fused.place import can_compute, heads_of, is_llama_kind
from budwood.engine.generate.attend import Piece, one_request
from budwood.engine.generate.cache import SlotCache
from budwood.engine.layers import StandIn, decoder_layers
from budwood.engine.lora.layer import LoraLinear
from budwood.engine.lora.segments import Segments
from budwood.engine.native.attention import attention_forward
from budwood.engine.native.build import call, no_tiles
from budwood.engine.native.elementwise import rms_norm
from budwood.engine.quant.linear import Linear4bit, Linear8bit, QuantizedLinear

RANKS = 16
"""A pair's rank is filled up with zeros to a multiple of it."""
SLACK = 32
"""Numbers behind a B: the last row is read as if it were 32 long."""
MANY_PAIRS = 1 << 16
"""Pairs of tokens in a piece of prompt above which its attention goes as a product rather than token by token."""
LINEAR_FIELDS = 8
PRODUCT_FIELDS = 1 + 3 * LINEAR_FIELDS


@dataclass(frozen=True)
class _Pack:
    """An adapter as the kernel reads it: (layers, 7, 3) of A, B and rank, and the tensors that these lie in."""

    table: Tensor
    held: tuple[Tensor, ...]
    size_bytes: int


class NativeStep:
    """Runs steps of one model. Made by `NativeStep.of`."""

    def __init__(self, model: Any) -> None:
        config = model.config
        self._body: Any = model.base_model
        layers = [_own(layer) for layer in decoder_layers(model)]
        self._sites = [_linears(layer) for layer in layers]
        self._heads = [heads_of(layer.self_attn, config) for layer in layers]
        self._width = int(config.hidden_size)
        self._ffn = int(config.intermediate_size)
        self._buffers = Buffers()
        self._packs: dict[int, _Pack | None] = {}
        self._stacked: tuple[tuple[int, ...], Tensor] = ((), torch.zeros(len(layers), 0, 7, 3, dtype=torch.int64))
        bases = [_base(site) for sites in self._sites for site in sites]
        quantized = next((base for base in bases if isinstance(base, QuantizedLinear)), None)
        self._codes = () if quantized is None else quantized.workspace.tables(torch.device("cpu"))
        self._norm = self._body.norm
        self._layers, self._held = _layer_table(layers, self._sites, self._heads)

    @classmethod
    def of(cls, model: nn.Module) -> "NativeStep | None":
        """Give what runs this model's steps; None: it goes its own way."""
        parameter = next(model.parameters())
        if not is_llama_kind(model.config) or not can_compute(parameter.device, parameter.dtype):
            return None
        linears = [_base(site) for layer in decoder_layers(model) for site in _linears(_own(layer))]
        norms = [parameter for name, parameter in model.named_parameters() if "norm" in name]
        fitting = all(map(_fits, linears)) and all(norm.dtype == torch.bfloat16 for norm in norms)
        return cls(model) if fitting else None

    def takes(self, slots: Sequence[int]) -> bool:
        """Whether all of these adapters can be computed here; they must be in the bank."""
        return all(self._pack(slot) is not None for slot in slots)

    def forget(self, slot: int) -> None:
        """Drop what is held of an adapter that leaves the bank."""
        self._packs.pop(slot, None)
        self._stacked = ((), self._stacked[1][:, :0])

    def size_of(self, slot: int) -> int:
        """Memory that this adapter takes here, beside the bank's."""
        pack = self._pack(slot)
        return 0 if pack is None else pack.size_bytes

    def hidden(self, ids: Tensor, positions: Tensor, pieces: Sequence[Piece], cache: SlotCache, segments: Segments) -> Tensor:
        """Run the body over a step's tokens, after the last norm: (T, d), in a buffer that the next step overwrites.

        Args:
            ids: (T,).
            positions: (T,).
            pieces: the step's tokens, in order, without a gap.
            cache: reserved for every slot and position named in `pieces`.
            segments: which tokens use which adapter; an adapter's tokens lie together.
        """
        x = self._buffers.take("x", ids.new_empty(0, dtype=torch.bfloat16), len(ids), self._width)
        x.copy_(self._body.get_input_embeddings()(ids[None])[0])
        cosine, sine = (table[0].contiguous() for table in self._body.rotary_emb(x[None], positions[None]))
        step = _Step(self, x, cosine, sine, positions, pieces, cache, segments)
        step.run()
        normed = self._buffers.take("normed", x, *x.shape)
        rstd = self._buffers.take("rstd", x, len(x), 1, dtype=torch.float32)
        weight, epsilon = self._norm.weight.detach(), float(self._norm.variance_epsilon)
        rms_norm(x[:, None], weight, normed[:, None], rstd, epsilon=epsilon)
        return normed

    def _pack(self, slot: int) -> _Pack | None:
        if slot not in self._packs:
            with torch.inference_mode(False), torch.no_grad():
                self._packs[slot] = _packed(slot, self._sites)
        return self._packs[slot]

    def _pairs(self, slots: tuple[int, ...]) -> Tensor:
        """(layers, adapters, 7, 3), kept: decoding repeats them."""
        if self._stacked[0] != slots:
            tables = [pack.table for slot in slots if (pack := self._pack(slot)) is not None]
            self._stacked = (slots, torch.stack(tables, dim=1) if tables else self._stacked[1][:, :0])
        return self._stacked[1]


class _Step:
    """The arguments of one step's calls, in the order of `Step` in step.c."""

    def __init__(
        self,
        native: NativeStep,
        x: Tensor,
        cosine: Tensor,
        sine: Tensor,
        positions: Tensor,
        pieces: Sequence[Piece],
        cache: SlotCache,
        segments: Segments,
    ) -> None:
        heads = self._heads = native._heads
        first, tokens, take = heads[0], len(x), native._buffers.take
        like = x.new_empty(0, first.keys, first.width)
        self._caches = [cache.layer(index, like) for index in range(len(heads))]
        self._pieces = [piece for piece in pieces if piece.count * (piece.past + piece.count // 2) > MANY_PAIRS]
        slots = tuple(slot for slot in segments.adapter if slot >= 0)
        spans = [
            [start, end]
            for start, end, slot in zip(segments.starts, segments.starts[1:], segments.adapter, strict=False)
            if slot >= 0
        ]
        long = set(map(id, self._pieces))
        decoding = [
            [piece.start + offset, piece.slot, piece.past + offset + 1]
            for piece in pieces
            if id(piece) not in long
            for offset in range(piece.count)
        ]
        self._qkv = take("qkv", x, tokens, first.queries + 2 * first.keys, first.width)
        self._attended = take("attended", x, tokens, first.queries, first.width)
        tables = [
            torch.tensor([slot for piece in pieces for slot in [piece.slot] * piece.count]),
            positions,
            torch.tensor([[keys.data_ptr(), values.data_ptr()] for keys, values in self._caches]),
            torch.tensor(decoding),
            torch.tensor(spans),
            native._pairs(slots),
        ]
        gated = take("gated", x, tokens, native._ffn)
        columns = self._caches[0][0].shape[2]
        sizes = [tokens, native._width, first.queries, first.keys, first.width, native._ffn, columns]
        self._held = [x, cosine, sine, *tables, native._layers, gated]
        ways = [int(no_tiles() is None), len(decoding), len(slots)]
        last = [_bits(native._norm.variance_epsilon), _bits(first.scale)]
        codes = [table.data_ptr() for table in native._codes] or [0, 0]
        inputs = [tensor.data_ptr() for tensor in (native._layers, x, cosine, sine, *tables)]
        known = [*sizes, *ways, *inputs, *codes, *(tensor.data_ptr() for tensor in (self._qkv, self._attended, gated))]
        needed = torch.zeros(3, dtype=torch.int64)
        call("budwood_step_sizes", torch.tensor([*known, 0, 0, 0, 0, *last]), needed, len(heads))
        own, packed, thin = (int(number) for number in needed)
        room = [
            take("packed", x, packed),
            take("thin", x, thin),
            take("own", x, own * torch.get_num_threads(), dtype=torch.uint8),
        ]
        self._table = torch.tensor([*known, *(tensor.data_ptr() for tensor in room), own, *last])
        self._held += room

    def run(self) -> None:
        if not self._pieces:
            call("budwood_step_layers", self._table, len(self._heads))
            return
        for index in range(len(self._heads)):
            call("budwood_step_layer", self._table, index, 0, 2)
            for piece in self._pieces:
                self._attend(index, piece)
            call("budwood_step_layer", self._table, index, 2, 3)

    def _attend(self, index: int, piece: Piece) -> None:
        """Attention of a long piece of prompt: by the packed kernel if it is the prompt's first, else against the cache."""
        heads, part = self._heads[index], slice(piece.start, piece.start + piece.count)
        q, k, v = torch.split(self._qkv[part], [heads.queries, heads.keys, heads.keys], dim=1)
        out = self._attended[part]
        if piece.past == 0:
            lse = torch.empty(heads.queries, piece.count)
            rows = torch.tensor([0, piece.count], dtype=torch.int32)
            attention_forward(q, k, v, out, lse, rows, scale=heads.scale, window=heads.window)
            return
        keys, values = (side[piece.slot, :, : piece.past + piece.count] for side in self._caches[index])
        out.copy_(one_request(q, keys, values, piece.past, heads.scale, None, heads.window or None))


def _own(layer: nn.Module) -> Any:
    while isinstance(layer, StandIn):
        layer = layer.original
    return layer


def _linears(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def _base(site: nn.Module) -> nn.Module:
    return site.base if isinstance(site, LoraLinear) else site


def _fits(linear: Any) -> bool:
    """Whether the kernel reads this layer's weight: whole tiles of rows and of columns, as it is stored."""
    whole = linear.out_features % 16 == 0 and linear.in_features % 32 == 0
    whole = whole and (linear.bias is None or linear.bias.dtype == torch.bfloat16)
    if isinstance(linear, QuantizedLinear):
        return whole and not linear.transposed and isinstance(linear, Linear4bit | Linear8bit)
    return whole and type(linear) is nn.Linear and linear.weight.dtype == torch.bfloat16 and linear.weight.is_contiguous()


def _packed(slot: int, sites: Sequence[Sequence[nn.Module]]) -> _Pack | None:
    held: list[Tensor] = []
    shared = 0
    table: list[list[list[int]]] = []
    for layer in sites:
        row: list[list[int]] = []
        for site in layer:
            pair = site.pairs.get(slot) if isinstance(site, LoraLinear) else None
            if pair is None:
                row.append([0, 0, 0])
                continue
            if pair.magnitude is not None or pair.anchor is not None:
                return None
            rank = -(-len(pair.a) // RANKS) * RANKS
            a = pair.cast_a
            if rank != len(a) or a.dtype != torch.bfloat16:
                a = torch.zeros(rank, pair.a.shape[1], dtype=torch.bfloat16)
                a[: len(pair.a)] = pair.a
            rows = len(pair.b)
            b = torch.zeros(rows * rank + SLACK, dtype=torch.bfloat16)
            b[: rows * rank].view(rows, rank)[:, : len(pair.a)] = pair.b * pair.scaling
            # Others' tokens are multiplied by it, too, with zeros.
            if not bool(a.isfinite().all() & b.isfinite().all()):
                return None
            held += [a.contiguous(), b]
            shared += a.nbytes if held[-2] is pair.cast_a else 0
            row.append([held[-2].data_ptr(), b.data_ptr(), rank])
        table.append(row)
    if not held:
        return None
    return _Pack(torch.tensor(table), tuple(held), sum(tensor.nbytes for tensor in held) - shared)


def _layer_table(
    layers: Sequence[Any], sites: Sequence[Sequence[nn.Module]], heads: Sequence[Any]
) -> tuple[Tensor, list[Tensor]]:
    """(layers, fields) as `Layer` in step.c has them, and what they point to."""
    held: list[Tensor] = []

    def address(tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        held.append(tensor.detach().contiguous())
        return held[-1].data_ptr()

    rows = []
    for layer, linears, head in zip(layers, sites, heads, strict=True):
        norms = [norm.weight for norm in head.norms] if head.norms else [None, None]
        row = [address(layer.input_layernorm.weight), address(layer.post_attention_layernorm.weight), *map(address, norms)]
        row.append(head.window)
        for part in (linears[:3], linears[3:4], linears[4:6], linears[6:]):
            fields = [field for site in part for field in _linear_fields(_base(site), address)]
            row += [len(part), *fields, *[0] * (PRODUCT_FIELDS - 1 - len(fields))]
        rows.append(row)
    return torch.tensor(rows), held


def _linear_fields(linear: Any, address: Any) -> list[int]:
    shape = [linear.out_features, address(linear.bias)]
    if isinstance(linear, Linear4bit):
        plain = linear.nested_absmax is None
        scales = [linear.absmax, None, None, None] if plain else [None, linear.absmax, linear.nested_absmax, linear.offset]
        return [1, *shape, address(linear.packed), *map(address, scales)]
    if isinstance(linear, Linear8bit):
        return [2, *shape, address(linear.q), address(linear.scale), 0, 0, 0]
    return [0, *shape, address(linear.weight), 0, 0, 0, 0]


def _bits(number: float) -> int:
    """The bits of a double as a whole number."""
    found: int = struct.unpack("q", struct.pack("d", number))[0]
    return found
