"""One normalised form, so that "the same text" means one thing everywhere.

Two texts are called the same when their normalised forms are equal: compatibility characters folded (NFKC), case folded,
runs of white space made one space. Punctuation and digits stay: "5.00" and "500" are not the same amount.
"""

import unicodedata

_BREAKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
"""White space of ASCII besides the space."""


def normalise(text: str) -> str:
    if not text.isascii():
        return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    folded = text.lower()
    # Most texts hold single spaces and no other white space: to see that costs a tenth of cutting them up.
    if "  " in folded or folded[:1] == " " or folded[-1:] == " " or any(map(folded.__contains__, _BREAKS)):
        return " ".join(folded.split())
    return folded
