"""Who sent a request, and what was asked, for those who route, count and sample it."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from budwood.serve.api.schema import ChatRequest, CompletionRequest, GenerationRequest
from budwood.serve.texts import Texts

KEY_HEADER = "x-budwood-key"


def key_of(request: Request, wanted: GenerationRequest) -> str:
    """What tells senders apart: the header `x-budwood-key`, else `user`, else `safety_identifier`, else the client's address.

    Of the same kind or not, equal keys are one sender. They decide only which side of a canary answers.
    """
    said = request.headers.get(KEY_HEADER) or wanted.user
    if not said and isinstance(wanted, ChatRequest):
        said = wanted.safety_identifier
    return said or (request.client.host if request.client else "")


def prompt_of(
    wanted: GenerationRequest, texts: Texts, *, spelled: bool
) -> tuple[Sequence[Mapping[str, Any]], Sequence[str], Sequence[Mapping[str, Any]]]:
    """Messages, plain prompts and tools of a request; token ids are text where that is needed (`spelled`), else ""."""
    if isinstance(wanted, ChatRequest):
        return [message.plain for message in wanted.messages], (), wanted.tools
    assert isinstance(wanted, CompletionRequest)
    return (), [one if isinstance(one, str) else texts.decode(one) if spelled else "" for one in wanted.prompts], ()
