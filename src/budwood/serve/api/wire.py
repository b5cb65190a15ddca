"""JSON objects as requests bring them: exact types, no unknown key, and a fault that names its field as OpenAI does."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from budwood.serve.api.faults import ApiError, bad_request


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Kind = TypeVar("Kind", bound=Wire)


def validated(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Check a JSON object.

    Raises:
        ApiError: 400 with `param`, for the first fault.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _fault(error.errors(include_url=False)) from None


def check_characters(value: Any, param: str | None = None) -> None:
    """Refuse half of a surrogate pair, in any text or key of a JSON value: no tokenizer reads it and no reply can repeat it.

    Raises:
        ApiError: 400.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise bad_request("There is half of a surrogate pair, which is no character.", param, code="invalid_text") from None


def _fault(details: list[ErrorDetails]) -> ApiError:
    # Alternatives of a union each report: the one that got furthest into the value is about what was really sent.
    detail = max(details, key=lambda item: len(_path(item)))
    param = _dotted(_path(detail))
    if detail["type"] == "extra_forbidden":
        if param == "" or not str(detail["loc"][-1]).isidentifier():
            # A name of the sender's, which need not look like one of ours.
            param = _dotted([*_path(detail), str(detail["loc"][-1])])
        return bad_request(f"Unknown parameter {param!r}.", param, code="unknown_parameter", mend="Leave it out.")
    if detail["type"] == "missing":
        return bad_request(f"{param} is missing.", param, code="missing_required_parameter")
    return bad_request(f"{param}: {detail['msg']}.", param)


def _path(detail: ErrorDetails) -> list[str | int]:
    """Where the fault lies, without pydantic's names for the alternatives of a union."""
    return [part for part in detail["loc"] if isinstance(part, int) or (part.isidentifier() and part not in ("str", "int"))]


def _dotted(path: list[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
