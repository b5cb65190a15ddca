"""Style rules: the form of an answer."""

import re
from typing import Protocol

# Each alternative looks at one line and a bounded indent: an answer of blank lines must not take quadratic time.
_MARKDOWN = re.compile(r"```|^[ \t]{0,8}(?:#{1,6}[ \t]|[-*+][ \t])|\*\*[^*\n]{1,500}\*\*", re.MULTILINE)
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
    """Name the style rules that an answer breaks; white space at its ends does not count.

    `no_markdown`: a code fence, heading, bullet or bold span within the first 100,000 characters.
    """
    text = output.strip()
    checks = (
        ("max_characters", 0 < options.max_characters < len(text)),
        ("single_line", options.single_line and len(text.splitlines()) > 1),
        ("no_markdown", options.no_markdown and bool(_MARKDOWN.search(text[:LONGEST]))),
        ("must_start_with", not text.startswith(options.must_start_with)),
        ("must_end_with", not text.endswith(options.must_end_with)),
    )
    return [name for name, broken in checks if broken]
