"""A text as it would be said aloud: one form in which phrases are looked for.

Case folded, compatibility characters folded, typographic quotes straight, Markdown's emphasis off, white space single. For
reading only: positions in it are not positions in the text.
"""

import re

from budwood.text.normalise import normalise

_QUOTES = str.maketrans("’‘ʼ´`“”„«»–—−", "'''''\"\"\"\"\"---")
_EMPHASIS = re.compile(r"\*{1,3}|~~|(?<![^\W_])_{1,3}(?=\w)|(?<=\w)_{1,3}(?![^\W_])|`+")


def plain(text: str) -> str:
    if not text.isascii():
        text = text.translate(_QUOTES)
    if "*" in text or "_" in text or "`" in text or "~~" in text:
        text = _EMPHASIS.sub("", text)
    return normalise(text)
