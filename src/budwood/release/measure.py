"""Computing what golden probes are chosen from: each candidate prompt in every right way, and with wrong models.

    probes = make_probes(ref, prompts, adapter=adapter, count=4, max_new_tokens=12, stop_ids=template.stop_ids)

Right ways: float32 with one request alone (the reference), the serving path with other adapters' requests in the same batch,
the merged weights, and bfloat16. Wrong models: the base without the adapter, and the adapter at half and double scale. One
model is in memory at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from budwood.engine.probes import ProbeSet
from budwood.events import Event, Reporter, silent
from budwood.release.probes import Measured, choose_probes

if TYPE_CHECKING:
    from budwood.engine.base import BaseRef, LoadedBase, Quantization
    from budwood.engine.generate import Generator
    from budwood.engine.lora import Adapter, AdapterBank

Row = tuple[float, ...]
WRONG_SCALES: Mapping[str, float] = {"half": 0.5, "double": 2.0}
KEY = "release"


@dataclass(frozen=True)
class Spoken:
    """A prompt and what the release answers."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


def make_probes(
    ref: "BaseRef",
    prompts: Sequence[Sequence[int]],
    *,
    adapter: "Adapter | None",
    original: "BaseRef | None" = None,
    quantization: "Quantization" = "none",
    count: int,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    device: str = "cpu",
    report: Reporter = silent,
) -> ProbeSet:
    """Measure candidate prompts and choose the golden probes of a release.

    Args:
        ref: the base, or the full model that is released in its place.
        prompts: candidates, as token ids with the generation prompt appended; a few dozen are plenty.
        adapter: what is put on it; None for a full model or a plain base.
        original: for a full model: the base that it was trained from, which must be told apart.
        quantization: of the base.
        count: probes to keep.
        max_new_tokens: longest answer of a probe, its closing stop id included.
        stop_ids: tokens that end an answer.
        device: where to compute.
        report: told of progress.

    Raises:
        ReleaseError: no prompt tells the release from a wrong one.
    """
    measured = measure(
        ref,
        prompts,
        adapter=adapter,
        original=original,
        quantization=quantization,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        device=device,
        report=report,
    )
    chosen = choose_probes(measured, count=count)
    limits = ", ".join(f"{tolerance:.2g} in {precision}" for precision, tolerance in chosen.tolerances.items())
    report(Event("release", f"{len(chosen.probes)} golden probes, tolerance {limits}"))
    return chosen


def measure(
    ref: "BaseRef",
    prompts: Sequence[Sequence[int]],
    *,
    adapter: "Adapter | None",
    original: "BaseRef | None",
    quantization: "Quantization",
    max_new_tokens: int,
    stop_ids: Sequence[int],
    device: str = "cpu",
    report: Reporter = silent,
) -> list[Measured]:
    """Compute everything about each prompt; see `make_probes`."""
    import torch

    from budwood.engine.base import load_base

    steps = _Steps(report, total=3 + (original is not None))
    wide = load_base(ref, dtype=torch.float32, quantization=quantization, device=device)
    spoken, reference, correct, wrong = _with_bank(wide, adapter, prompts, max_new_tokens, tuple(stop_ids), steps)
    if adapter is not None and quantization == "none":
        correct["merged"] = _merged(wide, adapter, spoken)
    identity = wide.identity
    del wide
    narrow = load_base(ref, dtype=torch.bfloat16, quantization=quantization, device=device, identity=identity)
    correct["bfloat16"] = _scores(narrow, *_attached(narrow, adapter), spoken)
    steps.done("bfloat16 compared")
    del narrow
    if original is not None:
        wrong["base"] = _scores(load_base(original, dtype=torch.float32, device=device), None, -1, spoken)
        steps.done("base compared")
    return [
        Measured(
            answer.prompt,
            answer.tokens,
            reference[index],
            {way: rows[index] for way, rows in correct.items()},
            {model: rows[index] for model, rows in wrong.items()},
        )
        for index, answer in enumerate(spoken)
    ]


