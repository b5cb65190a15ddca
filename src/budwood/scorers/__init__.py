"""Scorers: what was expected and what came out → a score from 0 to 1.

Leaf room: pure functions over text. Nothing here executes text; hostile outputs (megabytes, deep JSON, lone surrogates, long
runs of combining marks) cost bounded time. `accuracy` has the scorers that a recipe names, `json_answers` reads answers as
JSON, `style`, `policy`, `schema` and `operation` find broken rules by name.

    scorer_named("json_fields").score('{"intent": "refund"}', output)     # 1.0, 0.0, or None where it does not apply
    broken_styles(output, recipe.evaluate.style)                          # ["single_line"]

Errors: `EvaluationError` for an unknown scorer or a schema that is none.
"""

from budwood.scorers.accuracy import SCORERS, Scorer, scorer_named
from budwood.scorers.operation import flags
from budwood.scorers.policy import Finder, broken_policies
from budwood.scorers.schema import Schema, SchemaCheck, compile_schema, read_schema
from budwood.scorers.style import broken_styles

__all__ = [
    "SCORERS",
    "Finder",
    "Schema",
    "SchemaCheck",
    "Scorer",
    "broken_policies",
    "broken_styles",
    "compile_schema",
    "flags",
    "read_schema",
    "scorer_named",
]
