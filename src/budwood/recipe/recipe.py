"""The whole recipe: its sections, and the checks that need more than one of them."""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from budwood.recipe.base import BaseSection
from budwood.recipe.evaluate import EvaluateSection
from budwood.recipe.gate import GateSection
from budwood.recipe.prepare import PrepareSection
from budwood.recipe.release import ReleaseSection
from budwood.recipe.section import Section
from budwood.recipe.serve import ServeSection
from budwood.recipe.source import SourceSection
from budwood.recipe.train import TrainSection

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
RESERVED = {"latest", "base", "none", "all", "default"}


class Recipe(Section):
    """One fine-tuning job. `folder` is where relative paths start; it is no part of any digest."""

    name: str = Field(description="name of the releases: lower-case letters, digits, . _ -")
    seed: int = Field(default=0, ge=0, description="start of every random choice")
    base: BaseSection = BaseSection()
    source: tuple[SourceSection, ...] = Field(min_length=1, strict=False, description="raw files")
    prepare: PrepareSection = PrepareSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    gate: GateSection = GateSection()
    release: ReleaseSection = ReleaseSection()
    serve: ServeSection = ServeSection()
    folder: Path = Field(default=Path("."), exclude=True, description="set by load_recipe")

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("use 1 to 64 lower-case letters, digits, '.', '_' or '-', with a letter or digit at both ends")
        if name in RESERVED:
            raise ValueError(f"{name!r} is reserved")
        return name

    @model_validator(mode="after")
    def _splits_leave_rows_to_train_on(self) -> Self:
        if self.prepare.validation + self.prepare.test >= 1:
            raise ValueError("prepare: validation + test must stay below 1")
        return self

    def path(self, relative: str) -> Path:
        """Resolve a path of the recipe against the recipe's folder."""
        return (self.folder / relative).resolve()
