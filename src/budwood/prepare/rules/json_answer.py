"""json_answer: where the recipe names a JSON Schema, every answer is JSON and satisfies it.

The reason of a drop names the place and the keyword that failed, never the value. Without a schema the rule does nothing. A
tool call has a schema of its own, and is not looked at.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from budwood.errors import RecipeError
from budwood.identity import digest_json
from budwood.prepare.row import Drop, Row
from budwood.prepare.rules.rule import Pair
from budwood.scorers.schema import read_schema

Faults = Callable[[Any], str]
"""JSON value → the first fault found, or empty."""


@dataclass(frozen=True)
class JsonAnswer:
    name: ClassVar[str] = "json_answer"
    version: ClassVar[int] = 1
    schema: dict[str, Any] | bool | None = None
    faults: Faults | None = field(default=None, compare=False)

    def options(self) -> dict[str, Any]:
        return {"schema": None if self.schema is None else digest_json(self.schema)}

    def leaves(self, pair: Pair) -> bool:
        return self.faults is None

    def apply(self, row: Row) -> Row | Drop:
        if self.faults is None or row.messages[-1].calls:
            return row
        try:
            value = json.loads(row.answer, object_pairs_hook=_unique, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            return Drop(f"the answer is no JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError):
            return Drop("the answer is no JSON: a key twice, NaN or infinity, or nested too deeply")
        fault = self.faults(value)
        return Drop(f"the answer breaks its schema: {fault}") if fault else row


def with_schema(path: Path, *, shown: str) -> JsonAnswer:
    """Make the rule from a schema file.

    Raises:
        RecipeError: the file is missing, or holds no JSON Schema that stands alone.
    """
    where = "[prepare] answer_schema"
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"The schema {shown!r} is not UTF-8.", where=where, mend="Save the file as UTF-8.") from None
    except (OSError, ValueError):
        raise RecipeError(f"There is no readable schema {shown!r}.", where=where, mend="Check the path.") from None
    schema = read_schema(text, where=where, shown=repr(shown), kind=RecipeError)
    return JsonAnswer(schema=schema.content, faults=schema.fault)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
