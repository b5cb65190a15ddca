"""Phrase files → patterns.

A file has two tables. Under [words] stand lists of alternatives, under [phrases] the patterns made of them; `<name>` in either
stands for the list of that name. Besides regular expressions there are `<b>`, a word boundary, and `<w>`, any word.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from budwood.text.linear import LinearPattern

_NAME = re.compile(r"<([a-z_]+)>")
_GIVEN = {"b": r"(?-u:\b)", "w": r"[^ .!?,;:\"()]+"}


@cache
def phrases(file: str) -> Mapping[str, LinearPattern]:
    """Give the patterns of a file beside this module, by name; they are read once a process."""
    content = tomllib.loads((files(__package__) / f"{file}.toml").read_text(encoding="utf-8"))
    words: dict[str, str] = dict(_GIVEN)
    for name, listed in content["words"].items():
        words[name] = _joined(listed, words)
    return {name: LinearPattern(_joined(listed, words)) for name, listed in content["phrases"].items()}


def _joined(listed: Sequence[str], words: Mapping[str, str]) -> str:
    """One group of alternatives; a list may use those above it."""
    return "(?:" + "|".join(_NAME.sub(lambda found: words[found[1]], line) for line in listed) + ")"
