"""[serve]: the OpenAI-compatible endpoint."""

from typing import Literal

from pydantic import Field

from budwood.recipe.section import Names, Section


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
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="compute dtype of the base")
    poll_s: float = Field(default=0.1, gt=0, description="seconds between looks at the aliases")
    max_streams: int = Field(default=256, ge=1, description="answers streamed at once; more are answered 429")
    requests_per_minute: int = Field(default=0, ge=0, description="of one token, or of all without one; 0: no limit")
    tokens_per_minute: int = Field(default=0, ge=0, description="prompts and answers of one token; 0: no limit")
    deadline_s: float = Field(default=600.0, gt=0, description="longest time that an answer may take; then it is cut: 504")
    write_timeout_s: float = Field(default=30.0, gt=0, description="how long a client may read nothing; then it is cut off")
    log_requests: bool = Field(default=False, description="one JSON line a request on stderr; never a prompt or an answer")
