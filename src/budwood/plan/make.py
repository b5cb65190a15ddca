"""The plan: every method predicted, one chosen, with reasons."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from budwood.errors import BaseError
from budwood.identity import canonical_json
from budwood.plan.advice import LARGEST_RANK, RankCheck, check_rank, scale, warnings
from budwood.plan.lengths import Lengths
from budwood.plan.machine import Machine
from budwood.plan.memory import Checkpointing, Load, Method, memory_terms, peak
from budwood.plan.methods import Option, decide, fits
from budwood.plan.rates import default_rate
from budwood.plan.shape import BaseShape
from budwood.plan.time import Work, seconds
from budwood.recipe import Recipe, TrainSection

METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
FORMULAS = 2
"""Version of memory.py and time.py, kept with every prediction."""


@dataclass(frozen=True)
class Plan:
    """What would be done, what it would take, and why.

    Args:
        method: chosen.
        why: two lines.
        learning_rate: resolved.
        learning_rate_source: where it is from.
        options: all methods, predicted.
        rank_check: None before the rows are known, and for a full fine-tuning.
        adapter_scale: what an adapter's update is multiplied with.
        steps: about how many; None before the rows are known.
        warnings: what is unusual.
        machine: that the prediction is for.
        formulas: version of the formulas.
    """

    method: Method
    why: tuple[str, str]
    learning_rate: float
    learning_rate_source: str
    options: tuple[Option, ...]
    rank_check: RankCheck | None
    adapter_scale: float
    steps: int | None
    warnings: tuple[str, ...]
    machine: Machine
    formulas: int = FORMULAS

    @property
    def chosen(self) -> Option:
        return next(option for option in self.options if option.method == self.method)

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "why": list(self.why),
            "learning_rate": self.learning_rate,
            "learning_rate_source": self.learning_rate_source,
            "options": [option.as_dict() for option in self.options],
            "rank_check": self.rank_check.as_dict() if self.rank_check else None,
            "adapter_scale": self.adapter_scale,
            "steps": self.steps,
            "warnings": list(self.warnings),
            "machine": self.machine.as_dict(),
            "formulas": self.formulas,
        }

    def to_json(self) -> str:
        return canonical_json(self.as_dict()).decode()


def make_plan(recipe: Recipe, shape: BaseShape, lengths: Lengths | None, machine: Machine) -> Plan:
    """Predict all methods and choose.

    Args:
        recipe: [train] is read.
        shape: of the base.
        lengths: of the rows; None before they are prepared: then there is no time, and memory is for a full pass.
        machine: to train on.

    Raises:
        AdapterError: target_modules names no layer of the base, or the rank is larger than a layer.
        BaseError: the base is stored in 4 bits, and the recipe wants it in another form.
    """
    from budwood.engine.lora import resolve_pattern, target_paths

    section = recipe.train
    targets = target_paths(
        shape.linears,
        section.target_modules,
        layers=section.layers,
        rank=section.rank,
        where="[train] target_modules",
        rank_where="[train] rank",
    )
    per_rank = sum(sum(shape.linears[path]) for path in targets)
    ranks = resolve_pattern("rank_pattern", section.rank_pattern, targets)
    trained = sum(ranks.get(path, section.rank) * sum(shape.linears[path]) for path in targets)
    trained += _token_rows(section) * shape.hidden
    options = {method: _option(method, section, shape, trained, lengths, machine) for method in METHODS}
    rank = check_rank(section, per_rank, lengths) if lengths is not None and lengths.tokens else None
    _check_stored(section, shape)
    method, why = decide(
        "qlora" if shape.four_bits else section.method,
        options,
        memory_bytes=machine.memory_bytes,
        # Token rows belong to an adapter: who names them has chosen one.
        capacity_exceeded=rank is not None and not section.token_rows and rank.needed_rank > max(LARGEST_RANK, section.rank),
    )
    rate = default_rate(method, shape)
    return Plan(
        method=method,
        why=why,
        learning_rate=section.learning_rate or rate.value,
        learning_rate_source="the recipe" if section.learning_rate else rate.source,
        options=tuple(options.values()),
        rank_check=None if method == "full" else rank,
        adapter_scale=scale(section),
        steps=_steps(section, lengths),
        warnings=(*warnings(section, method, lengths, rank, targets), *_tight(options[method], machine)),
        machine=machine,
    )


def _token_rows(section: TrainSection) -> int:
    """How many are trained, at most: a tied head has the embedding's."""
    rows = section.token_rows
    return sum(map(len, rows.values())) if isinstance(rows, dict) else len(rows)


