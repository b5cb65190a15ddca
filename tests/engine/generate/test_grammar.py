"""Schemas from strangers: what the compiler would not survive, or we would not enforce, is refused in words."""

import json
from typing import Any

import pytest

from budwood.engine.generate import check_schema
from budwood.engine.generate.request import GenerationError

OWN = "does not name one of its own definitions"
PATTERN: dict[str, Any] = {"type": "string", "pattern": "(a+)+$"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"default": PATTERN, "$ref": "#/default"}, OWN),
        ({"examples": [PATTERN], "$ref": "#/examples/0"}, OWN),
        ({"properties": {"a": PATTERN}}, 'uses "pattern"'),
        ({"properties": {"a": {"type": "string"}}, "items": {"$ref": "#/properties/a"}}, OWN),
        ({"$defs": {"a": {"default": PATTERN}}, "$ref": "#/$defs/a/default"}, OWN),
        ({"$defs": {"a": {"type": "string"}}, "$ref": "#/%24defs/a"}, OWN),
        ({"$defs": {"a~b": {}}, "$ref": "#/$defs/a~0b"}, OWN),
        ({"$ref": "#"}, OWN),
        ({"$defs": {"a": True}, "$ref": "#/$defs/a"}, "has no '#/$defs/a'"),
        ({"properties": {"x": {"$defs": {"a": {}}}}, "$ref": "#/$defs/a"}, "has no '#/$defs/a'"),
        ({"$ref": []}, 'The schema\'s "$ref" is not a text.'),
        ({"format": []}, 'The schema\'s "format" is not a text.'),
        ({"format": "regex"}, "The schema's format 'regex' is not enforced here."),
        ({"$defs": [PATTERN]}, 'The schema\'s "$defs" is not an object of schemas.'),
        ({"$defs": {"a": 1}}, 'The schema\'s "$defs" is not an object of schemas.'),
        ({"properties": 5}, 'The schema\'s "properties" is not an object of schemas.'),
        ({"items": [{}]}, 'The schema\'s "items" is not a schema.'),
        ({"anyOf": {}}, 'The schema\'s "anyOf" is not a list of schemas.'),
        ({"required": "a"}, 'The schema\'s "required" is not a list of texts.'),
        ({"type": {}}, 'The schema\'s "type" is not a text or a list of texts.'),
        ({"enum": "ab"}, 'The schema\'s "enum" is not a list.'),
        ({"minimum": "1"}, 'The schema\'s "minimum" is not a number.'),
        ({"minLength": 1001}, 'The schema\'s "minLength" is not a whole number from 0 to 1,000.'),
    ],
)
def test_what_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(GenerationError) as caught:
        check_schema(json.dumps(schema))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ['{"minimum": 1e999}', '{"minimum": NaN}', '{"minimum": ' + "9" * 5000 + "}"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(GenerationError, match=r"\"minimum\" is not a number|is not JSON"):
        check_schema(text)


def test_definitions_may_be_referred_to() -> None:
    schema = {
        "$defs": {"a": {"type": "object", "properties": {"$ref": {"$ref": "#/definitions/b"}}}},
        "definitions": {"b": {"type": ["string", "null"], "format": "date"}},
        "anyOf": [{"$ref": "#/$defs/a"}, {"type": "array", "items": {"$ref": "#/definitions/b"}, "maxItems": 3}],
    }
    check_schema(json.dumps(schema))
