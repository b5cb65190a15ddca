"""One normalised form, so that "the same text" means one thing everywhere.

Two texts are called the same when their normalised forms are equal: compatibility characters folded (NFKC), case folded,
runs of white space made one space. Punctuation and digits stay: "5.00" and "500" are not the same amount.
"""

import unicodedata


def normalise(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
