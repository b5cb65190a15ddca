"""Instruction-following difficulty (IFD): how little a row's prompt helps to say its answer.

    IFD = mean loss of the answer's tokens after their prompt / mean loss of the same tokens without it

Both by the base as it is, in one template. The answer's tokens are those that training would learn, the token that ends the
answer included. "Without" means: after what the template renders for a user's empty message, the opening of the answer's turn
included; so both sides have the same tokens under the same marks, and only what was asked is missing. Where a row teaches
several answers, each stands alone in the second pass and all before it (system, tools, earlier turns) in the first; both sums
are over all of them.

Low: the base finds the answer as soon as it is asked, there is little to learn. High: it has to be learnt. 1 or more: the
prompt makes the answer less likely, the two do not belong together, or the base cannot tell.

Source: Li et al., "From Quantity to Quality" (arXiv:2308.12032), equation 4, whose direct score is taken without any template;
that small bases rank rows as large ones do: "Superfiltering" (arXiv:2402.00530). Held to transformers, row by row, by
tests/data/test_ifd.py.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budwood.data.scores.kept import Losses, content_key, kept_losses
from budwood.errors import DataError
from budwood.events import Event, Reporter
from budwood.identity import Digest

if TYPE_CHECKING:
    from budwood.data.rows import KeptRow
    from budwood.data.scores.kept import KeptLosses
    from budwood.engine.base import BaseIdentity, BaseRef, Quantization
    from budwood.engine.chat import ChatTemplate
    from budwood.engine.packed import Encoded
    from budwood.store import Store

VERSION = 1
"""Raised when the same row and base would give another score."""
WINDOW = 32
"""Passes whose rows are sorted by length together."""
LARGEST = 8192
"""Rows that are held at once."""


@dataclass(frozen=True)
class Judge:
    """The base that scores, in one form.

    Args:
        ref: where it lies.
        identity: what it is.
        template: its chat template.
        quantization: "none", "nf4" or "int8".
        precision: "float32" or "bfloat16".
        tokens_per_pass: token budget of a forward pass; changes no score but by rounding.
        device: where to compute.
    """

    ref: "BaseRef"
    identity: "BaseIdentity"
    template: "ChatTemplate"
    quantization: "Quantization" = "none"
    precision: str = "float32"
    tokens_per_pass: int = 4096
    device: str = "cpu"

    @classmethod
    def open(cls, id: str, *, start: Path, **form: Any) -> "Judge":
        """Find a base by its id and read what it is; nothing is loaded.

        Raises:
            BaseError: there is none, or it cannot be used.
        """
        from budwood.engine.base import identify_base, load_tokenizer, resolve_base
        from budwood.engine.chat import chat_template
        from budwood.engine.text_identity import template_file

        ref = resolve_base(id, start=start)
        template = chat_template(load_tokenizer(ref), where=str(template_file(ref.folder)))
        return cls(ref, identify_base(ref), template, **form)

    @cached_property
    def read(self) -> "Callable[[Sequence[Encoded]], list[float]]":
        """Texts of one pass → the summed loss of each; brings the base into memory, its layers fused where they can be."""
        import torch

        from budwood.engine.base import load_base
        from budwood.engine.fused import fuse
        from budwood.engine.lora import AdapterBank
        from budwood.engine.row_losses import row_losses

        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        base = load_base(self.ref, dtype=dtype, quantization=self.quantization, device=self.device, identity=self.identity)
        model, bank = base.model, AdapterBank.attach(base.model)
        fuse(model, keep=False)

        def read(texts: "Sequence[Encoded]") -> list[float]:
            with bank.use(None):
                return row_losses(model, texts, self.device)

        return read

    @cached_property
    def unasked(self) -> "Encoded":
        """What comes before an answer to which nothing was asked: no token of it counts."""
        from budwood.engine.packed import Encoded

        ids = self.template.encode_prompt([{"role": "user", "content": ""}])
        return Encoded(tuple(ids), (False,) * len(ids))

    def settings(self) -> dict[str, Any]:
        """What scores depend on besides the rows, as JSON values."""
        return {
            "base": self.identity.weights_digest,
            "tokenizer": self.identity.tokenizer_digest,
            "template": self.template.digest,
            "quantization": self.quantization,
            "precision": self.precision,
            "version": VERSION,
        }


def ifd(
    store: "Store", snapshot: Digest, rows: Iterable["KeptRow"], judge: Judge, *, total: int, report: Reporter
) -> Iterator[float | str]:
    """Give the IFD of each row in order, or why it has none.

    Losses are noted in the store as they are computed: after a kill, and for another snapshot with the same rows, only what is
    new is computed; where nothing is, the base is not loaded.

    Args:
        store: keeps the losses.
        snapshot: that the rows are of.
        rows: to score.
        judge: the base that scores.
        total: how many rows there are.
        report: gets events.

    Raises:
        BaseError: the base cannot be loaded.
        DataError: its template does not render an empty question; or another process is computing the same.
    """
    name = "ifd-" + store.action("ifd", VERSION, judge.settings(), [], 0)[:32]
    done = 0
    with kept_losses(store, snapshot, name) as kept:
        for window in _windows((_entry(row, kept, judge) for row in rows), judge.tokens_per_pass):
            for settled in _settle(window, kept, judge):
                report(Event("data", "Scoring by ifd", done=done + settled, total=total, unit="rows"))
            done += len(window)
            yield from (one.fault or _ratio(one) for one in window)


@dataclass
class _Entry:
    """A row on its way: with losses, with a fault, or with the texts that have to go through the base."""

    key: bytes
    losses: Losses | None = None
    fault: str = ""
    given: "Encoded | None" = None
    alone: Sequence["Encoded"] = ()

    @property
    def texts(self) -> list["Encoded"]:
        return [] if self.given is None else [self.given, *self.alone]

    @property
    def tokens(self) -> int:
        return sum(len(text.ids) for text in self.texts)


def _entry(row: "KeptRow", kept: "KeptLosses", judge: Judge) -> _Entry:
    entry = _Entry(content_key(row))
    entry.losses = kept.find(entry.key)
    if entry.losses is not None:
        return entry
    if not _asks(row):
        return replace(entry, fault="it has no prompt")
    try:
        entry.given = judge.template.encode_row(row.messages, row.value.get("tools", ()))
    except DataError as error:
        return replace(entry, fault=error.what.rstrip("."))
    entry.alone = [_after(judge.unasked, answer) for answer in _answers(entry.given)]
    longest, context = max(len(text.ids) for text in entry.texts), judge.identity.context
    return replace(entry, fault=f"it is longer than the base's context of {context:,} tokens") if longest > context else entry


def _asks(row: "KeptRow") -> bool:
    """Whether anything is said before the first answer that is learnt."""
    for message in row.messages:
        if message["role"] != "assistant" and message["content"].strip():
            return True
        if message["role"] == "assistant" and message.get("train", True):
            return False
    return False


def _answers(row: "Encoded") -> list[tuple[int, ...]]:
    """The supervised stretches of a row."""
    marked = zip(row.ids, row.supervised, strict=True)
    return [tuple(id for id, _ in stretch) for learnt, stretch in groupby(marked, lambda one: one[1]) if learnt]


def _after(start: "Encoded", answer: tuple[int, ...]) -> "Encoded":
    from budwood.engine.packed import Encoded

    return Encoded(start.ids + answer, start.supervised + (True,) * len(answer))


def _windows(entries: Iterable[_Entry], tokens_per_pass: int) -> Iterator[list[_Entry]]:
    """Gather rows until what they ask of the base fills some passes."""
    window: list[_Entry] = []
    tokens = 0
    for entry in entries:
        window.append(entry)
        tokens += entry.tokens
        if tokens >= WINDOW * tokens_per_pass or len(window) == LARGEST:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def _settle(window: Sequence[_Entry], kept: "KeptLosses", judge: Judge) -> Iterator[int]:
    """Compute the losses that are missing, and note them pass by pass; give how many rows are done as it goes."""
    from budwood.engine.packed import plan_passes

    missing = [entry for entry in window if entry.losses is None and not entry.fault]
    # All texts of a row share a pass, so that a pass's rows are done with it.
    passes = plan_passes([entry.tokens for entry in missing], judge.tokens_per_pass, seed=0, epoch=0) if missing else []
    settled = len(window) - len(missing)
    yield settled
    for together in passes:
        entries = [missing[place] for place in together]
        losses = iter(judge.read([text for entry in entries for text in entry.texts]))
        noted = {}
        for entry in entries:
            given, *alone = islice(losses, len(entry.texts))
            noted[entry.key] = entry.losses = Losses(given, sum(alone), sum(sum(text.supervised) for text in entry.alone))
            entry.given, entry.alone = None, ()
        kept.add(noted)
        settled += len(entries)
        yield settled


def _ratio(entry: _Entry) -> float | str:
    """Both means are over the same tokens, so the sums give the ratio."""
    assert entry.losses is not None
    ratio = entry.losses.given / entry.losses.alone if entry.losses.alone > 0 else math.nan
    return ratio if math.isfinite(ratio) else "the base gives no finite loss for its answer"
