"""What releases and aliases may be called.

The store has the same rule and the last word; here a recipe that breaks it is refused before anything is computed.
tests/recipe/test_names.py holds the two to each other.
"""

import re

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_RESERVED = frozenset({"latest", "base", "none", "all", "default"})
_DIGITS = frozenset("0123456789abcdef")
SHORTEST_PREFIX = 6
"""Digits from which on a word of hexadecimal digits reads as the beginning of a digest."""


def check_name(name: str) -> str:
    """Accept the name of releases; ValueError otherwise."""
    if not _NAME.fullmatch(name):
        raise ValueError("use 1 to 64 lower-case letters, digits, '.', '_' or '-', with a letter or digit at both ends")
    if name in _RESERVED:
        raise ValueError(f"{name!r} is reserved")
    return name


def check_alias(alias: str) -> str:
    """Accept an alias, which must not read as a version number or a digest either; ValueError otherwise."""
    check_name(alias)
    if set(alias) <= _DIGITS and (alias.isdigit() or len(alias) >= SHORTEST_PREFIX):
        raise ValueError("it reads as a version number or a digest; choose a word, e.g. production or staging")
    return alias
