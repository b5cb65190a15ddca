"""What may be asked of the two generating endpoints.

A field that we know is checked; one that we know but do not support may only be left at a value that asks for nothing; any
other is refused. Nothing is ignored. `user`, `metadata` and `safety_identifier` are notes for the sender's own records: they
are taken and have, by their meaning, no influence on an answer.

Tools, calls and results are put into the prompt as the release's template writes them. An answer is text, calls included: how
a model spells a call is its template's affair, and nothing here reads it. So `tool_choice` is "auto" or "none", which leaves
the tools out of the prompt; what would have to be enforced is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from budwood.serve.api.faults import bad_request
from budwood.serve.api.wire import Wire, check_characters, validated
from budwood.tool_calls import ToolFault, read_calls, read_tools

MAX_CHOICES = 16
MAX_PROMPTS = 64
MAX_MESSAGES = 512
MAX_TOOLS = 128
MAX_CALLS = 128
MAX_TOP_LOGPROBS = 20
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256
MAX_BIASES = 1024
MAX_NOTES = 16
MAX_FIELDS = 128
MAX_VALUES = 20_000
"""Of all tools, or of a message's calls, with what lies in them: templates write each out, and all of it is looked for."""
_MOST: Mapping[str, int] = {"messages": MAX_MESSAGES, "tools": MAX_TOOLS, "logit_bias": MAX_BIASES, "metadata": MAX_NOTES}

_CHAT_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "parallel_tool_calls": (None, True),
    "prediction": (None,),
    "prompt_cache_key": (None,),
    "prompt_cache_options": (None,),
    "prompt_cache_retention": (None,),
    "reasoning_effort": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "verbosity": (None,),
    "web_search_options": (None,),
}
_COMPLETION_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "suffix": (None, ""),
}
_MESSAGE_NEUTRAL = ("annotations", "audio", "function_call", "refusal")

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Stops = Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Biases = Annotated[
    dict[Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=MAX_BIASES),
]
Notes = Annotated[dict[str, str], Field(max_length=MAX_NOTES)]


class TextPart(Wire):
    type: Literal["text"]
    text: str


class Message(Wire):
    """One turn. `developer` is the newer word for `system`. `name` of a result is an addition to OpenAI's fields."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=MAX_CALLS)] | None = None
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @property
    def plain(self) -> dict[str, Any]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        said = {"tool_calls": self.tool_calls, "tool_call_id": self.tool_call_id, "name": self.name}
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text, **{key: value for key, value in said.items() if value is not None}}


class StreamOptions(Wire):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class JsonSchema(Wire):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class GenerationRequest(Wire):
    """What both endpoints share. `top_k`, `min_p` and `repetition_penalty` are additions to OpenAI's fields."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    logit_bias: Biases | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @property
    def biases(self) -> dict[int, float]:
        """By token id."""
        return {int(token): bias for token, bias in (self.logit_bias or {}).items()}

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(GenerationRequest):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    metadata: Notes | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    tools: list[dict[str, Any]]

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        """Field name and value of the asked length."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return None if self.max_tokens is None else ("max_tokens", self.max_tokens)

    @property
    def schema_text(self) -> str | None:
        """The JSON Schema that the answer must satisfy."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object" or wanted.json_schema is None:
            return '{"type": "object", "additionalProperties": true}'
        return json.dumps(wanted.json_schema.schema_)


# Fails at the first token that is none: a fault for each of a million would be work that a stranger can order.
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


class CompletionRequest(GenerationRequest):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        return None if self.max_tokens is None else ("max_tokens", self.max_tokens)

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


def read_chat(values: Mapping[str, Any]) -> ChatRequest:
    """Check a chat request.

    Raises:
        ApiError: 400 with `param`, for the first fault.
    """
    _check_counts(values)
    known = _without_neutral(values, _CHAT_NEUTRAL)
    if isinstance(known.get("messages"), list):
        known["messages"] = [_plain_message(message, place) for place, message in enumerate(known["messages"])]
    known["tools"] = _tools(known)
    known.pop("tool_choice", None)
    request = validated(ChatRequest, known)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs = true.", "top_logprobs")
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise bad_request("max_tokens and max_completion_tokens are the same thing: send one.", "max_tokens")
    wanted = request.response_format
    if wanted is not None and (wanted.type == "json_schema") != (wanted.json_schema is not None):
        raise bad_request('json_schema belongs to type "json_schema", and to it alone.', "response_format.json_schema")
    _check_stream(request)
    return request