class _Steps:
    def __init__(self, report: Reporter, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def done(self, message: str) -> None:
        self._done += 1
        self._report(Event("release", f"Golden probes: {message}", self._done, self._total, "passes"))


def _with_bank(
    base: "LoadedBase",
    adapter: "Adapter | None",
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
    steps: _Steps,
) -> tuple[list[Spoken], list[Row], dict[str, list[Row]], dict[str, list[Row]]]:
    """Answers, reference, right ways and wrong models, all on one loaded base; the bank is taken off again."""
    from budwood.engine.generate import Generator

    bank, slot = _attached(base, adapter)
    scales = {name: _add_scaled(bank, adapter, name) for name in WRONG_SCALES} if bank and adapter else {}
    generator = Generator(base, bank)
    spoken = _answers(generator, slot, prompts, max_new_tokens, stop_ids)
    steps.done("answers made")
    reference = _scores(base, bank, slot, spoken)
    wrong = {name: _scores(base, bank, other, spoken) for name, other in scales.items()}
    if bank is not None:
        wrong["base"] = _scores(base, bank, -1, spoken)
    correct = {"mixed batch": _mixed(generator, slot, [-1, *scales.values()], spoken)}
    steps.done("wrong scales compared")
    if bank is not None:
        bank.detach(base.model)
    return spoken, reference, correct, wrong


def _attached(base: "LoadedBase", adapter: "Adapter | None") -> "tuple[AdapterBank | None, int]":
    from budwood.engine.lora import AdapterBank

    if adapter is None:
        return None, -1
    bank = AdapterBank.attach(base.model)
    return bank, bank.add(KEY, adapter)


def _add_scaled(bank: "AdapterBank", adapter: "Adapter", name: str) -> int:
    pairs = {path: replace(pair, scaling=pair.scaling * WRONG_SCALES[name]) for path, pair in adapter.pairs.items()}
    return bank.add(name, replace(adapter, pairs=pairs))


def _answers(
    generator: "Generator", slot: int, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop_ids: tuple[int, ...]
) -> list[Spoken]:
    """Answer greedily. The closing stop id belongs to a probe: that an answer ends here is learned as well."""
    from budwood.engine.generate import Request, generate

    requests = [Request(tuple(prompt), slot, max_new_tokens, stop_ids=stop_ids) for prompt in prompts]
    answers = generate(generator, requests)
    closed = [answer.tokens + (() if answer.stop_id is None else (answer.stop_id,)) for answer in answers]
    return [Spoken(request.prompt, tokens) for request, tokens in zip(requests, closed, strict=True)]


def _scores(base: "LoadedBase", bank: "AdapterBank | None", slot: int, spoken: Sequence[Spoken]) -> list[Row]:
    from budwood.engine.generate import score

    return [score(base, bank, slot, answer.prompt, answer.tokens) for answer in spoken]


def _mixed(generator: "Generator", slot: int, decoys: Sequence[int], spoken: Sequence[Spoken]) -> list[Row]:
    """Score on the serving path, every other request of the batch being somebody else's."""
    from budwood.engine.generate import Request, generate

    requests = []
    for index, answer in enumerate(spoken):
        for adapter in (slot, decoys[index % len(decoys)]):
            requests.append(Request(answer.prompt, adapter, len(answer.tokens), logprobs=0, forced=answer.tokens))
    return [answer.logprobs for answer in generate(generator, requests)[::2]]


def _merged(base: "LoadedBase", adapter: "Adapter", spoken: Sequence[Spoken]) -> list[Row]:
    """Score with the delta added to the weights; the model is not used again."""
    from budwood.engine.lora.merge import merged_weights

    base.model.load_state_dict(merged_weights(base.model, adapter))
    return _scores(base, None, -1, spoken)
