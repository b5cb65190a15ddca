"""The steps: passes, loss over the supervised tokens of the whole step, update, validation, checkpoint.

    fitted = fit(trainable, rows, validation_rows, settings, checkpoints=..., device=..., report=..., clock=time.monotonic)

Knows no store and no recipe. Everything that the result depends on is in the arguments and in the newest checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from budwood.engine.packed import PackedBatch, pack
from budwood.errors import TrainingError
from budwood.events import Event, Reporter
from budwood.train.checkpoint import Checkpoints, Saved
from budwood.train.curve import Point
from budwood.train.health import check_course, check_finite
from budwood.train.optimiser import Optimiser
from budwood.train.order import StepPlan, plan_steps
from budwood.train.pace import Pace
from budwood.train.ranks import Ranks
from budwood.train.rows import Rows, TrainRow
from budwood.train.schedule import learning_rate, validation_steps
from budwood.train.settings import TrainSettings
from budwood.train.trainable import Trainable
from budwood.train.validation import validation_loss

ALONE = Ranks()


class Watcher:
    """Whoever wants to see a curve while it grows; this one does not."""

    def begin(self, points: Sequence[Point]) -> None:
        """Take what was there before this process's first step."""

    def add(self, point: Point) -> None:
        """Take a point that was just made."""


