"""Our requests in vLLM's words, and vLLM's events as our tokens. Knows no network.

Every field of a request is either said to vLLM, settled here, or refused: a field that this table does not know is refused
as soon as somebody sets it.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from budwood.errors import ServeError
from budwood.serve.backend import ParameterError

if TYPE_CHECKING:
    from budwood.engine.generate import Request, Token

SAME = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
    "logprobs": "logprobs",
}
"""Fields that mean the same there, under vLLM's name."""
SETTLED = frozenset({"prompt", "adapter", "seed", "stop_ids", "json_schema", "logit_bias", "forced", "prefix_key"})
"""Fields that are written in another way, below; prompts' beginnings are kept apart by the salt."""
COLDEST = 0.01
"""vLLM takes any temperature between 0 and this for this."""
TOKEN = "token_id:"
LEAST = -9999.0
"""What vLLM writes for minus infinity."""


class Reply(NamedTuple):
    """One piece of a stream: its tokens, beside each its log-probability and the likeliest; and why it ended, if it did."""

    tokens: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    top: tuple[tuple[tuple[int, float], ...], ...]
    finish: str | None
    stop_id: int | None


def check_honoured(request: "Request", *, end: int | None) -> None:
    """Refuse what vLLM would do otherwise than was asked.

    Args:
        request: to be sent.
        end: the tokenizer's own end token, the only one by which vLLM lets a grammar end.

    Raises:
        ParameterError: which parameter, and why.
    """
    if 0 < request.temperature < COLDEST:
        raise ParameterError(
            f"temperature = {request.temperature:g} would be computed as {COLDEST:g} by vLLM.",
            param="temperature",
            mend=f"Send 0, or at least {COLDEST:g}.",
        )
    if request.json_schema is not None and end not in request.stop_ids:
        raise ParameterError(
            "vLLM ends JSON with the tokenizer's end token, which does not end answers of this release.",
            param="response_format",
            mend="Leave it out, or serve this release with the embedded engine.",
        )
    for field in dataclasses.fields(request):
        if field.name not in SAME and field.name not in SETTLED and getattr(request, field.name) != _default(field):
            raise ParameterError(f"{field.name} is not passed on to vLLM.", param=field.name, mend="Leave it out.")


def completion_body(request: "Request", *, model: str, salt: str) -> dict[str, Any]:
    """Write a streamed completion.

    Args:
        request: one prompt, one answer.
        model: the adapter's or the base's name at the server.
        salt: keeps prompts that this release has read apart from everybody else's.
    """
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(request.prompt),
        "cache_salt": salt,
        "stream": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        # Which tokens end an answer is the release's affair: vLLM's own idea of it is switched off.
        "ignore_eos": True,
        "stop_token_ids": list(request.stop_ids),
    }
    for name, theirs in SAME.items():
        if hasattr(request, name):
            body[theirs] = getattr(request, name)
    if request.temperature > 0:
        body["seed"] = signed_seed(request.seed)
    if request.json_schema is not None:
        body["structured_outputs"] = {"json": json.loads(request.json_schema)}
    bias: Mapping[int, float] = getattr(request, "logit_bias", {})
    if bias:
        body["logit_bias"] = {str(token): value for token, value in bias.items()}
    return body


def scoring_body(text: Sequence[int], token: int, *, model: str, salt: str) -> dict[str, Any]:
    """Ask for the log-probability of one token behind a text: it is the only one that may be made.

    Not by `prompt_logprobs`, which would score a whole answer at once: with adapters on a CPU, vLLM 0.32 takes each row of a
    prompt for a request of its own there, and its engine dies as soon as another request shares the step.
    """
    return {
        "model": model,
        "prompt": list(text),
        "cache_salt": salt,
        "stream": False,
        "max_tokens": 1,
        "temperature": 0.0,
        "allowed_token_ids": [token],
        "logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "ignore_eos": True,
    }


def signed_seed(seed: int) -> int:
    """Fold a seed of any size into vLLM's 64 bits with a sign; its -1 means "none" and is not given."""
    folded = seed & ((1 << 64) - 1)
    folded = folded - (1 << 64) if folded >= 1 << 63 else folded
    return folded if folded != -1 else -2


