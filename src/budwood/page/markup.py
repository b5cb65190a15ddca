"""Text and numbers as HTML. Whatever a person or a model wrote is shown, never obeyed."""

import difflib
import html
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 2_000
"""Characters of one text that a page shows unless told otherwise; the object keeps the rest."""
LONGEST_DIFF = 400
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_HIDDEN = {0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Marks that turn the direction of the text around them, or cannot be seen."""


def text(value: object) -> str:
    """Escape a text for an element or a quoted attribute; control and direction marks become visible."""
    return html.escape("".join(map(_visible, str(value))), quote=True)


def clipped(value: str, longest: int = LONGEST) -> str:
    """Escape the beginning of a text, with a word on what is left out."""
    more = len(value) - longest
    rest = f'<span class="more">… {more:,} more characters</span>' if more > 0 else ""
    return f"{text(value[:longest])}{rest}" or '<span class="more">(empty)</span>'


def marked(value: str, other: str, kind: str) -> str:
    """Escape a text and mark the words in it that `other` does not have at that place.

    Args:
        value: shown.
        other: compared with.
        kind: CSS class of the marks.
    """
    words, others = _WORDS.findall(value[: LONGEST + 1]), _WORDS.findall(other[: LONGEST + 1])
    if value == other or len(value) > LONGEST or max(len(words), len(others)) > LONGEST_DIFF:
        return clipped(value)
    pieces = []
    for operation, start, end, _, _ in difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        piece = text("".join(words[start:end]))
        pieces.append(piece if operation == "equal" or not piece else f'<mark class="{kind}">{piece}</mark>')
    return "".join(pieces) or '<span class="more">(empty)</span>'


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """Three places with a sign; a true minus, so that columns line up."""
    rounded = f"{value:+.3f}"
    return "0.000" if float(rounded) == 0 else rounded.replace("-", "\u2212")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers_from: int = 1) -> str:
    """Make a table of finished cells; columns from `numbers_from` on are set as numbers."""
    titles = "".join(f'<th scope="col"{_number(place, numbers_from)}>{cell}</th>' for place, cell in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{_number(place, numbers_from)}>{cell}</td>" for place, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _number(place: int, numbers_from: int) -> str:
    return ' class="n"' if place >= numbers_from else ""


def _visible(sign: str) -> str:
    code = ord(sign)
    if sign in "\n\t" or (sign.isprintable() and code not in _HIDDEN):
        return sign
    if code < 0x20:
        return chr(0x2400 + code)
    if code in _HIDDEN or unicodedata.category(sign) in ("Cc", "Cs", "Cn"):
        return f"⟨U+{code:04X}⟩"
    return sign