@dataclass(frozen=True)
class Best:
    """The weights to keep, and the step after which they stood."""

    step: int
    validation_loss: float | None
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Args:
        kept: the weights to keep: of the lowest validation loss, or the last.
        curves: one point a step, and one for step 0 where there are validation rows.
        steps: made in all.
        tokens: seen, supervised or not, repeated epochs counted again.
        supervised: of these, learnt.
        tokens_per_s: in this process, validation left out; None when no step was left to do.
    """

    kept: Best
    curves: tuple[Point, ...]
    steps: int
    tokens: int
    supervised: int
    tokens_per_s: float | None


def fit(
    trainable: Trainable,
    rows: Rows,
    validation: Rows,
    settings: TrainSettings,
    *,
    checkpoints: Checkpoints,
    device: torch.device,
    report: Reporter,
    clock: Callable[[], float],
    watch: Watcher | None = None,
    ranks: Ranks = ALONE,
) -> Fitted:
    """Train from the newest checkpoint, or from the start; `watch` gets every point of the curves as it is made.

    Raises:
        TrainingError: the loss is not finite or has diverged, or `keep = "best"` has no validation rows to judge by. What
            was learnt so far stays in the checkpoints.
    """
    if settings.keep == "best" and not validation:
        raise TrainingError(
            'There is no validation row, but keep = "best" chooses by the validation loss.',
            where="[train] keep",
            mend='Give [prepare] validation a larger share, or set keep = "last".',
        )
    loop = _Loop(trainable, rows, validation, settings, checkpoints, device, report, clock, watch or Watcher(), ranks)
    loop.resume()
    loop.run()
    return loop.fitted()


@dataclass
class _State:
    """What changes from step to step besides weights and moments."""

    step: int = 0
    tokens: int = 0
    supervised: int = 0
    curves: list[Point] = field(default_factory=list)
    best: Best | None = None


class _Loop:
    def __init__(
        self,
        trainable: Trainable,
        rows: Rows,
        validation: Rows,
        settings: TrainSettings,
        checkpoints: Checkpoints,
        device: torch.device,
        report: Reporter,
        clock: Callable[[], float],
        watch: "Watcher",
        ranks: Ranks,
    ) -> None:
        self._ranks = ranks
        self._watch = watch
        self._trainable = trainable
        self._rows = rows
        self._validation = validation
        self._settings = settings
        self._checkpoints = checkpoints
        self._device = device
        self._report = report
        self._steps = _plan(rows, settings)
        self._validate_at = validation_steps(len(self._steps), settings.validations) if validation else frozenset()
        self._optimiser = Optimiser(trainable.parameters, settings)
        self._dropout = torch.Generator().manual_seed(settings.seed)
        self._state = _State()
        self._pace = Pace(clock, self._steps.tokens.tolist())

    def resume(self) -> None:
        """Take up the newest checkpoint; without one, note what training starts from."""
        saved = self._checkpoints.newest()
        if saved is not None:
            self._restore(saved)
            self._report(Event("train", f"Going on from step {saved.step:,} of {len(self._steps):,}"))
            began = int(saved.facts.get("processes", 1))
            if began != self._ranks.world:
                self._report(Event("train", f"{began} processes began it, {self._ranks.world} go on: sums round otherwise now"))
        elif self._validation:
            self._state.curves.append(Point(0, None, self._validate(), 0.0, None, 0))
        self._watch.begin(self._state.curves)

    def run(self) -> None:
        total = len(self._steps)
        for number in range(self._state.step, total):
            self._step(number)
            at = self._state.step
            if at % self._settings.checkpoint_every == 0 or at == total:
                self._save()

    def fitted(self) -> Fitted:
        state = self._state
        kept = state.best if self._settings.keep == "best" else None
        if kept is None:
            kept = Best(state.step, state.curves[-1].validation_loss, _copy(self._trainable.parameters))
        return Fitted(kept, tuple(state.curves), state.step, state.tokens, state.supervised, self._pace.tokens_per_s)

    def _step(self, number: int) -> None:
        state, step = self._state, self._steps[number]
        passes = [[self._rows[index] for index in rows] for rows in step.passes]
        rows = [row for chosen in passes for row in chosen]
        loss, tokens, supervised = self._passes(passes, number)
        self._ranks.join_gradients(self._trainable.parameters.values())
        norm = self._optimiser.measure()
        check_finite(norm, "The gradient norm", number + 1, rows, state.curves, self._checkpoints.last_step())
        rate = self._rate(number)
        self._optimiser.update(rate, norm)
        state.step = number + 1
        state.tokens += tokens
        state.supervised += supervised
        self._pace.done(tokens)
        self._tell(loss)
        validated = self._validate() if state.step in self._validate_at else None
        state.curves.append(Point(state.step, loss, validated, rate, norm, state.tokens))
        self._watch.add(state.curves[-1])
        check_course(state.curves, rows, self._checkpoints.last_step())
        if validated is not None:
            self._judge(validated, rows)

    def _passes(self, passes: Sequence[Sequence[TrainRow]], number: int) -> tuple[float, int, int]:
        """Accumulate the step's gradient; give mean loss, tokens and supervised tokens."""
        self._pace.start()
        packed = {index: self._pack(passes[index]) for index in self._ranks.mine(len(passes))}
        sizes = [(len(batch.targets), batch.tokens) for batch in packed.values()]
        supervised, tokens = map(int, self._ranks.total(sum(n for n, _ in sizes), sum(n for _, n in sizes)))
        sums: dict[int, Tensor] = {}
        for index in range(len(passes)):
            if index not in packed:
                self._trainable.skip(self._dropout)
                continue
            # Divided by the supervised tokens of the whole step: a mean of the passes' means would weigh tokens unequally.
            summed = self._trainable.loss_sum(packed[index], dropout=self._dropout)
            (summed / supervised).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            sums[index] = summed.detach()
            if len(passes) > 1:
                self._tell(None)
        for _ in range(self._ranks.idle(len(passes))):
            self._keep_company(passes[0])
        (whole,) = self._ranks.total(self._read(sums, passes, number))
        every = [row for rows in passes for row in rows]
        # Together: one that stopped alone would leave the others waiting.
        check_finite(whole, "Loss", number + 1, every, self._state.curves, self._checkpoints.last_step())
        return whole / supervised, tokens, supervised

    def _read(self, sums: Mapping[int, Tensor], passes: Sequence[Sequence[TrainRow]], number: int) -> float:
        """Add up the passes' losses: read all at once, since each reading waits for a GPU to have done what it was given."""
        values = torch.stack(list(sums.values())).tolist() if sums else []
        for index, value in zip(sums, values, strict=True):
            if self._ranks.world == 1:
                check_finite(value, "Loss", number + 1, passes[index], self._state.curves, self._checkpoints.last_step())
        return sum(values, 0.0)

    def _pack(self, rows: Sequence[TrainRow]) -> PackedBatch:
        return pack([row.encoded for row in rows], self._device, multiple=self._trainable.multiple)

    def _keep_company(self, rows: Sequence[TrainRow]) -> None:
        """Go through a pass that counts for nothing."""
        loss = self._trainable.loss_sum(self._pack(rows[:1]), dropout=torch.Generator())
        (loss * 0).backward()  # type: ignore[no-untyped-call]  # torch has no types here

    def _rate(self, number: int) -> float:
        chosen = self._settings
        return learning_rate(
            number, len(self._steps), peak=chosen.learning_rate, warmup=chosen.warmup, schedule=chosen.schedule
        )

    def _validate(self) -> float:
        self._pace.pause()
        return validation_loss(
            self._trainable,
            self._validation,
            tokens_per_pass=self._settings.tokens_per_pass,
            device=self._device,
            report=self._report,
            ranks=self._ranks,
        )

    def _judge(self, validated: float, rows: Sequence[TrainRow]) -> None:
        state = self._state
        check_finite(validated, "Validation loss", state.step, rows, state.curves, self._checkpoints.last_step())
        best = state.best
        if self._settings.keep == "best" and (best is None or best.validation_loss is None or validated < best.validation_loss):
            state.best = Best(state.step, validated, _copy(self._trainable.parameters))

    def _tell(self, loss: float | None) -> None:
        figures: dict[str, float | str] = {} if loss is None else {"loss": loss}
        if self._pace.tokens_per_s is not None:
            figures |= {"tokens/s": self._pace.tokens_per_s, "left": self._pace.left(self._state.step)}
        title = f"Training {self._settings.method}"
        self._report(Event("train", title, done=self._state.step, total=len(self._steps), unit="steps", fields=figures))

    def _save(self) -> None:
        state = self._state
        tensors: dict[str, Tensor] = {f"weight.{name}": parameter for name, parameter in self._trainable.parameters.items()}
        tensors |= self._optimiser.state() | {"dropout": self._dropout.get_state()}
        if state.best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in state.best.tensors.items()}
        facts = {
            "tokens": state.tokens,
            "supervised": state.supervised,
            "curves": [point.as_dict() for point in state.curves],
            "best": None if state.best is None else [state.best.step, state.best.validation_loss],
            "threads": torch.get_num_threads(),
            "way": self._trainable.way,
            "processes": self._ranks.world,
        }
        self._pace.pause()
        if self._ranks.first:
            self._checkpoints.save(state.step, tensors, facts)
        self._ranks.wait()

    def _restore(self, saved: Saved) -> None:
        facts = saved.facts
        way = self._trainable.way
        if facts.get("way", way) != way:
            raise TrainingError(
                f"This training was begun by another way of computing ({facts['way']}) than this machine has now ({way}), "
                "which rounds differently.",
                where="the checkpoint",
                mend="Restore what it was begun with (a C compiler, the processor or GPU, the attention kernel, [train] "
                "compile), or train anew with another seed.",
            )
        best = None
        if facts["best"] is not None:
            best = Best(facts["best"][0], facts["best"][1], _part(saved.tensors, "best."))
        load_weights(self._trainable, _part(saved.tensors, "weight."))
        self._optimiser.restore(saved.tensors, updates=saved.step)
        self._dropout.set_state(saved.tensors["dropout"])
        curves = [Point(**point) for point in facts["curves"]]
        self._state = _State(saved.step, facts["tokens"], facts["supervised"], curves, best)


def load_weights(trainable: Trainable, tensors: Mapping[str, Tensor]) -> None:
    """Put weights into the parameters, in place."""
    with torch.no_grad():
        for name, parameter in trainable.parameters.items():
            parameter.copy_(tensors[name])


def _plan(rows: Rows, settings: TrainSettings) -> StepPlan:
    steps = plan_steps(
        rows.lengths,
        rows.weights,
        rows.names,
        epochs=settings.epochs,
        tokens_per_step=settings.tokens_per_step,
        tokens_per_pass=settings.tokens_per_pass,
        seed=settings.seed,
    )
    if not steps:
        raise TrainingError(
            "There is nothing to train on: no row is taken in these epochs.",
            where="[train] epochs and the sources' weights",
            mend="Train for more epochs, or raise the weights.",
        )
    return steps


def _copy(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