def _check_stored(section: TrainSection, shape: BaseShape) -> None:
    if shape.four_bits and (section.method not in ("auto", "qlora") or section.bits != 4):
        raise BaseError(
            f"This base is stored in 4 bits, so it can be trained on with qlora in 4 bits alone, not with method = "
            f"{section.method!r}, bits = {section.bits}.",
            where="[train] method",
            mend='Set method = "qlora" and bits = 4, or use the base that it was quantised from.',
        )


def _option(
    method: Method, section: TrainSection, shape: BaseShape, trained: int, lengths: Lengths | None, machine: Machine
) -> Option:
    """Predict one method; "auto" keeps all activations, unless only the layers' inputs fit."""
    predict = partial(_predict, method, section, shape, trained, lengths, machine)
    if section.checkpointing != "auto":
        return predict(section.checkpointing)
    whole = predict("none")
    return whole if whole.fits else predict("layer")


def _predict(
    method: Method,
    section: TrainSection,
    shape: BaseShape,
    trained: int,
    lengths: Lengths | None,
    machine: Machine,
    checkpointing: Checkpointing,
) -> Option:
    trainable = shape.parameters if method == "full" else trained
    fused = method != "full" and not section.dora and shape.llama_kind and _has_kernels(machine, section)
    load = Load(
        trainable=trainable,
        tokens=_largest_pass(section, lengths),
        supervised=lengths.supervised if lengths is not None else 1.0,
        compute_bytes=2 if section.precision == "bfloat16" else 4,
        bits=section.bits,
        keeps_best=section.keep == "best",
        fused=fused,
        checkpointing=checkpointing,
        device=machine.device,
    )
    terms = memory_terms(method, shape, load)
    total = peak(method, shape, load, terms)
    time = None
    if lengths is not None:
        work = Work(
            lengths,
            section.epochs,
            # One more than the recipe says: what training starts from is measured too.
            section.validations + 1,
            section.tokens_per_pass,
            section.precision,
            fused,
            checkpointing,
        )
        time = seconds(method, shape, trainable, work, machine)
    return Option(method, fits(total, machine.memory_bytes), total, terms, time, trainable, checkpointing)


def _has_kernels(machine: Machine, section: TrainSection) -> bool:
    import torch

    from budwood.engine.fused import can_compute

    return can_compute(torch.device(machine.device), getattr(torch, section.precision))


def _largest_pass(section: TrainSection, lengths: Lengths | None) -> int:
    budget = min(section.tokens_per_pass, section.tokens_per_step)
    if lengths is None:
        return budget
    # A set that is smaller than the budget never fills a pass; a row that is longer makes a pass of its own.
    return max(lengths.longest, min(budget, lengths.tokens))


def _steps(section: TrainSection, lengths: Lengths | None) -> int | None:
    if lengths is None:
        return None
    return max(1, round(section.epochs * lengths.tokens / section.tokens_per_step))


def _tight(option: Option, machine: Machine) -> tuple[str, ...]:
    if option.peak_bytes.expected <= machine.free_bytes:
        return ()
    return (
        f"{machine.free_bytes / 1e9:.1f} GB are free now, {option.peak_bytes.expected / 1e9:.1f} GB are expected to be needed: "
        "close other programs first.",
    )
