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

    Raises:
        EvaluationError: the schema is not JSON, or no JSON Schema.
    """
    import jsonschema_rs

    try:
        schema: dict[str, Any] = json.loads(text)
        validator = jsonschema_rs.validator_for(schema)
    except ValueError as error:
        raise EvaluationError(f"This is no JSON Schema: {error}.", where=where, mend="Correct the schema file.") from None

    def check(output: str) -> bool:
        parsed = parse(output)
        return parsed is not None and bool(validator.is_valid(parsed.value))

    return check