def read_completion(values: Mapping[str, Any]) -> CompletionRequest:
    """Check a completion request.

    Raises:
        ApiError: 400 with `param`, for the first fault.
    """
    _check_counts(values)
    request = validated(CompletionRequest, _without_neutral(values, _COMPLETION_NEUTRAL))
    if values.get("best_of") is not None and (request.n or 1) > 1:
        raise bad_request(f"best_of = 1 chooses one of fewer answers than n = {request.n}.", "best_of", mend="Leave it out.")
    if any(not prompt for prompt in request.prompts):
        raise bad_request("The prompt is empty.", "prompt")
    if request.echo and request.logprobs is not None:
        raise bad_request(
            "logprobs of an echoed prompt are not given here.", "logprobs", code="unsupported_parameter", mend="Leave one out."
        )
    _check_stream(request)
    return request


def _check_counts(values: Mapping[str, Any]) -> None:
    """Refuse what is far too many before each of them is looked at."""
    if len(values) > MAX_FIELDS:
        raise bad_request(f"The request has {len(values):,} fields, more than there are.", code="unknown_parameter")
    for key, most in _MOST.items():
        given = values.get(key)
        if isinstance(given, list | dict) and len(given) > most:
            raise bad_request(f"{key}: there are {len(given):,}; {most:,} are allowed.", key)


def _check_stream(request: GenerationRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise bad_request("stream_options needs stream = true.", "stream_options")


def _without_neutral(values: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    for key, allowed in neutral.items():
        if key in values and not any(_same(values[key], value) for value in allowed):
            raise bad_request(f"{key} is not supported here.", key, code="unsupported_parameter", mend="Leave it out.")
    return {key: value for key, value in values.items() if key not in neutral}


def _same(value: Any, wanted: Any) -> bool:
    """Equal and of one type: true is no 1 here."""
    return type(value) in ((int, float) if type(wanted) is int else (type(wanted),)) and bool(value == wanted)


def _plain_message(message: Any, place: int) -> Any:
    """Take out what clients send back empty from an earlier answer, and read its calls; refuse what is not supported."""
    if not isinstance(message, dict):
        return message
    where = f"messages[{place}]"
    for key in _MESSAGE_NEUTRAL:
        if message.get(key):
            raise bad_request(f"{key} in a message is not supported here.", f"{where}.{key}", code="unsupported_parameter")
    plain = {key: value for key, value in message.items() if key not in (*_MESSAGE_NEUTRAL, "tool_calls")}
    allowed = {"assistant": ("tool_calls",), "tool": ("tool_call_id", "name")}.get(str(message.get("role")), ())
    for key in ("tool_calls", "tool_call_id", "name"):
        if message.get(key) and key not in allowed:
            param = f"{where}.{key}"
            raise bad_request(
                f"Unknown parameter {param!r} of this role.", param, code="unknown_parameter", mend="Leave it out."
            )
    if message.get("role") == "tool" and message.get("tool_call_id") is None:
        param = f"{where}.tool_call_id"
        raise bad_request(f"{param} is missing.", param, code="missing_required_parameter")
    if not message.get("tool_calls"):
        return plain
    calls = _read(read_calls, message["tool_calls"], f"{where}.tool_calls")
    # An answer that calls needs no words; OpenAI's has null then.
    return {**plain, "content": "" if plain.get("content") is None else plain["content"], "tool_calls": calls}


def _check_values(value: object, param: str) -> None:
    waiting, seen = [value], 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            seen += len(one)
            if seen > MAX_VALUES:
                raise bad_request(f"{param}: there are more than {MAX_VALUES:,} values in it.", param)
            waiting.extend(one.values() if isinstance(one, dict) else one)


def _tools(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that the prompt has to list."""
    choice = values.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise bad_request(
            'tool_choice is "auto" or "none" here: that a tool is called cannot be enforced.',
            "tool_choice",
            code="unsupported_parameter",
            mend="Leave it out.",
        )
    tools = _read(read_tools, [] if values.get("tools") is None else values["tools"], "tools")
    return [] if choice == "none" else tools


def _read(read: Callable[[object], Sequence[dict[str, Any]]], value: object, param: str) -> list[dict[str, Any]]:
    _check_values(value, param)
    try:
        found = list(read(value))
    except ToolFault as error:
        raise bad_request(f"{param}{error.path} {error.reason}.", f"{param}{error.path}") from None
    # Arguments are JSON in a string, with escapes and values of their own.
    check_characters(found, param)
    _check_values(found, param)
    return found
