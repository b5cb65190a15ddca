"""[gate]: the rules that a release has to pass."""

from typing import Literal

from pydantic import Field

from budwood.recipe.section import Section


class GateSection(Section):
    champion: Literal["superior", "non-inferior"] = Field(
        default="non-inferior", description="what the primary metric must be against the release now live"
    )
    min_quality: float = Field(default=0.0, ge=0, le=1, description="lowest acceptable value of the primary metric")
    quality_margin: float = Field(default=0.02, ge=0, le=1, description="largest loss of quality called non-inferior")
    policy_margin: float = Field(default=0.01, ge=0, le=1, description="largest rise of the policy violation rate")
    schema_margin: float = Field(default=0.02, ge=0, le=1, description="largest rise of the schema error rate")
    style_margin: float = Field(default=0.05, ge=0, le=1, description="largest rise of the style violation rate")
    latency_ratio: float = Field(default=3.0, gt=0, description="largest median seconds per token, against the champion")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="one-sided error of each interval bound")
    resamples: int = Field(default=4000, ge=200, le=100_000, description="bootstrap draws")
    min_cases: int = Field(default=30, ge=2, description="fewer cases are never evidence")
