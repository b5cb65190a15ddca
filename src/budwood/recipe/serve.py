"""[serve]: the OpenAI-compatible endpoint."""

from typing import Literal

from pydantic import Field

from budwood.recipe.section import Section


class ServeSection(Section):
    host: str = Field(default="127.0.0.1", description="address to bind; loopback by default")
    port: int = Field(default=8321, ge=0, le=65535, description="0: any free port, printed at start")
    max_batch: int = Field(default=64, ge=1, description="requests decoded together")
    max_queue: int = Field(default=1024, ge=1, description="requests waiting; more are answered 429")
    max_new_tokens: int = Field(default=512, ge=1, description="ceiling of max_tokens")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="compute dtype of the base")
    sample: float = Field(
        default=0.0, ge=0, le=1, description="share of answered requests kept in the store, without personal data; 0: none"
    )
    sample_days: int = Field(default=30, ge=1, description="days after which kept requests, also a shadow's, are removed")
    drift_hours: float = Field(
        default=0.0, ge=0, description="hours between comparisons of kept requests with the held-out set; 0: on command only"
    )
    drift_margin: float = Field(
        default=0.15, ge=0, le=0.5, description="how far above 0.5 the AUC of that comparison may lie before a verdict is stale"
    )
    poll_s: float = Field(default=0.1, gt=0, description="seconds between looks at the aliases")
