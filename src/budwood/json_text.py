"""JSON as strangers write it, decoded strictly: nothing of two meanings is taken.

decode('{"a": 1}')         # {'a': 1}
decode('{"a": 1, "a": 2}') # ValueError: the key 'a' occurs twice
"""

import json
from typing import Any


def decode(text: str) -> Any:
    """Read a text as one JSON value.

    Raises:
        ValueError: its words say what is wrong and where: no JSON, a key twice, NaN or infinity, nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at column {error.colno}" + (f" of line {error.lineno}" if error.lineno > 1 else "")
        raise ValueError(place) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def kind(value: object) -> str:
    """Name the kind of a JSON value, with its article."""
    names = {list: "a list", dict: "an object", str: "a string", bool: "a truth value", type(None): "a null"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        # Which of two values was meant cannot be known; json would take the last in silence.
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return values


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
