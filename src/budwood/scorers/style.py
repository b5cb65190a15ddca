"""Style rules: the form of an answer."""

import re
from typing import Protocol

_MARKDOWN = re.compile(r"```|^\s{0,3}#{1,6}\s|^\s*[-*+]\s|\*\*[^*\n]+\*\*", re.MULTILINE)
LONGEST = 100_000


class StyleOptions(Protocol):
    """What a recipe's [evaluate.style] has."""

    @property
    def max_characters(self) -> int: ...
    @property
    def single_line(self) -> bool: ...
    @property
    def no_markdown(self) -> bool: ...
    @property
    def must_start_with(self) -> str: ...
    @property
    def must_end_with(self) -> str: ...


def broken_styles(output: str, options: StyleOptions) -> list[str]:
    """Name the style rules that an answer breaks."""
    text = output.strip()
    checks = (
        ("max_characters", 0 < options.max_characters < len(text)),
        ("single_line", options.single_line and "\n" in text),
        ("no_markdown", options.no_markdown and bool(_MARKDOWN.search(text[:LONGEST]))),
        ("must_start_with", not text.startswith(options.must_start_with)),
        ("must_end_with", not text.endswith(options.must_end_with)),
    )
    return [name for name, broken in checks if broken]
