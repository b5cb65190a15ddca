"""[serve]: the OpenAI-compatible endpoint."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from budwood.recipe.section import Names, Section


def _named(value: Any) -> Any:
    """Refuse what `on_demand` was once, and say what it is called now."""
    if isinstance(value, bool):
        means = '"any", or "judged" to keep out what no gate has passed' if value else '"none"'
        raise ValueError(f"it is a word by now; for what {str(value).lower()} meant, write {means}")
    return value


class ServeSection(Section):
    host: str = Field(default="127.0.0.1", description="address to bind; loopback by default")
    hosts: Names = Field(default=(), description="further names by which clients reach the server, as in their Host header")
    auth: Literal["auto", "required", "off"] = Field(
        default="auto",
        description='who needs a token: "auto": everybody, once the store has had one; "off": nobody, on loopback only',
    )
    port: int = Field(default=8321, ge=0, le=65535, description="0: any free port, printed at start")
    max_batch: int = Field(default=64, ge=1, description="requests decoded together")
    max_queue: int = Field(default=1024, ge=1, description="requests waiting; more are answered 429")
    max_new_tokens: int = Field(default=512, ge=1, description="ceiling of max_tokens")
    on_demand: Annotated[Literal["judged", "any", "none"], BeforeValidator(_named)] = Field(
        default="judged",
        description='releases that a request may name by version or digest though no alias points to them: "judged": with '
        'verdict PROMOTE, or live once; "any": all that are registered; "none"',
    )
    adapter_memory_mb: int = Field(
        default=1024,
        ge=0,
        description="memory of adapters; beyond it the least recently used go, never those of aliases and the ones before",
    )
    prefix_cache_mb: int = Field(default=256, ge=0, description="memory for beginnings of prompts, by release; 0: none")
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
    max_streams: int = Field(default=256, ge=1, description="answers streamed at once; more are answered 429")
    requests_per_minute: int = Field(default=0, ge=0, description="of one token, or of all without one; 0: no limit")
    tokens_per_minute: int = Field(default=0, ge=0, description="prompts and answers of one token; 0: no limit")
    deadline_s: float = Field(default=600.0, gt=0, description="longest time that an answer may take; then it is cut: 504")
    write_timeout_s: float = Field(default=30.0, gt=0, description="how long a client may read nothing; then it is cut off")
    log_requests: bool = Field(default=False, description="one JSON line a request on stderr; never a prompt or an answer")
    backend: Literal["embedded", "vllm"] = Field(default="embedded", description="what computes: our own engine, or vLLM")
    vllm_urls: Names = Field(default=(), description="vLLM servers of one base that run already, e.g. http://10.0.0.5:8000")
    vllm_python: str = Field(default="", description="Python of an environment with vLLM; Budwood then starts the server")
    vllm_key_env: str = Field(default="", description="environment variable with the API key of vllm_urls")
    vllm_adapters: str = Field(default="", description="folder that the servers of vllm_urls read under the same path")
    vllm_max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = Field(
        default=16, description="vLLM's --max-lora-rank; adapters above it are refused"
    )
    vllm_max_loras: int = Field(default=4, ge=1, description="vLLM's --max-loras: adapters in one batch")
    vllm_arguments: Names = Field(default=(), description="further arguments of a vLLM server that Budwood starts")

    @model_validator(mode="after")
    def _one_way_to_vllm(self) -> Self:
        ways = [name for name in ("vllm_urls", "vllm_python") if getattr(self, name)]
        if self.backend == "vllm" and len(ways) != 1:
            raise ValueError('backend = "vllm" needs either vllm_urls, or vllm_python to start a server')
        if self.backend == "embedded" and ways:
            raise ValueError(f'{ways[0]} is of no use with backend = "embedded"; write backend = "vllm"')
        started_only = [name for name in ("vllm_arguments",) if getattr(self, name)]
        named_only = [name for name in ("vllm_key_env", "vllm_adapters") if getattr(self, name)]
        misplaced = started_only if self.vllm_urls else named_only if self.vllm_python else []
        if misplaced:
            raise ValueError(f"{misplaced[0]} is of no use with {ways[0]}")
        bad = [url for url in self.vllm_urls if not url.startswith(("http://", "https://"))]
        if bad:
            raise ValueError(f"vllm_urls: {bad[0]!r} does not begin with http:// or https://")
        return self
