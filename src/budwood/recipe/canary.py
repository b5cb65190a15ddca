"""[canary]: when a release on trial is taken back by itself."""

from typing import Annotated

from pydantic import Field

from budwood.recipe.section import Section

Rate = Annotated[float, Field(gt=0, le=1)]


class CanarySection(Section):
    """Limits that a release on trial may not break; one is broken when the counts leave no doubt of it.

    `*_rise` and `latency_ratio` compare with the release that it is tried against, the other limits are absolute.
    """

    max_error_rate: Rate = Field(default=1.0, description="largest share of requests that fail; 1: no limit")
    max_error_rise: Rate = Field(
        default=0.02, description="how much larger it may be than that of the stable side; 1: no limit"
    )
    max_schema_error_rate: Rate = Field(
        default=1.0, description="largest share of answers that break the schema that was asked for; 1: no limit"
    )
    max_schema_error_rise: Rate = Field(
        default=0.05, description="how much larger it may be than that of the stable side; 1: no limit"
    )
    max_latency_p95_s: float = Field(
        default=0.0, ge=0, description="largest 95th percentile of seconds from arrival to last token; 0: no limit"
    )
    max_latency_ratio: float = Field(
        default=3.0, ge=0, description="how many times the stable side's 95th percentile it may be; 0: no limit"
    )
    min_requests: int = Field(default=50, ge=1, description="before so many requests nothing is decided")
    window_s: float = Field(default=600.0, ge=1, description="seconds of traffic that are looked at")
    alpha: float = Field(default=0.001, gt=0, lt=0.5, description="error of each bound; small, since it is looked at often")
    watch_s: float = Field(
        default=1800.0, ge=0, description="how long a release is watched after `budwood canary promote`; 0: not at all"
    )
