"""Attention of one step: writes the new keys and values into the cache, then lets every token look at its own request.

`StepAttention` is the object behind the `kv` argument of the engine's attention function. It is made once a step from the
step's layout; each layer then calls `attend`. Decoding requests, one token each, go through one padded product; a prefill
chunk goes alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from budwood.engine.generate.cache import SlotCache, longest_batch

ROW_COST = 256
"""Padded positions of work that one extra pair of small products costs: launches, not arithmetic (2 CPU cores)."""


@dataclass(frozen=True)
class Piece:
    """`count` consecutive tokens of one request, from `start` of the step's tokens on; positions of `slot` from `past`."""

    start: int
    count: int
    slot: int
    past: int


class StepAttention:
    """Keys, values and masks of one step.

    Args:
        cache: reserved for every slot and position named in `pieces`.
        pieces: the step's tokens, in order, without a gap.
        device: where the step's tensors are.
    """

    def __init__(self, cache: SlotCache, pieces: Sequence[Piece], device: torch.device) -> None:
        self._cache = cache
        self._prefills = [piece for piece in pieces if piece.count > 1]
        decodes = [piece for piece in pieces if piece.count == 1]
        slots: list[int] = []
        positions: list[int] = []
        for piece in pieces:
            slots += [piece.slot] * piece.count
            positions += range(piece.past, piece.past + piece.count)
        self._slots = torch.tensor(slots, device=device)
        self._positions = torch.tensor(positions, device=device)
        self._masks: dict[int | None, Tensor | None] = {}
        self._longs: list[Piece] = []
        self._rows = self._columns = 0
        if decodes:
            self._lay_out_decodes(decodes, device)

    def _lay_out_decodes(self, decodes: list[Piece], device: torch.device) -> None:
        # Each row's own count of visible positions, 1 for a slot that does not decode in this step: its row of the product
        # is thrown away, but must stay finite.
        self._columns = longest_batch([piece.past + 1 for piece in decodes], ROW_COST)
        self._longs = [piece for piece in decodes if piece.past >= self._columns]
        shorts = [piece for piece in decodes if piece.past < self._columns]
        self._rows = max(piece.slot for piece in shorts) + 1
        lengths = [1] * self._rows
        for piece in shorts:
            lengths[piece.slot] = piece.past + 1
        self._lengths = torch.tensor(lengths, device=device)
        self._even = min(lengths) == self._columns
        self._tokens = torch.tensor([piece.start for piece in shorts], device=device)
        self._token_slots = torch.tensor([piece.slot for piece in shorts], device=device)

    def attend(
        self,
        layer_index: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scaling: float,
        softcap: float | None = None,
        window: int | None = None,
    ) -> Tensor:
        """Attend every token of the step to its own request, itself included.

        Args:
            layer_index: which layer's keys and values.
            q: (T, Hq, D).
            k: (T, Hk, D), Hq a multiple of Hk.
            v: (T, Hk, D).
            scaling: factor on q·k.
            softcap: scores become softcap · tanh(score / softcap).
            window: a token sees itself and the window - 1 before it; None: all.

        Returns:
            (T, Hq, D).
        """
        keys, values = self._cache.layer(layer_index, k)
        keys[self._slots, :, self._positions] = k
        values[self._slots, :, self._positions] = v
        out = torch.empty_like(q)
        if self._rows:
            self._decode(q, keys, values, out, scaling, softcap, window)
        for piece in (*self._prefills, *self._longs):
            end = piece.past + piece.count
            part = slice(piece.start, piece.start + piece.count)
            own_keys, own_values = keys[piece.slot, :, :end], values[piece.slot, :, :end]
            out[part] = one_request(q[part], own_keys, own_values, piece.past, scaling, softcap, window)
        return out

    def _decode(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        out: Tensor,
        scaling: float,
        softcap: float | None,
        window: int | None,
    ) -> None:
        rows, columns, (heads, width), kv_heads = self._rows, self._columns, q.shape[1:], keys.shape[1]
        by_slot = q.new_zeros(rows, heads, width)
        by_slot[self._token_slots] = q[self._tokens]
        # Query heads that share a key head become rows of one product: keys are read once, never repeated.
        grouped = by_slot.view(rows, kv_heads, heads // kv_heads, width) * scaling
        scores = grouped @ keys[:rows, :, :columns].transpose(2, 3)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        mask = self._mask(window)
        if mask is not None:
            scores = scores + mask
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        attended = weights @ values[:rows, :, :columns]
        out[self._tokens] = attended.reshape(rows, heads, width)[self._token_slots]

    def _mask(self, window: int | None) -> Tensor | None:
        """(rows, 1, 1, columns) of 0 and -inf, made once a step and window; None where every row sees every column."""
        if window not in self._masks:
            masked = window is not None and window < self._columns
            if self._even and not masked:
                self._masks[window] = None
            else:
                column = torch.arange(self._columns, device=self._lengths.device)
                hidden = column >= self._lengths[:, None]
                if masked and window is not None:
                    hidden |= column < (self._lengths - window)[:, None]
                mask = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
                self._masks[window] = mask[:, None, None]
        return self._masks[window]


def one_request(
    q: Tensor, keys: Tensor, values: Tensor, past: int, scaling: float, softcap: float | None, window: int | None
) -> Tensor:
    """Attend `q` (t, Hq, D) at positions past.. to keys and values (Hk, past + t, D) of its own request → (t, Hq, D)."""
    t, heads, width = q.shape
    kv_heads, end, _ = keys.shape
    causal = past == 0 and (window is None or window >= t)
    hidden = None if causal and softcap is None else _hidden(past, t, window, q.device)
    if softcap is None:
        attended = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=None if hidden is None else ~hidden,
            is_causal=causal,
            scale=scaling,
            enable_gqa=heads != kv_heads,
        )
        return attended[0].transpose(0, 1)
    # Softcap has no kernel: (Hk, G·t, D) rows against the shared keys. Scores are (Hk, G·t, end); prompt chunks bound t.
    group = heads // kv_heads
    query = q.view(t, kv_heads, group, width).permute(1, 2, 0, 3).reshape(kv_heads, group * t, width) * scaling
    scores = torch.tanh((query @ keys.transpose(1, 2)) / softcap) * softcap
    if hidden is not None:
        scores = scores.view(kv_heads, group, t, end).masked_fill(hidden, float("-inf")).view(kv_heads, group * t, end)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    attended = (weights @ values).view(kv_heads, group, t, width)
    return attended.permute(2, 0, 1, 3).reshape(t, heads, width)


def _hidden(past: int, t: int, window: int | None, device: torch.device) -> Tensor | None:
    """(t, past + t), True where a token may not look; None where it may look everywhere."""
    if t == 1 and (window is None or window > past):
        return None
    column = torch.arange(past + t, device=device)
    row = torch.arange(past, past + t, device=device)[:, None]
    hidden = column > row
    return hidden if window is None else hidden | (column <= row - window)