def read_score(reply: Mapping[str, Any], token: int) -> float:
    """Log-probability of the one token that was allowed.

    Raises:
        ServeError: the reply is of another form, or about another token.
    """
    try:
        choice = reply["choices"][0]
        if list(choice["token_ids"]) != [token]:
            raise ValueError(f"token {choice['token_ids']} where {token} was the only one allowed")
        return float(choice["logprobs"]["token_logprobs"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise unreadable(error) from None


def read_event(line: str) -> Reply | None:
    """Read one line of a stream of events; None where it says nothing of tokens (comments, usage, the end).

    Raises:
        ServeError: the server reports an error, or the line is of another form.
    """
    if not line.startswith("data:"):
        return None
    data = line[5:].strip()
    if data == "[DONE]":
        return None
    try:
        event = json.loads(data)
        if "error" in event:
            raise ServeError(f"vLLM stopped in the middle of an answer: {str(event['error'].get('message'))[:200]}.")
        if not event["choices"]:
            return None
        return _reply(event["choices"][0])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(error) from None


def tokens_of(reply: Reply, request: "Request", made: int) -> Iterator["Token"]:
    """Our events for one piece of a stream.

    Args:
        reply: from `read_event`.
        request: whose answer it is.
        made: how many tokens it had before.

    Raises:
        ServeError: it ended for a reason that is none of ours.
    """
    from budwood.engine.generate import Token

    tokens, logprobs, top = reply.tokens, reply.logprobs, reply.top
    finish = _finish(reply, request, made + len(tokens))
    if finish == "stop" and reply.stop_id is not None and (not tokens or tokens[-1] != reply.stop_id):
        # It ended by a token that it keeps to itself.
        tokens, logprobs, top = (*tokens, reply.stop_id), (*logprobs, None), (*top, ())
    for place, token in enumerate(tokens):
        value = logprobs[place]
        if value is not None and not math.isfinite(value):
            yield Token(0, -1, None, (), "failed")
            return
        last = place == len(tokens) - 1
        yield Token(0, token, value, top[place][: request.logprobs or 0], finish if last else None)


def unreadable(error: Exception) -> ServeError:
    return ServeError(
        f"The vLLM server's answer cannot be read: {type(error).__name__}: {error}.",
        mend="Budwood is tested with vLLM 0.32: use that, or a newer Budwood.",
    )


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _finish(reply: Reply, request: "Request", made: int) -> Any:
    if reply.finish in (None, "stop", "length"):
        if reply.finish == "stop" and reply.stop_id is None and (not reply.tokens or reply.tokens[-1] not in request.stop_ids):
            raise ServeError("vLLM ended an answer without one of its end tokens.", mend="Look at the vLLM server's log.")
        if reply.finish == "length" and made < request.max_new_tokens:
            raise ServeError(
                f"vLLM ended an answer after {made:,} of {request.max_new_tokens:,} tokens.",
                mend="Look at the vLLM server's log and at its --max-model-len.",
            )
        return reply.finish
    raise ServeError(f"vLLM ended an answer with {reply.finish[:40]!r}.", mend="Look at the vLLM server's log.")


def _reply(choice: Mapping[str, Any]) -> Reply:
    tokens = tuple(int(token) for token in choice.get("token_ids") or ())
    said = choice.get("logprobs")
    if said is None:
        logprobs: tuple[float | None, ...] = (None,) * len(tokens)
        top: tuple[tuple[tuple[int, float], ...], ...] = ((),) * len(tokens)
    else:
        logprobs = tuple(math.nan if value is None else float(value) for value in said["token_logprobs"])
        top = tuple(_top(row) for row in said["top_logprobs"])
    if not len(tokens) == len(logprobs) == len(top):
        raise ValueError(f"{len(tokens)} tokens with {len(logprobs)} log-probabilities")
    stop = choice.get("stop_reason")
    return Reply(tokens, logprobs, top, choice.get("finish_reason"), stop if isinstance(stop, int) else None)


def _top(row: Mapping[str, Any] | None) -> tuple[tuple[int, float], ...]:
    """Likeliest first. The chosen token is always among them there, one more than was asked for if it is not likely."""
    pairs = [(int(name.removeprefix(TOKEN)), float(value)) for name, value in (row or {}).items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1]))
