"""The whole recipe: its sections, and the checks that need more than one of them."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from budwood.recipe.base import BaseSection
from budwood.recipe.canary import CanarySection
from budwood.recipe.evaluate import EvaluateSection
from budwood.recipe.gate import GateSection
from budwood.recipe.names import check_name
from budwood.recipe.prepare import PrepareSection
from budwood.recipe.release import ReleaseSection
from budwood.recipe.section import LARGEST_SEED, Section
from budwood.recipe.serve import ServeSection
from budwood.recipe.source import SourceSection
from budwood.recipe.train import TrainSection


class Recipe(Section):
    """One fine-tuning job. `folder` is where relative paths start; it is no part of any digest."""

    name: Annotated[str, AfterValidator(check_name)] = Field(
        description="name of the releases: lower-case letters, digits, . _ -"
    )
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED, description="start of every random choice")
    base: BaseSection = BaseSection()
    source: tuple[SourceSection, ...] = Field(min_length=1, strict=False, description="raw files")
    prepare: PrepareSection = PrepareSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    gate: GateSection = GateSection()
    release: ReleaseSection = ReleaseSection()
    canary: CanarySection = CanarySection()
    serve: ServeSection = ServeSection()
    folder: Path = Field(default=Path("."), exclude=True, description="set by load_recipe")

    @model_validator(mode="after")
    def _splits_leave_rows_to_train_on(self) -> Self:
        if self.prepare.validation + self.prepare.test >= 1:
            raise ValueError("prepare: validation + test must stay below 1")
        return self

    @model_validator(mode="after")
    def _name_is_not_the_bases(self) -> Self:
        plain = self.base.id.partition("@")[0].rstrip("/").rpartition("/")[2].lower()
        if self.name == plain:
            raise ValueError(
                f'name = "{self.name}" is the base model\'s own: nobody could tell which of them answers. Choose another, '
                f'e.g. "{self.name}-tuned"'
            )
        return self

    @model_validator(mode="after")
    def _vllm_can_serve_what_is_trained(self) -> Self:
        """Say it before the training: the server would refuse the release."""
        if self.serve.backend != "vllm":
            return self
        train, most = self.train, self.serve.vllm_max_lora_rank
        widest = 0 if train.method == "full" else max([train.rank, *train.rank_pattern.values()])
        doubled = ", which pissa doubles" if train.init == "pissa" else ""
        above = widest * (2 if doubled else 1) > most
        faults = {
            "dora = true: vLLM does not know DoRA": train.dora,
            "token_rows: vLLM does not know trained token rows": bool(train.token_rows),
            'method = "qlora": vLLM cannot hold the base as it would be judged, in 4 or 8 bits': train.method == "qlora",
            f"rank = {widest}{doubled}: it is above [serve] vllm_max_lora_rank = {most}": above,
        }
        found = [fault for fault, is_there in faults.items() if is_there]
        if found:
            raise ValueError(f'[serve] backend = "vllm" cannot serve what [train] makes: {"; ".join(found)}')
        return self

    def path(self, relative: str) -> Path:
        """Where a path of the recipe leads, from the recipe's folder."""
        return self.folder / relative
