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
    poll_s: float = Field(default=0.1, gt=0, description="seconds between looks at the aliases")
    backend: Literal["embedded", "vllm"] = Field(default="embedded", description="what computes: our own engine, or vLLM")
    vllm_max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = Field(
        default=16, description="vLLM's --max-lora-rank; adapters above it are refused"
    )
