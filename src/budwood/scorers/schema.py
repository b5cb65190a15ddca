"""JSON Schema for answers."""

import json
from collections.abc import Callable
from typing import Any

from budwood.errors import EvaluationError
from budwood.scorers.json_answers import parse

SchemaCheck = Callable[[str], bool]
"""Answer text → whether it is JSON and satisfies the schema."""


def compile_schema(text: str, *, where: str) -> SchemaCheck:
    """Make a check of a schema's text.

    Args:
        text: the schema. It stands alone: a reference outside it is refused and nothing is fetched.
        where: for the error, e.g. "[evaluate] answer_schema".

    Raises:
        EvaluationError: the schema is not JSON, no JSON Schema, or refers to another file or address.
    """
    import jsonschema_rs

    try:
        schema: dict[str, Any] = json.loads(text)
        validator = jsonschema_rs.validator_for(schema, retriever=_refuse)
    except (ValueError, RecursionError, jsonschema_rs.ReferencingError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise EvaluationError(f"This is no JSON Schema: {first}.", where=where, mend="Correct the schema file.") from None

    def check(output: str) -> bool:
        parsed = parse(output)
        try:
            return parsed is not None and bool(validator.is_valid(parsed.value))
        except UnicodeEncodeError:  # half a surrogate pair: no text, so no valid answer
            return False

    return check


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} lies outside the schema")
