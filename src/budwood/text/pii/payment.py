"""Payment cards and IBANs."""

import re
from collections.abc import Mapping

from budwood.text.pii.checks import luhn, mod97

# Nothing is taken out of the middle of a longer code: order, part and serial numbers join letters and digits by hyphens.
START = r"(?<![\w/])(?<!\w[-.])"
END = r"(?!-?\w)(?!\.\d)"

CARD = re.compile(START + r"\d(?:[ -]?\d){12,18}" + END)
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?\b|\b[a-z]{2}\d{2}[a-z0-9]{11,30}\b")

_CARD_LENGTHS: Mapping[str, tuple[int, ...]] = {
    "2": (16,),  # Mastercard's newer range
    "3": (14, 15, 16),  # Diners, American Express, JCB
    "4": (13, 16, 19),  # Visa
    "5": (16,),  # Mastercard
    "6": (16, 19),  # Discover, Maestro, UnionPay
}


def card_length(found: str) -> int:
    """Length of the card number at the start of a match; 0: none."""
    places = [place for place, sign in enumerate(found) if sign.isdigit()]
    # Longest first; a security code or a year may stand behind the number, parted from it by a space.
    for length in sorted(_CARD_LENGTHS.get(found[0], ()), reverse=True):
        if length > len(places):
            continue
        end = places[length - 1] + 1
        digits = "".join(found[place] for place in places[:length])
        if (end == len(found) or not found[end].isdigit()) and len(set(digits)) > 1 and luhn(digits):
            return end
    return 0


def iban_length(found: str) -> int:
    """Length of the IBAN at the start of a match; 0: none."""
    # Words may follow an IBAN ("DE89 3704 ... 00 TO my account"): the longest prefix that passes is the number.
    ends = [i for i in range(15, len(found) + 1) if i == len(found) or not found[i].isalnum() or found[i - 1] != " "]
    for end in reversed(ends):
        compact = found[:end].replace(" ", "").replace("-", "")
        digits = sum(sign.isdigit() for sign in compact)
        if 15 <= len(compact) <= 34 and digits >= 10 and found[end - 1] != " " and mod97(compact):
            return end
    return 0
