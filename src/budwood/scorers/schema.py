"""JSON Schema for answers: the one place where a schema is compiled.

    schema = read_schema(text, where="[evaluate] answer_schema")
    schema.accepts('{"intent": "refund"}')      # True or False
    schema.fault({"intent": 3})                 # '"type" at intent', or ""

A schema stands alone: nothing that it refers to is ever fetched or read.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from budwood.errors import BudwoodError, EvaluationError
from budwood.scorers.json_answers import parse

SchemaCheck = Callable[[str], bool]
"""Answer text → whether it is JSON and satisfies the schema."""


@dataclass(frozen=True)
class Schema:
    """A compiled schema."""

    content: dict[str, Any] | bool
    validator: Any = field(compare=False, repr=False)

    def accepts(self, output: str) -> bool:
        """Whether a text is JSON and satisfies the schema."""
        parsed = parse(output)
        return parsed is not None and not self.fault(parsed.value)

    def fault(self, value: Any) -> str:
        """Name place and keyword of the first fault of a JSON value, never what stands there; "" when there is none."""
        try:
            for error in self.validator.iter_errors(value):
                place = "/".join(map(str, error.instance_path))
                keyword = next((str(part) for part in reversed(error.schema_path) if isinstance(part, str)), "schema")
                return f'"{keyword}" at {place or "the top"}'
        except UnicodeEncodeError:
            return "half a character (a lone surrogate)"
        except ValueError:
            return "nested too deeply to be checked"
        return ""


def compile_schema(text: str, *, where: str) -> SchemaCheck:
    """Make a check of a schema's text; see `read_schema`."""
    return read_schema(text, where=where).accepts


def read_schema(text: str, *, where: str, shown: str = "This", kind: type[BudwoodError] = EvaluationError) -> Schema:
    """Compile a schema's text.

    Args:
        text: the schema. It stands alone: a reference outside it is refused and nothing is fetched.
        where: for the error, e.g. "[evaluate] answer_schema".
        shown: what it is called in the error.
        kind: of the error.

    Raises:
        BudwoodError: of that kind: it is not JSON, no JSON Schema, or refers to another file or address.
    """
    import jsonschema_rs

    try:
        content = json.loads(text)
        if not isinstance(content, dict | bool):
            raise ValueError("it is neither an object nor true or false")
        return Schema(content, jsonschema_rs.validator_for(content, retriever=_refuse))
    except (ValueError, RecursionError, jsonschema_rs.ReferencingError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(f"{shown} is no JSON Schema: {first}.", where=where, mend="Correct the schema file.") from None


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} lies outside the schema")
