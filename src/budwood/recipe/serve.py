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
    timeout_s: float = Field(default=600, gt=0, description="an answer that is not whole by then is broken off with 504")
    on_demand: bool = Field(
        default=True,
        description="a request may name any registered release by version or digest; it is loaded and proved first",
    )
    adapter_memory_mb: int = Field(
        default=1024,
        ge=0,
        description="memory of adapters; beyond it the least recently used go, never those of aliases and the ones before",
    )
    prefix_cache_mb: int = Field(default=256, ge=0, description="memory for beginnings of prompts, by release; 0: none")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="compute dtype of the base")
    poll_s: float = Field(default=0.1, gt=0, description="seconds between looks at the aliases")
